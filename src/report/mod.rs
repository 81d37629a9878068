//! An evaluation as one HTML page that needs nothing else: style and pictures are inside, and it may load nothing.

mod picture;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::data::{Manifest, Source, View};
use crate::error::Result;
use crate::train::assess::{Assessment, Judged};
use crate::train::metrics::EvalRecord;

/// Largest number of classes whose confusion matrix is printed in full.
const MATRIX_CLASSES: usize = 25;
/// Most frequent confusions in the list.
const LISTED: usize = 12;

/// What the page tells.
pub struct Page<'a> {
    /// Network and method.
    pub title: String,
    /// Lines about the origin of the weights: (name, value).
    pub facts: Vec<(&'static str, String)>,
    /// The data set.
    pub manifest: &'a Manifest,
    /// Its test images.
    pub test: &'a dyn Source,
    /// The figures.
    pub record: &'a EvalRecord,
    /// The evaluation image by image.
    pub assessment: &'a Assessment,
}

impl Page<'_> {
    /// The page's text.
    ///
    /// # Errors
    /// [`crate::Error::Io`] for a picture that cannot be encoded.
    pub fn render(&self) -> Result<String> {
        let pictures = self.assessment.worst().iter().map(|j| self.mistake(j)).collect::<Result<Vec<_>>>()?;
        let title = format!("{} on {}", self.title, self.manifest.name);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    // The browser itself holds the page to what it promises.
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'";
                    title { (title) " · s3gpu" }
                    style { (PreEscaped(include_str!("style.css"))) }
                }
                body {
                    main {
                        header {
                            h1 { (title) }
                            dl.facts { @for (name, value) in &self.facts { div { dt { (name) } dd { (value) } } } }
                        }
                        (self.figures())
                        (self.classes())
                        @if self.assessment.names().len() <= MATRIX_CLASSES { (self.matrix()) }
                        (self.confusions())
                        section aria-labelledby="worst" {
                            h2 #worst { "Worst mistakes" }
                            @if pictures.is_empty() {
                                p { "None: every image was recognized." }
                            } @else {
                                p.note {
                                    "The wrong answers of highest loss, worst first, with the probability that the network gave to its answer."
                                }
                                ul.pictures { @for picture in &pictures { (picture) } }
                            }
                        }
                    }
                    footer { "s3gpu " (env!("CARGO_PKG_VERSION")) }
                }
            }
        };
        Ok(page.into_string())
    }

    fn figures(&self) -> Markup {
        let r = self.record;
        let tiles = [
            (format!("{:.2} %", r.top1), "top-1"),
            (format!("{:.2} %", r.top5), "top-5"),
            (format!("{:.4}", r.loss), "mean loss"),
            (format!("{} of {}", grouped(r.correct), grouped(r.count)), "images right"),
        ];
        html! {
            section aria-label="Figures" {
                dl.tiles { @for (value, name) in &tiles { div { dt { (name) } dd { (value) } } } }
            }
        }
    }

    fn classes(&self) -> Markup {
        let confusions = self.assessment.confusions();
        let names = self.assessment.names();
        let taken_for = |k: usize| {
            let most = confusions.iter().find(|c| c.label == k)?;
            Some((names[most.predicted].clone(), most.count))
        };
        html! {
            section aria-labelledby="classes" {
                h2 #classes { "Classes" }
                div.scroll tabindex="0" role="region" aria-labelledby="classes" {
                    table.classes {
                        thead { tr {
                            th scope="col" { "class" }
                            th.number scope="col" { "right" }
                            th.number scope="col" { "images" }
                            th.number scope="col" { "accuracy" }
                            td {}
                            th scope="col" { "most often taken for" }
                        } }
                        tbody { @for (k, class) in self.assessment.classes().iter().enumerate() { tr {
                            th scope="row" { (class.name) }
                            td.number { (grouped(class.correct)) }
                            td.number { (grouped(class.count)) }
                            @match class.top1 {
                                Some(top1) => {
                                    td.number { (format!("{top1:.1} %")) }
                                    td.bar aria-hidden="true" { span style=(format!("--share:{top1:.1}%")) {} }
                                }
                                None => { td.number { "–" } td {} }
                            }
                            td { @if let Some((name, n)) = taken_for(k) { (name) " " span.faint { "(" (grouped(n)) ")" } } }
                        } } }
                    }
                }
            }
        }
    }

    fn matrix(&self) -> Markup {
        let a = self.assessment;
        let names = a.names();
        html! {
            section aria-labelledby="matrix" {
                h2 #matrix { "Confusion matrix" }
                p.note { "A row for each class: of its images, how many percent were taken for the class of the column." }
                div.scroll tabindex="0" role="region" aria-labelledby="matrix" {
                    table.matrix {
                        thead { tr {
                            td {}
                            @for name in names { th scope="col" { span { (name) } } }
                        } }
                        tbody { @for (row, name) in names.iter().enumerate() { tr {
                            th scope="row" { (name) }
                            @for column in 0..names.len() { (cell(a, row, column)) }
                        } } }
                    }
                }
            }
        }
    }

    fn confusions(&self) -> Markup {
        let (names, all) = (self.assessment.names(), self.assessment.confusions());
        html! {
            @if !all.is_empty() {
                section aria-labelledby="confusions" {
                    h2 #confusions { "Most frequent confusions" }
                    ol.confusions { @for c in all.iter().take(LISTED) { li {
                        b { (names[c.label]) } " taken for " b { (names[c.predicted]) } ": "
                        (grouped(c.count)) " of " (grouped(self.assessment.images(c.label)))
                    } } }
                }
            }
        }
    }

    fn mistake(&self, j: &Judged) -> Result<Markup> {
        let names = self.assessment.names();
        let [label, predicted] = [j.label, j.predicted].map(|k| &names[k as usize]);
        let m = self.manifest;
        let mut pixels = vec![0; self.test.image_len()];
        self.test.fill(&[j.image as u32], View::Test, &mut pixels)?;
        let uri = picture::data_uri(&pixels, [m.channels, m.height, m.width])?;
        let small = m.width < 64;
        Ok(html! {
            li { figure {
                img.small[small] src=(uri) width=(m.width) height=(m.height)
                    alt=(format!("test image {}: {label}, taken for {predicted}", j.image));
                figcaption {
                    b { (label) } " taken for " b { (predicted) }
                    span.faint { (format!("{:.1} % sure, loss {:.2}", 100.0 * j.confidence, j.loss)) }
                    span.faint { "image " (j.image) }
                }
            } }
        })
    }
}

/// A cell of the matrix, coloured by its share of the row.
fn cell(a: &Assessment, row: usize, column: usize) -> Markup {
    let (n, all) = (a.count(row, column), a.images(row));
    let share = n as f64 / all.max(1) as f64;
    let kind = if row == column { "hit" } else { "miss" };
    // The square root shows small shares, too; the limit keeps the figures legible on their ground.
    let tint = (60.0 * share.sqrt()).round();
    let text = match (n, 100.0 * share) {
        (0, _) => "0".to_string(),
        (_, percent) if percent < 1.0 => "<1".to_string(),
        // A row with one stray image is not whole.
        (n, percent) if n < all && percent > 99.0 => ">99".to_string(),
        (_, percent) => format!("{percent:.0}"),
    };
    let title = format!("{} taken for {}: {n} of {all}", a.names()[row], a.names()[column]);
    html! { td class=(if n == 0 { "none" } else { kind }) style=[(n > 0).then(|| format!("--tint:{tint}%"))] title=(title) { (text) } }
}

/// A number with its thousands apart.
fn grouped(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
