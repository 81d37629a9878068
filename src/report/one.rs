//! One run by itself: heat maps, levels, confusion matrix, costs as integers, settings.

use maud::{Markup, html};

use super::canvas::key;
use super::group::value;
use super::heat::{Grid, HeatMap, legend};
use super::judge::{Integers, Judgement};
use super::levels::Moments;
use super::read::RunFiles;
use super::runs::{Known, epochs};
use super::{grouped, matrix};
use crate::error::{Error, Result};
use crate::int::counts::{self, Count, energy};
use crate::train::dynamics::{Dynamics, DynamicsRecord};
use crate::train::layers::table;
use crate::train::metrics::Record;

/// A share of a layer's weights.
pub(super) type Share = fn(&Dynamics) -> Option<f64>;

/// What heat maps show: a short name, what it is, and the share.
const MAPS: [(&str, &str, Share); 3] = [
    ("WSVR", "weights whose sign changed", |d| d.wsvr),
    ("WLVR", "weights near zero", |d| Some(d.wlvr)),
    ("Zeros", "weights at exactly zero", |d| Some(d.zero)),
];

/// The end of each heat map's scale, the same for all runs, so that they can be held beside each other.
pub(super) struct Scales([f64; MAPS.len()]);

impl Scales {
    /// Of all layers of these runs at all times.
    pub(super) fn of(runs: &[&RunFiles]) -> Self {
        let layers = || {
            let records = runs.iter().flat_map(|r| &r.records);
            let layers = records.filter_map(|r| if let Record::Dynamics(d) = r { Some(&d.layers) } else { None });
            layers.flatten().map(|l| &l.dynamics)
        };
        Self(MAPS.map(|(_, _, share)| layers().filter_map(share).fold(0.0, f64::max)))
    }
}

/// A run behind a line that opens it.
///
/// # Errors
/// [`Error::Io`] for a picture that cannot be drawn.
pub(super) fn details(k: &Known, differing: &[String], scales: &Scales, open: bool) -> Result<Markup> {
    let s = &k.files.summary;
    let top1 = s.best_top1.map_or("not evaluated".to_string(), |t| format!("best top-1 {t:.2} %"));
    let facts = [
        ("folder", k.entry.path.display().to_string()),
        ("epochs", format!("{} of {}", epochs(s.epochs_done), s.epochs)),
        ("steps", format!("{} of {}", s.steps_done, s.steps.map_or("?".into(), |n| n.to_string()))),
        ("adapter", s.adapter.clone().unwrap_or("not told".into())),
        ("s3gpu", s.version.clone().unwrap_or("not told".into())),
    ];
    let (maps, levels) = (maps(k, scales)?, levels(k)?);
    Ok(html! {
        details.run id=(format!("run{}", k.index)) open[open] {
            summary { (key(k.group)) b { (k.entry.name) } span.faint { (s.method) ", " (top1) ", " (s.state.name()) } }
            dl.facts { @for (name, value) in &facts { div { dt { (name) } dd { (value) } } } }
            h3 { "Weight dynamics by layer" } (maps)
            h3 { "Levels of the weights" } (levels)
            h3 { "Confusion matrix" } (confusions(k.judgement))
            h3 { "As integers" } (integers(k.judgement))
            h3 { "Configuration" } (settings(k.files, differing))
        }
    })
}

const NO_DYNAMICS: &str = "The log has no record of weight dynamics.";

/// Names of the layers of the last observation.
fn layers<'a>(all: &[(f64, &'a DynamicsRecord)]) -> Vec<&'a str> {
    all.last().map_or(Vec::new(), |(_, d)| d.layers.iter().map(|l| l.name.as_str()).collect())
}

/// A share by layer and time: a cell covers the time since the observation before.
fn grid(all: &[(f64, &DynamicsRecord)], layers: &[&str], share: Share) -> Grid {
    let cell = |d: &DynamicsRecord, name: &str| share(&d.layers.iter().find(|l| l.name == name)?.dynamics);
    let rows = layers.iter().map(|name| all[1..].iter().map(|(_, d)| cell(d, name)).collect());
    Grid { rows: rows.collect(), edges: all.iter().map(|(epochs, _)| *epochs).collect() }.thin()
}

fn maps(k: &Known, scales: &Scales) -> Result<Markup> {
    let mut all = k.files.dynamics();
    // A time that was logged twice has no width.
    all.dedup_by(|later, before| later.0 <= before.0);
    if all.len() < 2 {
        let why =
            if all.is_empty() { NO_DYNAMICS } else { "The weights have been observed once: nothing has moved yet." };
        return Ok(html! { p { (why) } });
    }
    let layers = layers(&all);
    let dynamics = || all.iter().flat_map(|(_, d)| d.layers.iter().map(|l| &l.dynamics));
    let same = dynamics().all(|d| d.zero == d.wlvr || d.zero == 0.0);
    let (mut figures, mut remarks) = (Vec::new(), Vec::new());
    for ((short, long, share), top) in MAPS.into_iter().zip(scales.0) {
        match short {
            "Zeros" if same => {
                remarks.push("Where τ is 0, WLVR is the share of zeros; no other layer has any.".to_string())
            }
            _ if dynamics().filter_map(share).all(|v| v == 0.0) => {
                remarks.push(format!("{short}: 0 % in every layer all the time."))
            }
            _ => {
                let label = format!("{short} of {} by layer and epoch", k.entry.name);
                let grids = vec![(String::new(), "epochs", grid(&all, &layers, share))];
                let picture = HeatMap { label, layers: &layers, grids, ticks: None, top }.draw()?;
                figures.push(html! { figure { figcaption { b { (short) ": " (long) } (legend(top)) } (picture) } });
            }
        }
    }
    Ok(html! {
        div.figures { @for f in &figures { (f) } }
        @if !remarks.is_empty() { p.note { (remarks.join(" ")) } }
    })
}

fn levels(k: &Known) -> Result<Markup> {
    let all = k.files.dynamics();
    let Some(moments) = Moments::of(&all) else { return Ok(html! { p { (NO_DYNAMICS) } }) };
    let layers = layers(&all);
    let top = moments.top(&layers);
    let bars = moments.bars(&format!("Levels of all weights of {}", k.entry.name))?;
    let map = moments.layers(format!("Levels by layer of {}", k.entry.name), &layers, top)?;
    Ok(html! { div.figures {
        figure {
            figcaption {
                b { "All but stem and classifier" }
                ul.key-list { @for (i, (title, _)) in moments.at.iter().enumerate() { li { span class=(format!("square b{i}")) {} (title) } } }
                @if moments.cut { "Levels of less than 0.05 % of the weights are left out." }
            }
            (bars)
        }
        figure { figcaption { b { "Each layer: share of its weights at a level" } (legend(top)) } (map) }
    } })
}

/// Why there is nothing from an evaluation, and the way to it.
fn missing(error: Option<&Error>) -> Markup {
    html! { p.missing { @match error {
        Some(e) => { "Not evaluated: " (e) }
        None => { "Not evaluated, as --no-eval was asked for: `s3gpu report` without it adds this from the run's best weights." }
    } } }
}

fn confusions(judgement: Option<&Result<Judgement>>) -> Markup {
    let j = match judgement {
        Some(Ok(judgement)) => judgement,
        other => return missing(other.and_then(|r| r.as_ref().err())),
    };
    let (r, a) = (&j.record, &j.assessment);
    html! {
        p { (format!("Best weights, epoch {}: top-1 {:.2} %, top-5 {:.2} %, loss {:.4} on {} images, on {}.", r.epoch + 1, r.top1, r.top5, r.loss, grouped(r.count), j.adapter)) }
        @if matrix::fits(a) { (matrix::table(a)) } @else {
            p.note { (a.names().len()) " classes are too many for a matrix; the most frequent confusions:" }
            ol.confusions { @for c in a.confusions().iter().take(24) { li {
                b { (a.names()[c.label]) } " taken for " b { (a.names()[c.predicted]) } ": " (grouped(c.count)) " of " (grouped(a.images(c.label)))
            } } }
        }
    }
}

fn integers(judgement: Option<&Result<Judgement>>) -> Markup {
    let i = match judgement {
        Some(Ok(Judgement { integers: Ok(integers), .. })) => integers,
        Some(Ok(Judgement { integers: Err(why), .. })) => return html! { p.missing { "No integer network: " (why) } },
        other => return missing(other.and_then(|r| r.as_ref().err())),
    };
    costs(i)
}

fn costs(i: &Integers) -> Markup {
    let sum = counts::total(&i.costs);
    let bytes = |n: u64| indicatif::HumanBytes(n).to_string();
    let tiles = [
        (format!("{} of {}", bytes(sum.packed_bytes), bytes(sum.float_bytes)), "weights, of their size as fp32"),
        (format!("{:.1} %", 100.0 * sum.zeros as f64 / sum.weights.max(1) as f64), "weights that are zero"),
        (grouped(sum.additions), "additions for an image"),
        (grouped(sum.shifts), "shifts for an image"),
        (grouped(sum.multiplications), "multiplications for an image"),
        (
            format!("{:.2} of {:.2} µJ", 1e6 * sum.joules(), 1e6 * sum.float_joules()),
            "energy of the arithmetic, of fp32's",
        ),
    ];
    let row = |c: &Count| {
        let zeros =
            if c.weights > 0 { format!("{:.1} %", 100.0 * c.zeros as f64 / c.weights as f64) } else { String::new() };
        let size = |n: u64| if n > 0 { grouped(n) } else { String::new() };
        html! { tr {
            th scope="row" { (c.name) }
            td.number { (size(c.float_bytes)) } td.number { (size(c.packed_bytes)) } td.number { (zeros) }
            td.number { (grouped(c.additions)) } td.number { (grouped(c.shifts)) } td.number { (grouped(c.multiplications)) }
        } }
    };
    html! {
        dl.tiles { @for (value, name) in &tiles { div { dt { (name) } dd { (value) } } } }
        p.note { "As `s3gpu export` makes it of the best weights. Energy is an estimate by " (energy::SOURCE) "." }
        @if !i.notes.is_empty() { p.note { (i.notes.join(" ")) } }
        div.scroll tabindex="0" role="region" aria-label="Costs of each layer" { table.rows {
            thead { tr {
                th scope="col" { "layer" }
                @for name in ["fp32 bytes", "packed bytes", "zeros", "additions", "shifts", "multiplications"] { th.number scope="col" { (name) } }
            } }
            tbody { @for c in &i.costs { (row(c)) } (row(&sum)) }
        } }
    }
}

/// All settings, those first in which the runs of the page differ.
fn settings(files: &RunFiles, differing: &[String]) -> Markup {
    let all = table(&files.config);
    let (first, rest): (Vec<_>, Vec<_>) = all.iter().partition(|(name, _)| differing.contains(name));
    html! {
        dl.settings {
            @for (name, v) in first { div.differs { dt { (name) } dd { (value(Some(v))) } } }
            @for (name, v) in rest { div { dt { (name) } dd { (value(Some(v))) } } }
        }
    }
}
