//! A confusion matrix as a table.

use maud::{Markup, html};

use crate::train::assess::Assessment;

/// Largest number of classes whose matrix is shown in full.
const CLASSES: usize = 25;

/// Whether the matrix is small enough to be looked at.
pub(super) fn fits(a: &Assessment) -> bool {
    a.names().len() <= CLASSES
}

/// A row for each class, coloured by the shares.
pub(super) fn table(a: &Assessment) -> Markup {
    let names = a.names();
    html! {
        p.note { "A row for each class: of its images, how many percent were taken for the class of the column." }
        div.scroll tabindex="0" role="region" aria-label="Confusion matrix" {
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

/// A cell, coloured by its share of the row.
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
