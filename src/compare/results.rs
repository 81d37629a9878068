//! What a sweep has come to: means over seeds, as Markdown, CSV and JSON.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use toml::Table;

use super::cells::State;
use super::figures::Figures;
use super::sweep::Sweep;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::train::Config;
use crate::train::layers::written;
use crate::version::program;

/// For people.
pub const MARKDOWN: &str = "results.md";
/// A row for each cell.
pub const CSV: &str = "results.csv";
/// Everything.
pub const JSON: &str = "results.json";
/// All of them.
pub const FILES: [&str; 3] = [MARKDOWN, CSV, JSON];

/// A figure over the seeds of a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Cells that have it.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Sample standard deviation: over n − 1; none for one cell.
    pub std: Option<f64>,
}

impl Spread {
    /// Of some values; none of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<_> = values.into_iter().collect();
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        (n > 0).then(|| Self { n, mean, std: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()) })
    }

    /// `50.12 ± 0.34`, times `factor`.
    pub fn text(&self, factor: f64, digits: usize) -> String {
        let std = self.std.map(|std| format!(" ± {:.digits$}", factor * std)).unwrap_or_default();
        format!("{:.digits$}{std}", factor * self.mean)
    }
}

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RowResult {
    /// Label or method, with bits.
    pub title: String,
    /// Method.
    pub method: String,
    /// Bits a weight; 0 for fp32.
    pub bits: u32,
    /// Network.
    pub model: String,
    /// How latents start.
    pub latent_init: String,
    /// Settings in which it differs from other rows.
    pub settings: Table,
    /// Cells in all.
    pub cells: usize,
    /// Cells that failed.
    pub failed: usize,
    /// Of the last evaluation, in percent; these are over the finished cells.
    pub last_top1: Option<Spread>,
    /// Of the best evaluation, in percent.
    pub best_top1: Option<Spread>,
    /// As integers, in percent.
    pub int_top1: Option<Spread>,
    /// Of the last evaluation.
    pub test_loss: Option<Spread>,
    /// Of the last interval.
    pub train_loss: Option<Spread>,
    /// Minutes of training.
    pub minutes: Option<Spread>,
    /// Share of zero weights, 0 … 1.
    pub zero: Option<Spread>,
    /// Weight sign variation rate.
    pub wsvr: Option<Spread>,
    /// Weight low-value rate.
    pub wlvr: Option<Spread>,
}

/// A cell.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CellResult {
    /// Its folder's name.
    pub name: String,
    /// Index of its row.
    pub row: usize,
    /// Its seed.
    pub seed: u64,
    /// Where it stands.
    pub state: &'static str,
    /// Why it failed.
    pub reason: Option<String>,
    /// What it came to.
    pub figures: Option<Figures>,
}

/// What a sweep has come to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Results {
    /// The program that wrote this.
    pub program: String,
    /// The sweep's file.
    pub sweep: String,
    /// How means and deviations are meant.
    pub statistics: &'static str,
    /// Settings of most rows.
    pub common: Table,
    /// Rows of the table.
    pub rows: Vec<RowResult>,
    /// The cells.
    pub cells: Vec<CellResult>,
}

const STATISTICS: &str = "mean ± sample standard deviation (n − 1) over the seeds of finished cells; last: the evaluation after the last \
                          epoch; best: that of the best epoch, chosen on the test set; train loss: the last logged interval; minutes: \
                          training without evaluations";

impl Results {
    /// Of a sweep whose cells stand so.
    pub fn new(sweep: &Sweep, states: &[State]) -> Self {
        let (common, own) = sweep.settings();
        let row = |(i, settings)| row(sweep, states, i, settings);
        let cells = sweep.cells.iter().zip(states).map(|(cell, state)| {
            let figures = figures(state).cloned();
            let reason = state.reason().map(String::from);
            let (name, seed) = (cell.name.clone(), cell.config.seed);
            CellResult { name, row: cell.row, seed, state: state.name(), reason, figures }
        });
        Self {
            program: program(),
            sweep: sweep.path.display().to_string(),
            statistics: STATISTICS,
            rows: own.into_iter().enumerate().map(row).collect(),
            common,
            cells: cells.collect(),
        }
    }

    /// Writes all three files, each whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, out: &Path) -> Result<()> {
        write_atomic(out.join(MARKDOWN), |w| w.write_all(self.markdown().as_bytes()))?;
        let csv = self.csv().map_err(|e| Error::io(out.join(CSV), "write")(e.into()))?;
        write_atomic(out.join(CSV), |w| w.write_all(&csv))?;
        write_atomic(out.join(JSON), |w| Ok(serde_json::to_writer_pretty(w, self)?))
    }

    /// A table for people, with all that it takes to read it.
    pub fn markdown(&self) -> String {
        let columns = self.columns();
        let mut text = format!("# {}\n\n", escape(&self.sweep));
        let count = |is: fn(&CellResult) -> bool| self.cells.iter().filter(|cell| is(cell)).count();
        let (finished, failed) = (count(|cell| cell.figures.is_some()), count(|cell| cell.reason.is_some()));
        let all = self.cells.len();
        let _ = writeln!(text, "{finished} of {all} cells finished, {failed} failed. {}.\n", self.program);
        let titles: Vec<_> = columns.iter().map(|(title, _)| title.to_string()).collect();
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        text += &line([vec!["method".into(), "model".into(), "cells".into()], titles].concat());
        text += &format!("|{}\n", "---|".repeat(3 + columns.len()));
        for row in &self.rows {
            let n = row.last_top1.map_or(0, |s| s.n);
            let failed = if row.failed > 0 { format!(", {} failed", row.failed) } else { String::new() };
            let cells = columns.iter().map(|(_, cell)| cell(row));
            let first = vec![escape(&row.title), row.model.clone(), format!("{n} of {}{failed}", row.cells)];
            text += &line(first.into_iter().chain(cells).collect());
        }
        let _ = writeln!(text, "\nFigures: {STATISTICS}.");
        let _ = writeln!(
            text,
            "\nAll cells, where a row says nothing else: {}; everything else as `s3gpu config` prints it for the method and data set.",
            escape(&settings(&changed(&self.common)))
        );
        for (what, of) in [("Adapter", adapters as fn(&Figures) -> Vec<String>), ("Trained by", programs)] {
            let mut all: Vec<_> = self.cells.iter().filter_map(|c| c.figures.as_ref()).flat_map(of).collect();
            all.sort();
            all.dedup();
            if !all.is_empty() {
                let _ = writeln!(text, "\n{what}: {}.", escape(&all.join("; ")));
            }
        }
        if failed > 0 {
            text += "\nFailed:\n\n";
            for cell in &self.cells {
                if let Some(reason) = &cell.reason {
                    let _ = writeln!(text, "- `{}`: {}", cell.name, escape(&one_line(reason)));
                }
            }
        }
        text
    }

    /// The table's columns that have something to say.
    fn columns(&self) -> Vec<(&'static str, Column)> {
        fn spread(s: Option<Spread>, factor: f64, digits: usize) -> String {
            s.map_or("–".into(), |s| s.text(factor, digits))
        }
        let all: [(&'static str, Column); 10] = [
            ("last top-1, %", |r| spread(r.last_top1, 1.0, 2)),
            ("best top-1, %", |r| spread(r.best_top1, 1.0, 2)),
            ("integer top-1, %", |r| spread(r.int_top1, 1.0, 2)),
            ("test loss", |r| spread(r.test_loss, 1.0, 3)),
            ("train loss", |r| spread(r.train_loss, 1.0, 3)),
            ("minutes", |r| spread(r.minutes, 1.0, 1)),
            ("zeros, %", |r| spread(r.zero, 100.0, 1)),
            ("WSVR, %", |r| spread(r.wsvr, 100.0, 2)),
            ("WLVR, %", |r| spread(r.wlvr, 100.0, 1)),
            ("settings", |r| if r.settings.is_empty() { "–".into() } else { escape(&settings(&r.settings)) }),
        ];
        let says = |c: &Column| self.rows.iter().any(|r| c(r) != "–");
        all.into_iter().enumerate().filter(|(i, (_, column))| *i < 2 || says(column)).map(|(_, c)| c).collect()
    }

    /// A line for each cell.
    fn csv(&self) -> csv::Result<Vec<u8>> {
        let mut w = csv::Writer::from_writer(Vec::new());
        w.write_record([
            "cell",
            "title",
            "method",
            "bits",
            "model",
            "latent-init",
            "seed",
            "state",
            "epochs",
            "last-top1",
            "best-top1",
            "int-top1",
            "test-loss",
            "train-loss",
            "minutes",
            "zero",
            "wsvr",
            "wlvr",
            "adapter",
            "programs",
            "settings",
            "reason",
        ])?;
        for cell in &self.cells {
            let row = &self.rows[cell.row];
            let f = cell.figures.as_ref();
            let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
            let of = |value: fn(&Figures) -> f64| number(f.map(value));
            w.write_record([
                cell.name.clone(),
                row.title.clone(),
                row.method.clone(),
                row.bits.to_string(),
                row.model.clone(),
                row.latent_init.clone(),
                cell.seed.to_string(),
                cell.state.into(),
                of(|f| f.epochs as f64),
                of(|f| f.last_top1),
                of(|f| f.best_top1),
                number(f.and_then(|f| f.int_top1)),
                of(|f| f.test_loss),
                of(|f| f.train_loss),
                of(|f| f.minutes),
                number(f.and_then(|f| f.zero)),
                number(f.and_then(|f| f.wsvr)),
                number(f.and_then(|f| f.wlvr)),
                f.map(|f| f.adapter.clone()).unwrap_or_default(),
                f.map(|f| f.programs.join("; ")).unwrap_or_default(),
                settings(&row.settings),
                cell.reason.as_deref().map(one_line).unwrap_or_default(),
            ])?;
        }
        w.into_inner().map_err(|e| e.into_error().into())
    }
}

/// What a row has in a column.
type Column = fn(&RowResult) -> String;

fn figures(state: &State) -> Option<&Figures> {
    match state {
        State::Finished(figures) => Some(figures),
        State::New | State::Stopped(_) | State::Failed(_) | State::Damaged(_) | State::Running => None,
    }
}

fn row(sweep: &Sweep, states: &[State], index: usize, settings: Table) -> RowResult {
    let (row, c) = (&sweep.rows[index], &sweep.rows[index].config);
    let own: Vec<_> = sweep.cells.iter().zip(states).filter(|(cell, _)| cell.row == index).map(|(_, s)| s).collect();
    let done: Vec<_> = own.iter().filter_map(|s| figures(s)).collect();
    let spread = |of: fn(&Figures) -> Option<f64>| Spread::of(done.iter().filter_map(|f| of(f)));
    RowResult {
        title: row.title.clone(),
        method: c.method.clone(),
        bits: c.bits,
        model: c.model.clone(),
        latent_init: written(c)["latent-init"].as_str().unwrap_or_default().into(),
        settings,
        cells: own.len(),
        failed: own.iter().filter(|s| s.reason().is_some()).count(),
        last_top1: spread(|f| Some(f.last_top1)),
        best_top1: spread(|f| Some(f.best_top1)),
        int_top1: spread(|f| f.int_top1),
        test_loss: spread(|f| Some(f.test_loss)),
        train_loss: spread(|f| Some(f.train_loss)),
        minutes: spread(|f| Some(f.minutes)),
        zero: spread(|f| f.zero),
        wsvr: spread(|f| f.wsvr),
        wlvr: spread(|f| f.wlvr),
    }
}

fn adapters(f: &Figures) -> Vec<String> {
    vec![f.adapter.clone()]
}

fn programs(f: &Figures) -> Vec<String> {
    f.programs.clone()
}

/// Without what is as by default, but for what a reader always wants to know.
fn changed(keys: &Table) -> Table {
    let defaults = written(&Config::default());
    let told = |key: &str| ["dataset", "epochs", "batch-size", "optimizer", "lr", "latent-lr"].contains(&key);
    let mut keys = keys.clone();
    keys.retain(|key, value| told(key) || defaults.get(key) != Some(value));
    // These come with the data set.
    ["mean", "std", "classes"].iter().for_each(|key| _ = keys.remove(*key));
    keys
}

/// `epochs = 5, lr = 0.1`.
fn settings(keys: &Table) -> String {
    keys.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(", ")
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// As words in a Markdown table.
fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
#[path = "results_tests.rs"]
mod tests;
