//! Where a sweep's cells stand, by their folders: each a run's folder, and beside the run `cell.json` with what the sweep adds.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::figures::Figures;
use super::results;
use super::sweep::{Cell, SWEEP, Sweep};
use crate::error::{Error, Result};
use crate::files::{read_text, tensors, write_atomic};
use crate::train::Config;
use crate::train::checkpoint::{self, Progress};
use crate::train::folder::{self, CONFIG, LAST};
use crate::train::layers::written;
use crate::version::program;

/// What the sweep knows of a cell beside its run.
pub const CELL: &str = "cell.json";

/// What [`CELL`] holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CellFile {
    /// The programs that trained it, by version and commit, in order.
    pub programs: Vec<String>,
    /// Why it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Whether it diverged: it would again from its last checkpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub diverged: bool,
    /// Under which settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
}

impl CellFile {
    /// Reads a cell's; one that was never written is empty.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] where it is damaged.
    pub fn read(cell: &Path) -> Result<Self> {
        let path = cell.join(CELL);
        if !path.exists() {
            return Ok(Self::default());
        }
        let damaged = |e: serde_json::Error| {
            Error::checkpoint(&path, format!("damaged: {e}"), "remove this file: the run beside it is whole without")
        };
        serde_json::from_str(&read_text(&path)?).map_err(damaged)
    }

    /// Writes a cell's.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, cell: &Path) -> Result<()> {
        std::fs::create_dir_all(cell).map_err(Error::io(cell, "create"))?;
        write_atomic(cell.join(CELL), |out| Ok(serde_json::to_writer_pretty(out, self)?))
    }

    /// Adds this program.
    #[must_use]
    pub fn by_us(mut self) -> Self {
        let us = program();
        if self.programs.last() != Some(&us) {
            self.programs.push(us);
        }
        self
    }
}

/// Where a cell stands.
#[derive(Clone, Debug)]
pub enum State {
    /// To be trained from the start.
    New,
    /// To go on from its checkpoint, with so many epochs done.
    Stopped(f64),
    /// Done.
    Finished(Box<Figures>),
    /// Why it failed. It is left as it is until it is asked for again.
    Failed(String),
    /// Its weights are finished, but what should be beside them is damaged. Nothing but its user touches it.
    Damaged(String),
    /// Another process trains it.
    Running,
}

impl State {
    /// As in lists.
    pub fn name(&self) -> &'static str {
        match self {
            Self::New => "to do",
            Self::Stopped(_) => "stopped",
            Self::Finished(_) => "finished",
            Self::Failed(_) => "failed",
            Self::Damaged(_) => "damaged",
            Self::Running => "running",
        }
    }

    /// Why there is nothing to be had from it.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) | Self::Damaged(reason) => Some(reason),
            Self::New | Self::Stopped(_) | Self::Finished(_) | Self::Running => None,
        }
    }

    /// Reads where a cell stands. One that failed under other settings is new: these may be the cure.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a run with other settings, and for one whose settings cannot be read; [`Error::Io`].
    pub fn read(cell: &Path, config: &Config) -> Result<Self> {
        if folder::is_claimed(cell) {
            return Ok(Self::Running);
        }
        let file = CellFile::read(cell)?;
        let had = match folder::is_run(cell) {
            // What is left of a replacement that was killed.
            true if !cell.join(CONFIG).exists() && !cell.join(LAST).exists() => None,
            true => Some(folder::read_config(cell)?),
            false => None,
        };
        // A cell can fail before it has a folder of its own.
        let had = had.or_else(|| file.failed.as_ref().and(file.config.clone()));
        let other = had.as_ref().and_then(|had| difference(had, config));
        match (file.failed, other) {
            (Some(reason), None) => return Ok(Self::Failed(reason)),
            (None, Some((key, had, now))) if cell.join(LAST).exists() => {
                let what = format!("this cell was trained with {key} = {had}, but the sweep now says {now}");
                let hint = "put that back, give the changed [[methods]] a `label` of its own, choose another --out, or move this folder away";
                return Err(Error::checkpoint(cell, what, hint));
            }
            (_, Some(_)) => return Ok(Self::New),
            (None, None) => (),
        }
        // A damaged cell is one of many: it does not end the sweep.
        let or = |damaged: fn(String) -> Self| {
            move |e: Error| match e {
                Error::Checkpoint { .. } => Ok(damaged(e.to_string())),
                other => Err(other),
            }
        };
        let p = match progress(cell) {
            Ok(None) => return Ok(Self::New),
            Ok(Some(p)) => p,
            Err(e) => return or(Self::Failed)(e),
        };
        if !p.ended(config) {
            return Ok(Self::Stopped(p.epochs(config)));
        }
        let figures = Figures::read(cell, config, p.adapter, file.programs);
        figures.map(|f| Self::Finished(Box::new(f))).or_else(or(Self::Damaged))
    }
}

/// How far a cell's last checkpoint has come; none where there is no such file.
///
/// # Errors
/// [`Error::Checkpoint`] where it is damaged; [`Error::Io`].
pub fn progress(cell: &Path) -> Result<Option<Progress>> {
    let path = cell.join(LAST);
    let read = || tensors::read_meta(&path).and_then(|file| checkpoint::progress(&file, &path));
    path.exists().then(read).transpose()
}

/// Refuses a sweep of which another process trains a cell.
///
/// # Errors
/// [`Error::Checkpoint`] naming that cell.
pub fn refuse_running(sweep: &Sweep, out: &Path, states: &[State]) -> Result<()> {
    let Some(at) = states.iter().position(|state| matches!(state, State::Running)) else { return Ok(()) };
    let (path, hint) = (out.join(&sweep.cells[at].name), "wait for its end, or stop it by Ctrl-C there");
    Err(Error::checkpoint(path, "another s3gpu process is training in this cell's folder", hint))
}

/// Where all cells stand.
///
/// # Errors
/// As [`State::read`]; [`Error::Checkpoint`] where the folder is no sweep's or holds cells that the sweep does not have.
pub fn states(sweep: &Sweep, out: &Path) -> Result<Vec<State>> {
    refuse_foreign(sweep, out)?;
    sweep.cells.iter().map(|cell: &Cell| State::read(&out.join(&cell.name), &cell.config)).collect()
}

/// Removes the temporary files of a process that was killed while it wrote.
///
/// # Errors
/// [`Error::Io`].
pub fn sweep_away(sweep: &Sweep, out: &Path) -> Result<()> {
    folder::sweep_of(out, |file| file == SWEEP || results::FILES.contains(&file))?;
    let cells = sweep.cells.iter().map(|cell| out.join(&cell.name)).filter(|cell| cell.is_dir());
    cells.into_iter().try_for_each(|cell| folder::sweep_of(&cell, |file| file == CELL))
}

fn refuse_foreign(sweep: &Sweep, out: &Path) -> Result<()> {
    const HINT: &str = "choose another --out, or move it away";
    if !out.exists() {
        return Ok(());
    }
    if folder::is_run(out) {
        return Err(Error::checkpoint(out, "this folder is a run's, not a sweep's", HINT));
    }
    if let (false, Some(file)) = (out.join(SWEEP).exists(), results::FILES.iter().find(|f| out.join(f).exists())) {
        let what = format!("this folder is no sweep's, as it has no {SWEEP}, but it holds a {file}");
        return Err(Error::checkpoint(out, what, HINT));
    }
    let mut entries: Vec<_> = std::fs::read_dir(out).map_err(Error::io(out, "read"))?.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let ours = sweep.cells.iter().any(|cell| *cell.name == *name);
        if !ours && (folder::is_run(&path) || path.join(CELL).is_file()) {
            let what = format!("this run is none of the cells of {}", sweep.path.display());
            let hint = "put its method, bits, model and seed back into the file, choose another --out, or move this folder away";
            return Err(Error::checkpoint(path, what, hint));
        }
    }
    Ok(())
}

/// The first key in which a run's configuration is another, and both values. Where the images lie may change.
fn difference(had: &Config, now: &Config) -> Option<(String, String, String)> {
    let [had, now] = [had, now].map(written);
    let value = |keys: &toml::Table, key: &str| keys.get(key).map_or("nothing".into(), toml::Value::to_string);
    let keys = had.keys().chain(now.keys()).filter(|key| *key != "data-dir");
    let key = keys.into_iter().find(|key| had.get(*key) != now.get(*key))?;
    Some((key.clone(), value(&had, key), value(&now, key)))
}
