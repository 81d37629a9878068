//! Pages about evaluations and runs. Each is one HTML file that needs nothing else: style and pictures are inside, and it may load
//! nothing.

mod canvas;
mod eval;
mod group;
mod heat;
mod judge;
mod levels;
mod lines;
mod matrix;
mod one;
mod overview;
mod picture;
mod read;
mod runs;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use eval::Page;
pub use judge::{Integers, Judge, Judgement};
pub use read::{Entry, RunFiles, read};
pub use runs::Report;

/// A page of this title; `style` comes on top of the style that all pages have.
fn document(title: &str, style: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // The browser itself holds the page to what it promises.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'";
                title { (title) " · s3gpu" }
                style { (PreEscaped(include_str!("style.css"))) (PreEscaped(style)) }
            }
            body {
                main { (body) }
                footer { "s3gpu " (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
}

/// A number with its thousands apart.
fn grouped(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}
