//! All runs of a page beside each other, over epochs.

use maud::{Markup, html};

use super::canvas::key;
use super::group::Group;
use super::lines::{Height, Panel};
use super::one::Share;
use crate::error::Result;
use crate::train::metrics::{EvalRecord, Record, TrainRecord};

/// Which colour is whose.
fn legend(groups: &[Group]) -> Markup {
    html! {
        ul.key-list { @for (i, g) in groups.iter().enumerate() { li { (key(i)) (g.label) } } }
        @if groups.iter().any(|g| g.runs.len() > 1) { p.note { "A thin line is one seed, a thick one the mean of the finished ones." } }
    }
}

/// A figure for each panel that has something to show.
fn figures(panels: Vec<Panel>, groups: &[Group]) -> Result<Markup> {
    let names: Vec<_> = groups.iter().map(|g| g.label.clone()).collect();
    let figure = |panel: &Panel| {
        let (picture, remark) = (panel.draw(&names)?, panel.remark());
        Ok(html! { figure { figcaption { b { (panel.title) } " " (remark.unwrap_or_default()) } (picture) } })
    };
    let figures = panels.iter().map(figure).collect::<Result<Vec<_>>>()?;
    Ok(html! { (legend(groups)) div.figures { @for f in &figures { (f) } } })
}

fn trained(r: &Record) -> Option<&TrainRecord> {
    if let Record::Train(t) = r { Some(t) } else { None }
}

fn tested(r: &Record) -> Option<&EvalRecord> {
    if let Record::Eval(e) = r { Some(e) } else { None }
}

/// A value of some records.
type Value = fn(&Record) -> Option<f64>;

/// Title, axis, height and value of each figure about a training.
const CURVES: [(&str, &str, Height, Value); 6] = [
    ("Test accuracy", "top-1 (%)", Height::Tens, |r| Some(tested(r)?.top1)),
    ("Training accuracy", "top-1 (%)", Height::Tens, |r| trained(r).map(|t| 100.0 * t.correct as f64 / t.count as f64)),
    ("Test loss", "cross-entropy (nats)", Height::FromZero, |r| Some(tested(r)?.loss)),
    ("Training loss", "cross-entropy (nats)", Height::FromZero, |r| Some(trained(r)?.loss)),
    ("Test accuracy as integers", "top-1 (%)", Height::Tens, |r| match r {
        Record::Int(e) => Some(e.top1),
        _ => None,
    }),
    ("Learning rate", "learning rate", Height::FromZero, |r| Some(trained(r)?.lr)),
];

/// Title, axis and share of each figure about the weights.
const WEIGHTS: [(&str, &str, Share); 8] = [
    ("WSVR: weights whose sign changed", "share of weights (%)", |d| d.wsvr),
    ("WLVR: weights near zero", "share of weights (%)", |d| Some(d.wlvr)),
    ("WSVR with changes to and from zero", "share of weights (%)", |d| d.wsvr_zero),
    ("Weights at exactly zero", "share of weights (%)", |d| Some(d.zero)),
    ("Weights at the smallest nonzero level", "share of weights (%)", |d| d.lowest),
    ("Sign changes by way of zero", "share of sign changes (%)", |d| d.through_zero),
    ("WSVR of the latent weights", "share of weights (%)", |d| d.latent?.wsvr),
    ("WLVR of the latent weights", "share of weights (%)", |d| Some(d.latent?.wlvr)),
];

/// Loss, accuracy and learning rate.
///
/// # Errors
/// As [`Panel::draw`].
pub(super) fn curves(groups: &[Group]) -> Result<Markup> {
    let panel = |(title, axis, height, value)| Panel::new([title, axis], height, groups, value);
    let panels: Vec<_> = CURVES.into_iter().filter_map(panel).collect();
    if panels.is_empty() {
        return Ok(html! { p { "No run has reached its first checkpoint with a logged figure yet." } });
    }
    figures(panels, groups)
}

/// WSVR, WLVR and what else is known of all weights together.
///
/// # Errors
/// As [`Panel::draw`].
pub(super) fn dynamics(groups: &[Group]) -> Result<Markup> {
    let panel = |(title, axis, share): (_, _, Share)| {
        Panel::new([title, axis], Height::FromZero, groups, |r| match r {
            Record::Dynamics(d) => share(&d.whole).map(|s| 100.0 * s),
            _ => None,
        })
    };
    let panels: Vec<_> = WEIGHTS.into_iter().filter_map(panel).collect();
    if panels.is_empty() {
        return Ok(html! { p {
            "There is no record of weight dynamics in these runs' logs: they were switched off, or a version without them trained these runs."
        } });
    }
    let lacks = |g: &&Group| g.runs.iter().any(|r| r.dynamics().is_empty());
    let without: Vec<_> = groups.iter().filter(lacks).map(|g| g.label.as_str()).collect();
    Ok(html! {
        p.note {
            "All convolutions but stem and classifier together. WSVR is the share of weights whose sign is another than at the observation before, both "
            "nonzero; WLVR the share with |W| ≤ τ, where τ is 0 for weights on levels and 0.05 · max|W| of a layer for fp32."
            @if !without.is_empty() { " Not every run has a record of them: " (without.join("; ")) "." }
        }
        (figures(panels, groups)?)
    })
}
