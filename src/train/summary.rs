//! What a run's folder tells at a glance, while the run is under way or after it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::checkpoint::{self, Progress};
use super::folder::{self, LAST, METRICS};
use super::metrics::{self, Record};
use crate::error::{Error, Result};
use crate::files::tensors;

/// Whether a run is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A process trains in the folder now.
    Running,
    /// All epochs are done.
    Finished,
    /// It can go on.
    Stopped,
    /// It ended before its first checkpoint.
    Empty,
}

impl State {
    /// As in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Empty => "no checkpoint",
        }
    }
}

/// A run at a glance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Its folder.
    pub path: PathBuf,
    /// Data set.
    pub dataset: String,
    /// Network, with its width where that is not 1.
    pub model: String,
    /// Method and bits.
    pub method: String,
    /// Epochs done, and a part of one.
    pub epochs_done: f64,
    /// Epochs wanted.
    pub epochs: u64,
    /// Steps done.
    pub steps_done: u64,
    /// Steps wanted; none before the first checkpoint.
    pub steps: Option<u64>,
    /// Best top-1 of the evaluations so far, in percent.
    pub best_top1: Option<f64>,
    /// The adapter of the last checkpoint.
    pub adapter: Option<String>,
    /// The version of s3gpu that wrote that checkpoint, where it says so.
    pub version: Option<String>,
    /// Whether it is under way.
    pub state: State,
}

impl Summary {
    /// Reads a run's folder; a run under way is read as of its last checkpoint and metrics line.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] and [`Error::Io`] where its files are damaged.
    pub fn read(run: &Path) -> Result<Self> {
        let config = folder::read_config(run)?;
        let last = run.join(LAST);
        let file = last.exists().then(|| tensors::read_meta(&last)).transpose()?;
        let progress = file.as_ref().map(|f| checkpoint::progress(f, &last)).transpose()?;
        let log = run.join(METRICS);
        let records = if log.exists() { metrics::read(&log)? } else { Vec::new() };
        let top1 = records.iter().filter_map(|r| match r {
            Record::Eval(e) => config.is_whole(e.epoch).then_some(e.top1),
            Record::Train(_) | Record::Int(_) | Record::Dynamics(_) => None,
        });
        let best_top1 = top1.chain(progress.iter().filter_map(|p| p.best)).max_by(f64::total_cmp);
        let per_epoch = |p: &Progress| config.steps_per_epoch(p.images[0]).max(1);
        let steps = progress.as_ref().map(|p| p.total(&config));
        let steps_done = progress.as_ref().map_or(0, |p| p.step);
        let state = match &progress {
            _ if folder::is_claimed(run) => State::Running,
            None => State::Empty,
            Some(p) if p.ended(&config) => State::Finished,
            Some(_) => State::Stopped,
        };
        let width = if config.width == 1 { String::new() } else { format!(" x{}", config.width) };
        Ok(Self {
            path: run.into(),
            model: format!("{}{width}", config.model),
            method: config.method()?.title(),
            epochs_done: progress.as_ref().map_or(0.0, |p| p.step as f64 / per_epoch(p) as f64),
            epochs: config.epochs,
            steps_done,
            steps,
            best_top1,
            adapter: progress.map(|p| p.adapter).filter(|a| !a.is_empty()),
            version: file.and_then(|f| f.meta.get("version").cloned()),
            state,
            // A set of the user's own is a TOML by its path.
            dataset: match Path::new(&config.dataset).file_stem() {
                Some(stem) if config.dataset.ends_with(".toml") => stem.to_string_lossy().into_owned(),
                _ => config.dataset,
            },
        })
    }
}

/// How far below a folder runs are looked for.
const DEPTH: usize = 3;

/// The folders of runs at or below `dir`, in order of their names; links are not followed.
///
/// # Errors
/// [`Error::Io`] where `dir` cannot be read; folders below that cannot be read are left out.
pub fn find(dir: &Path) -> Result<Vec<PathBuf>> {
    std::fs::read_dir(dir).map_err(Error::io(dir, "read"))?;
    let mut found = Vec::new();
    search(dir, DEPTH, &mut found);
    found.sort();
    Ok(found)
}

fn search(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if folder::is_run(dir) {
        found.push(dir.into());
    } else if depth > 0 {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        folders.for_each(|e| search(&e.path(), depth - 1, found));
    }
}
