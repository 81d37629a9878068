//! A run's folder: config.toml, metrics.jsonl, best.safetensors, last.safetensors and curves.svg; one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::config::Config;
use crate::error::{Error, Result};
use crate::files::{Staged, read_text, sync_folder};

/// The resolved configuration.
pub const CONFIG: &str = "config.toml";
/// One JSON object a line.
pub const METRICS: &str = "metrics.jsonl";
/// Weights of the best epoch.
pub const BEST: &str = "best.safetensors";
/// Weights, momenta and progress.
pub const LAST: &str = "last.safetensors";
/// Loss and accuracy as a picture.
pub const CURVES: &str = "curves.svg";

/// `epoch-0007.safetensors`: what [`LAST`] was after so many epochs, where a run keeps such.
pub fn epoch_file(epochs: u64) -> String {
    format!("epoch-{epochs:04}.safetensors")
}

/// How the names of TensorBoard's files begin, whoever writes them.
const EVENTS: &str = "events.out.tfevents.";

/// A name for a new file of TensorBoard's: TensorBoard reads them in the order of their names.
pub fn event_file() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{EVENTS}{}.{}.s3gpu", now.as_secs(), std::process::id())
}

/// The files that [`event_file`] named.
///
/// # Errors
/// [`Error::Io`].
pub fn event_files(out: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(out).map_err(Error::io(out, "read"))?.flatten();
    let ours = |name: &str| name.starts_with(EVENTS) && name.ends_with(".s3gpu");
    Ok(entries.filter(|e| e.file_name().to_str().is_some_and(ours)).map(|e| e.path()).collect())
}

/// The epochs that an [`epoch_file`]'s name says.
fn epochs_of(name: &str) -> Option<u64> {
    let epochs = name.strip_prefix("epoch-")?.strip_suffix(".safetensors")?.parse().ok()?;
    (epoch_file(epochs) == name).then_some(epochs)
}

/// Epochs whose checkpoints a folder holds, in no order.
///
/// # Errors
/// [`Error::Io`].
pub fn kept_epochs(out: &Path) -> Result<Vec<u64>> {
    let entries = std::fs::read_dir(out).map_err(Error::io(out, "read"))?.flatten();
    Ok(entries.filter_map(|e| epochs_of(e.file_name().to_str()?)).collect())
}

/// Removes the checkpoints of all epochs but the last `keep` up to `epochs`.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_older(out: &Path, epochs: u64, keep: u64) -> Result<()> {
    for old in kept_epochs(out)?.into_iter().filter(|e| e + keep <= epochs) {
        let path = out.join(epoch_file(old));
        std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
    }
    Ok(())
}

/// Everything that the folder may hold, but for the checkpoints of epochs and TensorBoard's files. The configuration comes first: without it no file counts as a run's, so where a
/// replacement stops half-way, new settings never stand over old weights.
pub const FILES: [&str; 5] = [CONFIG, LAST, METRICS, BEST, CURVES];

/// Locked while a process works in the folder. It stays there empty: to remove it could race with the next process.
const LOCK: &str = ".lock";

/// A run's folder that this process alone may write. The operating system ends the claim with the process, however that
/// ends.
#[derive(Debug)]
pub struct Claim {
    out: PathBuf,
    _lock: Option<File>,
}

impl Claim {
    /// Takes a folder that exists.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where another process works in it; [`Error::Io`] where it cannot be written.
    pub fn take(out: &Path) -> Result<Self> {
        let path = out.join(LOCK);
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(Error::io(&path, "create"))?;
        let mut tried = file.try_lock();
        if let Err(TryLockError::WouldBlock) = tried {
            // It may be `is_claimed` that holds it, for an instant.
            std::thread::sleep(std::time::Duration::from_millis(50));
            tried = file.try_lock();
        }
        let lock = match tried {
            Ok(()) => Some(file),
            // Some network file systems know no locks; to train there is still better than not to.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => None,
            Err(TryLockError::Error(e)) => return Err(Error::io(&path, "lock")(e)),
            Err(TryLockError::WouldBlock) => {
                let hint = "wait for its end, stop it by Ctrl-C there, or choose another --out";
                return Err(Error::checkpoint(out, "another s3gpu process is training in this folder", hint));
            }
        };
        Ok(Self { out: out.into(), _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.out
    }
}

/// Whether a process works in the folder now.
pub fn is_claimed(out: &Path) -> bool {
    let lock = File::open(out.join(LOCK));
    lock.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Whether the folder holds a file of a run.
pub fn is_run(out: &Path) -> bool {
    FILES.iter().any(|file| out.join(file).is_file())
}

/// Refuses a folder that holds a run, unless `force` is set.
///
/// # Errors
/// [`Error::Checkpoint`].
pub fn check_free(out: &Path, force: bool) -> Result<()> {
    if force || !FILES.iter().any(|file| out.join(file).exists()) {
        return Ok(());
    }
    if !out.join(CONFIG).exists() {
        let what = format!("this folder holds a run's files, but no {CONFIG}");
        return Err(Error::checkpoint(out, what, "choose another --out, or replace what is left by --force"));
    }
    let hint = format!(
        "choose another --out, go on with it by `s3gpu train --resume {}`, or replace it by --force",
        out.display()
    );
    Err(Error::checkpoint(out, "this folder holds a run already", hint))
}

/// Makes a new run's folder and claims it.
///
/// # Errors
/// As [`check_free`] and [`Claim::take`]; [`Error::Io`] where it cannot be written.
pub fn create(out: &Path, config: &Config, force: bool) -> Result<Claim> {
    std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    let claim = Claim::take(out)?;
    check_free(out, force)?;
    replace(out, config, || ())?;
    Ok(claim)
}

/// Puts `config` in place of all files of an old run, calling `changed` after each change of the folder.
///
/// What can fail for want of space comes first and leaves the old run whole. Then the old configuration goes, then the
/// rest, and the new configuration arrives last.
fn replace(out: &Path, config: &Config, mut changed: impl FnMut()) -> Result<()> {
    let text = toml::to_string(config)
        .map_err(|e| Error::usage(format!("the configuration cannot be written: {e}"), "use another value"))?;
    sweep(out)?;
    let staged = Staged::write(out.join(CONFIG), |w| w.write_all(text.as_bytes()))?;
    changed();
    let epochs = kept_epochs(out)?.into_iter().map(epoch_file);
    let names = FILES.map(String::from).into_iter().chain(epochs);
    let files = names.map(|f| out.join(f)).chain(event_files(out)?);
    for file in files.collect::<Vec<_>>().iter().filter(|f| f.exists()) {
        std::fs::remove_file(file).map_err(Error::io(file, "remove"))?;
        // A power cut may not undo this removal after the next.
        sync_folder(out);
        changed();
    }
    staged.commit()?;
    changed();
    Ok(())
}

/// Removes the temporary files of a process that was killed while it wrote.
///
/// # Errors
/// [`Error::Io`].
pub fn sweep(out: &Path) -> Result<()> {
    sweep_of(out, |file| FILES.contains(&file) || epochs_of(file).is_some())
}

/// As [`sweep`], of files with names that are `ours`.
pub(crate) fn sweep_of(out: &Path, ours: impl Fn(&str) -> bool) -> Result<()> {
    let ours = |name: &str| {
        let name = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp"));
        name.and_then(|n| n.rsplit_once('.')).is_some_and(|(file, _)| ours(file))
    };
    for entry in std::fs::read_dir(out).map_err(Error::io(out, "read"))?.flatten() {
        if entry.file_name().to_str().is_some_and(ours) {
            std::fs::remove_file(entry.path()).map_err(Error::io(entry.path(), "remove"))?;
        }
    }
    Ok(())
}

/// Reads a run's configuration.
///
/// # Errors
/// [`Error::Checkpoint`] where the folder is no run's.
pub fn read_config(run: &Path) -> Result<Config> {
    let path = run.join(CONFIG);
    let hint = "--resume takes the folder that `s3gpu train --out` made";
    if !path.is_file() && FILES.iter().any(|file| run.join(file).exists()) {
        let what = format!("it has no {CONFIG}: a new run was about to take this one's place");
        return Err(Error::checkpoint(run, what, "start the new run again with --force"));
    }
    if !path.is_file() {
        return Err(Error::checkpoint(run, format!("this is no run's folder: it has no {CONFIG}"), hint));
    }
    let text = read_text(&path)?;
    toml::from_str(&text).map_err(|e| Error::checkpoint(&path, e.message(), hint))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    fn files(out: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(out).unwrap().map(|e| e.unwrap());
        entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
    }

    /// A folder with an old run, a file of the user's, and what a killed process left.
    fn old_run() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), &Config { seed: 1, ..Config::default() }, false).unwrap();
        let left = [".last.safetensors.a1B2c3.tmp", ".epoch-0002.safetensors.a1B2c3.tmp"];
        for file in [METRICS, BEST, LAST, CURVES, "note.txt", "epoch-0001.safetensors", left[0], left[1]] {
            fs::write(folder.path().join(file), b"old").unwrap();
        }
        folder
    }

    #[test]
    fn only_the_last_epochs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let others =
            ["epoch-7.safetensors", "epoch-00001.safetensors", "epoch-0001.safetensors.bak", "epoch-.safetensors"];
        let named = [1, 2, 3, 12345].map(epoch_file);
        for file in named.iter().map(String::as_str).chain(others) {
            fs::write(out.join(file), b"x").unwrap();
        }
        let mut kept = kept_epochs(out).unwrap();
        kept.sort();
        assert_eq!(kept, [1, 2, 3, 12345]);
        remove_older(out, 3, 2).unwrap();
        let mut kept = kept_epochs(out).unwrap();
        kept.sort();
        assert_eq!(kept, [2, 3, 12345]);
        assert_eq!(files(out).len(), 3 + others.len(), "what is not ours stays");
    }

    #[test]
    fn a_replacement_never_pairs_new_settings_with_old_weights() {
        let folder = old_run();
        let out = folder.path();
        let old = files(out);
        let new = Config { seed: 2, ..Config::default() };
        let mut states = Vec::new();
        replace(out, &new, || states.push(files(out))).unwrap();
        // The staged configuration, six removals, the rename.
        assert_eq!(states.len(), 8);
        for state in &states {
            let left: Vec<_> = FILES.iter().filter(|f| state.contains_key(**f)).collect();
            match state.get(CONFIG) {
                Some(config) if *config == old[CONFIG] => assert_eq!(left.len(), FILES.len(), "the old run is whole"),
                Some(config) => {
                    assert_eq!(left, [&CONFIG], "the new run has nothing of the old one's");
                    assert_eq!(toml::from_slice::<Config>(config).unwrap(), new);
                }
                None => {}
            }
            assert_eq!(state["note.txt"], b"old");
        }

        // Stopped at any of these points, the folder says what it is, and --force makes it the new run's.
        for state in states {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path();
            state.iter().for_each(|(name, bytes)| fs::write(out.join(name), bytes).unwrap());
            match read_config(out) {
                Ok(config) => assert_eq!(config.seed == 1, out.join(LAST).exists()),
                Err(e) => assert!(e.to_string().contains("no config.toml"), "{e}"),
            }
            let held = FILES.iter().any(|f| state.contains_key(*f));
            assert_eq!(check_free(out, false).is_err(), held);
            create(out, &new, true).unwrap();
            assert_eq!(files(out).keys().collect::<Vec<_>>(), [LOCK, CONFIG, "note.txt"]);
            assert_eq!(read_config(out).unwrap(), new);
        }
    }
}
