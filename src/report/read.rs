//! The runs that a report is about, from their folders.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::train::config::Config;
use crate::train::dynamics::DynamicsRecord;
use crate::train::folder::{self, CONFIG, METRICS};
use crate::train::metrics::{self, Record};
use crate::train::summary::{self, Summary};

/// What was asked for by one folder.
#[derive(Debug)]
pub struct Entry {
    /// The folder's path without what all of them have in front.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// The run in it, or why there is none to be shown.
    pub run: Result<RunFiles>,
}

/// What a run's folder tells of its training.
#[derive(Clone, Debug)]
pub struct RunFiles {
    /// Its configuration.
    pub config: Config,
    /// Where it stands.
    pub summary: Summary,
    /// Its log.
    pub records: Vec<Record>,
}

impl RunFiles {
    fn read(run: &Path) -> Result<Self> {
        let config = folder::read_config(run)?;
        config.check().map_err(|e| {
            let what = e.to_string();
            Error::checkpoint(run.join(CONFIG), what.lines().next().unwrap_or_default(), "put the run's own file back")
        })?;
        let (summary, log) = (Summary::read(run)?, run.join(METRICS));
        let records = if log.exists() { metrics::read(&log)? } else { Vec::new() };
        Ok(Self { config, summary, records })
    }

    /// Steps in an epoch; none before the first checkpoint, which says how many images there are.
    fn steps_per_epoch(&self) -> Option<f64> {
        let steps = self.summary.steps?.checked_div(self.config.epochs)?;
        (steps > 0).then_some(steps as f64)
    }

    /// (epochs, value) of each record that has a finite one, in the order of time.
    pub(super) fn points(&self, value: impl Fn(&Record) -> Option<f64>) -> Vec<(f64, f64)> {
        let Some(per_epoch) = self.steps_per_epoch() else { return Vec::new() };
        let done = |r: &Record| match r {
            Record::Dynamics(d) => d.steps,
            other => other.step().saturating_add(1),
        };
        let point = |r: &Record| Some((done(r) as f64 / per_epoch, value(r).filter(|v| v.is_finite())?));
        self.records.iter().filter_map(point).collect()
    }

    /// Each observation of the weights with its time in epochs.
    pub(super) fn dynamics<'a>(&'a self) -> Vec<(f64, &'a DynamicsRecord)> {
        let Some(per_epoch) = self.steps_per_epoch() else { return Vec::new() };
        let one = |r: &'a Record| match r {
            Record::Dynamics(d) => Some((d.steps as f64 / per_epoch, &**d)),
            _ => None,
        };
        self.records.iter().filter_map(one).collect()
    }

    /// Top-1 of the last evaluation, in percent.
    pub(super) fn last_top1(&self) -> Option<f64> {
        self.points(|r| if let Record::Eval(e) = r { Some(e.top1) } else { None }).last().map(|p| p.1)
    }
}

/// The runs at or below these folders, in their order, each once. Where one of several cannot be read, its entry says why.
///
/// # Errors
/// [`Error::Io`] for a path that is not there; the first entry's error where no run can be read.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Entry>> {
    let mut found: Vec<(PathBuf, Result<()>)> = Vec::new();
    for path in paths {
        let status = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
        if !status.is_dir() {
            let hint = "name the folder that `s3gpu train --out` made, or one with such folders in it";
            found.push((path.clone(), Err(Error::checkpoint(path, "this is a file, and no run's folder", hint))));
            continue;
        }
        let runs = summary::find(path)?;
        if runs.is_empty() {
            let what = "there is no run in this folder, nor up to three levels below it";
            found.push((path.clone(), Err(Error::checkpoint(path, what, "`s3gpu runs DIR` lists the runs below DIR"))));
        }
        found.extend(runs.into_iter().map(|run| (run, Ok(()))));
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|(path, _)| seen.insert(std::fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    let names = names(&found.iter().map(|(path, _)| path.as_path()).collect::<Vec<_>>());
    let entry = |((path, found), name): ((PathBuf, Result<()>), String)| {
        let run = found.and_then(|()| RunFiles::read(&path));
        Entry { name, path, run }
    };
    let mut entries: Vec<_> = found.into_iter().zip(names).map(entry).collect();
    match entries.iter().any(|e| e.run.is_ok()) {
        true => Ok(entries),
        false => Err(entries.remove(0).run.expect_err("none can be read")),
    }
}

/// Paths without the folders that all of them lie in.
fn names(paths: &[&Path]) -> Vec<String> {
    let parts = |path: &&Path| -> Vec<String> {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let own = whole.components().filter(|c| !matches!(c, Component::RootDir | Component::CurDir));
        own.map(|c| c.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let all: Vec<_> = paths.iter().map(parts).collect();
    // Each keeps its own name.
    let most = all.iter().map(|p| p.len().saturating_sub(1)).min().unwrap_or_default();
    let shared = (0..most).take_while(|i| all.iter().all(|p| p[*i] == all[0][*i])).count();
    all.iter().map(|p| p[shared..].join("/")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_short_as_they_tell_apart() {
        let of = |paths: &[&str]| names(&paths.iter().map(Path::new).collect::<Vec<_>>());
        assert_eq!(of(&["runs/sweep/a", "runs/sweep/b"]), ["a", "b"]);
        assert_eq!(of(&["runs/a", "runs/b/a", "./runs/c"]), ["a", "b/a", "c"]);
        assert_eq!(of(&["runs/one"]), ["one"]);
        assert_eq!(of(&["runs", "runs/one"]), ["runs", "runs/one"]);
        assert_eq!(of(&["/x/a", "/y/a"]), ["x/a", "y/a"]);
    }
}
