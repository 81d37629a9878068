//! A page about one or several runs: what they are, how they went beside each other, and each by itself.

use maud::{Markup, html};

use super::canvas::key;
use super::group::{self, Group, groups};
use super::judge::{Judge, Judgement};
use super::one::{self, Scales};
use super::overview::{curves, dynamics};
use super::read::{Entry, RunFiles};
use super::{document, heat};
use crate::compare::results::Spread;
use crate::error::Result;
use crate::train::layers::table;
use crate::train::metrics::Record;
use crate::train::summary::State;

/// What a page tells, gathered before it is written.
pub struct Report {
    entries: Vec<Entry>,
    /// For each entry; none where nobody asked.
    judgements: Vec<Option<Result<Judgement>>>,
}

/// A run with all that is known of it.
pub(super) struct Known<'a> {
    /// Its place among the entries.
    pub(super) index: usize,
    pub(super) entry: &'a Entry,
    pub(super) files: &'a RunFiles,
    /// Its configuration's place among the groups.
    pub(super) group: usize,
    pub(super) judgement: Option<&'a Result<Judgement>>,
}

impl Report {
    /// About these runs.
    pub fn new(entries: Vec<Entry>) -> Self {
        let judgements = entries.iter().map(|_| None).collect();
        Self { entries, judgements }
    }

    /// Runs that can be shown.
    pub fn count(&self) -> usize {
        self.entries.iter().filter(|e| e.run.is_ok()).count()
    }

    /// Names of the entries that cannot be shown, and why.
    pub fn problems(&self) -> impl Iterator<Item = (&str, String)> {
        self.entries.iter().filter_map(|e| Some((e.name.as_str(), e.run.as_ref().err()?.to_string())))
    }

    /// Evaluates every run. What fails is told in the page, and as a line to `tell`, which also hears how far it is.
    pub fn judge(&mut self, judge: &mut Judge, tell: &mut dyn FnMut(&str)) {
        let (count, mut done) = (self.count(), 0);
        for (entry, judgement) in self.entries.iter().zip(&mut self.judgements) {
            let Ok(files) = &entry.run else { continue };
            done += 1;
            tell(&format!("evaluating {done} of {count}: {}", entry.name));
            let outcome = judge.judge(&entry.path, files);
            if let Err(e) = &outcome {
                tell(&format!("{} is not evaluated: {e}", entry.name));
            }
            *judgement = Some(outcome);
        }
    }

    /// The page's text; the same for the same runs.
    ///
    /// # Errors
    /// [`crate::Error::Io`] for a picture that cannot be drawn.
    pub fn render(&self) -> Result<String> {
        let shown: Vec<_> = self.entries.iter().filter_map(|e| e.run.as_ref().ok()).collect();
        let (groups, of_run) = groups(&shown);
        let entries = self.entries.iter().zip(&self.judgements).enumerate();
        let readable = entries.filter_map(|(i, (e, j))| Some((i, e, e.run.as_ref().ok()?, j.as_ref())));
        let known: Vec<_> = readable
            .zip(of_run)
            .map(|((index, entry, files, judgement), group)| Known { index, entry, files, group, judgement })
            .collect();
        let title = title(&known, &groups);
        let differing = group::differing(&shown);
        let scales = Scales::of(&shown);
        let each = known.iter().map(|k| one::details(k, &differing, &scales, known.len() == 1));
        let each = each.collect::<Result<Vec<_>>>()?;
        let curves = curves(&groups)?;
        let dynamics = dynamics(&groups)?;
        let body = html! {
            header {
                h1 { (title) }
                dl.facts { @for (name, value) in facts(&known, self.entries.len()) { div { dt { (name) } dd { (value) } } } }
            }
            nav aria-label="Sections" {
                a href="#runs" { "Runs" }
                @if groups.len() > 1 { a href="#settings" { "Settings" } }
                a href="#curves" { "Curves" }
                a href="#dynamics" { "Weight dynamics" }
                a href="#each" { "Each run" }
            }
            section aria-labelledby="runs" {
                h2 #runs { "Runs" }
                (self.table(&known))
            }
            (seeds(&groups))
            (settings(&groups))
            section aria-labelledby="curves" { h2 #curves { "Loss, accuracy and learning rate" } (curves) }
            section aria-labelledby="dynamics" { h2 #dynamics { "Weight dynamics" } (dynamics) }
            section aria-labelledby="each" { h2 #each { "Each run" } @for run in &each { (run) } }
        };
        let style = format!("{}{}", include_str!("runs.css"), heat::style());
        Ok(document(&title, &style, &body).into_string())
    }

    /// A row for each entry, also for one that cannot be read.
    fn table(&self, known: &[Known]) -> Markup {
        html! { div.scroll tabindex="0" role="region" aria-labelledby="runs" {
            table.rows {
                thead { tr {
                    @for name in ["run", "method", "model", "data set"] { th scope="col" { (name) } }
                    @for name in ["seed", "epochs", "best top-1", "last top-1"] { th.number scope="col" { (name) } }
                    @for name in ["state", "adapter", "version"] { th scope="col" { (name) } }
                } }
                tbody { @for (i, entry) in self.entries.iter().enumerate() {
                    @match (known.iter().find(|k| k.index == i), &entry.run) {
                        (Some(k), _) => (row(k)),
                        (None, Err(e)) => tr.problem { th scope="row" { (entry.name) } td colspan="10" { (e) } },
                        (None, Ok(_)) => {},
                    }
                } }
            }
        } }
    }
}

fn row(k: &Known) -> Markup {
    let s = &k.files.summary;
    let percent = |v: Option<f64>| v.map_or("–".to_string(), |v| format!("{v:.2} %"));
    let adapter = s.adapter.as_deref().unwrap_or("–");
    html! { tr {
        th scope="row" { (key(k.group)) a href=(format!("#run{}", k.index)) { (k.entry.name) } }
        td { (s.method) } td { (s.model) } td { (s.dataset) }
        td.number { (k.files.config.seed) }
        td.number { (epochs(s.epochs_done)) " of " (s.epochs) }
        td.number { (percent(s.best_top1)) } td.number { (percent(k.files.last_top1())) }
        td.unfinished[s.state != State::Finished] { (s.state.name()) }
        td title=(adapter) { (adapter.split(" (").next().unwrap_or_default()) }
        td { (s.version.as_deref().unwrap_or("–")) }
    } }
}

/// Epochs with two digits where they are not whole.
pub(super) fn epochs(done: f64) -> String {
    if done.fract() == 0.0 { format!("{done}") } else { format!("{done:.2}") }
}

fn title(known: &[Known], groups: &[Group]) -> String {
    let mut sets: Vec<_> = known.iter().map(|k| k.files.summary.dataset.as_str()).collect();
    sets.dedup();
    let on = if let [set] = sets[..] { format!(" on {set}") } else { String::new() };
    match (known, groups.len()) {
        ([one], _) => format!("{} {}{on}", one.files.summary.model, one.files.summary.method),
        (all, 1) => format!("{}: {} runs of one configuration{on}", groups[0].label, all.len()),
        (all, n) => format!("{n} configurations, {} runs{on}", all.len()),
    }
}

fn facts(known: &[Known], entries: usize) -> Vec<(&'static str, String)> {
    let distinct = |of: &dyn Fn(&RunFiles) -> Option<String>| {
        let mut all: Vec<String> = Vec::new();
        known.iter().filter_map(|k| of(k.files)).for_each(|v| {
            if !all.contains(&v) {
                all.push(v)
            }
        });
        all.join("; ")
    };
    let finished = known.iter().filter(|k| k.files.summary.state == State::Finished).count();
    let mut runs = format!("{finished} of {} finished", known.len());
    if entries > known.len() {
        runs += &format!(", {} more cannot be read", entries - known.len());
    }
    let mut facts = vec![
        ("runs", runs),
        ("methods", distinct(&|r| Some(r.summary.method.clone()))),
        ("networks", distinct(&|r| Some(r.summary.model.clone()))),
        ("data", distinct(&|r| Some(r.summary.dataset.clone()))),
        ("adapter", distinct(&|r| r.summary.adapter.clone())),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

/// Means over seeds, where there are several of a configuration.
fn seeds(groups: &[Group]) -> Markup {
    if groups.iter().all(|g| g.runs.len() < 2) {
        return html! {};
    }
    let stat = |g: &Group, digits: usize, value: &dyn Fn(&RunFiles) -> Option<f64>| {
        Spread::of(g.finished().filter_map(value)).map_or("–".to_string(), |s| s.text(1.0, digits))
    };
    let last_loss =
        |r: &RunFiles| r.points(|r| if let Record::Eval(e) = r { Some(e.loss) } else { None }).last().map(|p| p.1);
    let list = |g: &Group| g.runs.iter().map(|r| r.config.seed.to_string()).collect::<Vec<_>>().join(", ");
    html! { section aria-labelledby="seeds" {
        h2 #seeds { "Means over seeds" }
        p.note { "Mean ± sample standard deviation over the finished runs of a configuration, which differ in their seed alone." }
        div.scroll tabindex="0" role="region" aria-labelledby="seeds" { table.rows {
            thead { tr {
                th scope="col" { "configuration" } th scope="col" { "seeds" }
                @for name in ["finished", "best top-1 (%)", "last top-1 (%)", "last test loss"] { th.number scope="col" { (name) } }
            } }
            tbody { @for (i, g) in groups.iter().enumerate() { tr {
                th scope="row" { (key(i)) (g.label) }
                td { (list(g)) }
                td.number { (g.finished().count()) " of " (g.runs.len()) }
                td.number { (stat(g, 2, &|r| r.summary.best_top1)) }
                td.number { (stat(g, 2, &|r| r.last_top1())) }
                td.number { (stat(g, 4, &last_loss)) }
            } } }
        } }
    } }
}

/// The settings in which the configurations differ.
fn settings(groups: &[Group]) -> Markup {
    let firsts: Vec<_> = groups.iter().map(|g| g.runs[0]).collect();
    let keys: Vec<_> = group::differing(&firsts).into_iter().filter(|k| k != "seed").collect();
    if keys.is_empty() {
        return html! {};
    }
    html! { section aria-labelledby="settings" {
        h2 #settings { "Settings that differ" }
        p.note { "All other settings are the same; each run below has the whole list." }
        div.scroll tabindex="0" role="region" aria-labelledby="settings" { table.rows {
            thead { tr { th scope="col" { "configuration" } @for k in &keys { th scope="col" { (k) } } } }
            tbody { @for (i, g) in groups.iter().enumerate() { tr {
                th scope="row" { (key(i)) (g.label) }
                @let own = table(&g.runs[0].config);
                @for k in &keys { td { (group::value(own.get(k))) } }
            } } }
        } }
    } }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "runs_tests.rs"]
pub(super) mod tests;
