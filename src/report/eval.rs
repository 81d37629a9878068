//! An evaluation as a page.

use maud::{Markup, html};

use super::{document, grouped, matrix, picture};
use crate::data::{Manifest, Source, View};
use crate::error::Result;
use crate::train::assess::{Assessment, Judged};
use crate::train::metrics::EvalRecord;

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
        let body = html! {
            header {
                h1 { (title) }
                dl.facts { @for (name, value) in &self.facts { div { dt { (name) } dd { (value) } } } }
            }
            (self.figures())
            (self.classes())
            @if matrix::fits(self.assessment) {
                section aria-labelledby="matrix" {
                    h2 #matrix { "Confusion matrix" }
                    (matrix::table(self.assessment))
                }
            }
            (self.confusions())
            section aria-labelledby="worst" {
                h2 #worst { "Worst mistakes" }
                @if pictures.is_empty() {
                    p { "None: every image was recognized." }
                } @else {
                    p.note { "The wrong answers of highest loss, worst first, with the probability that the network gave to its answer." }
                    ul.pictures { @for picture in &pictures { (picture) } }
                }
            }
        };
        Ok(document(&title, "", &body).into_string())
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

#[cfg(test)]
#[path = "eval_tests.rs"]
mod tests;
