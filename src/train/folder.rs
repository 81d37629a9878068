//! A run's folder: config.toml, metrics.jsonl, best.safetensors, last.safetensors and curves.svg.

use std::path::Path;

use super::config::Config;
use crate::error::{Error, Result};
use crate::files::write_atomic;

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

/// Everything that the folder may hold. The checkpoint that a resume starts from comes first: it never stands beside
/// another run's files.
const FILES: [&str; 5] = [LAST, CONFIG, METRICS, BEST, CURVES];

/// Refuses a folder that holds a run, unless `force` is set.
///
/// # Errors
/// [`Error::Checkpoint`].
pub fn check_free(out: &Path, force: bool) -> Result<()> {
    if force || !FILES.iter().any(|file| out.join(file).exists()) {
        return Ok(());
    }
    let hint = format!(
        "choose another --out, go on with it by `s3gpu train --resume {}`, or replace it by --force",
        out.display()
    );
    Err(Error::checkpoint(out, "this folder holds a run already", hint))
}

/// Makes a new run's folder.
///
/// # Errors
/// As [`check_free`]; [`Error::Io`] where it cannot be written.
pub fn create(out: &Path, config: &Config, force: bool) -> Result<()> {
    check_free(out, force)?;
    std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    let text = toml::to_string(config)
        .map_err(|e| Error::usage(format!("the configuration cannot be written: {e}"), "use another value"))?;
    // The new configuration goes first: where it cannot be written, the old run stays whole.
    write_atomic(out.join(CONFIG), |w| w.write_all(text.as_bytes()))?;
    for file in FILES.iter().filter(|f| **f != CONFIG).map(|f| out.join(f)).filter(|f| f.exists()) {
        std::fs::remove_file(&file).map_err(Error::io(&file, "remove"))?;
    }
    sweep(out)
}

/// Removes the temporary files of a process that was killed while it wrote.
///
/// # Errors
/// [`Error::Io`].
pub fn sweep(out: &Path) -> Result<()> {
    let ours = |name: &str| FILES.iter().any(|f| name.starts_with(&format!(".{f}."))) && name.ends_with(".tmp");
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
    if !path.is_file() {
        return Err(Error::checkpoint(run, format!("this is no run's folder: it has no {CONFIG}"), hint));
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
    toml::from_str(&text).map_err(|e| Error::checkpoint(&path, e.message(), hint))
}
