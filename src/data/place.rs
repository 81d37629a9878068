//! Where a data set's files are: in `--data-dir`, below `S3GPU_DATA`, or in the user's data folder, in this order.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use super::fetch::sums;
use super::{Format, Manifest, cifar, folder, idx};
use crate::error::{Error, Result};

/// The environment variable that names a folder of data sets, or one set's own.
pub const VARIABLE: &str = "S3GPU_DATA";

/// The folders that are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    given: Option<PathBuf>,
    variable: Option<PathBuf>,
    user: Option<PathBuf>,
}

impl Places {
    /// `data_dir` as the user gave it, the variable's folder, and the system's folder for the user's data.
    pub fn new(data_dir: Option<&Path>) -> Self {
        let variable = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        let user = etcetera::choose_base_strategy().ok().map(|s| s.data_dir().join("s3gpu"));
        Self { given: data_dir.map(Into::into), variable, user }
    }

    /// The folder of data sets in which a fetched one gets its own.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is none.
    pub fn root(&self) -> Result<&Path> {
        let first = self.given.as_deref().or(self.variable.as_deref()).or(self.user.as_deref());
        first.ok_or_else(|| {
            Error::usage("this user has no home folder to keep data in", "name one by --data-dir FOLDER")
        })
    }

    /// The folder to read a data set from. A `--data-dir` counts alone, whether it holds the set or not.
    ///
    /// # Errors
    /// [`Error::Usage`] naming where it was looked for and the command that fetches it.
    pub fn find(&self, manifest: &Manifest) -> Result<PathBuf> {
        if let Some(given) = &self.given {
            let below = given.join(&manifest.name);
            return Ok(if holds(manifest, &below) { below } else { given.clone() });
        }
        let below = [&self.variable, &self.user].into_iter().flatten().map(|root| root.join(&manifest.name));
        let itself = self.variable.clone().filter(|dir| holds(manifest, dir));
        below.filter(|dir| holds(manifest, dir)).chain(itself).next().ok_or_else(|| self.missing(manifest))
    }

    fn missing(&self, manifest: &Manifest) -> Error {
        let name = &manifest.name;
        let looked = match (&self.variable, &self.user) {
            (Some(variable), Some(user)) => {
                format!("and neither {VARIABLE} ({}) nor {} has it", variable.display(), user.join(name).display())
            }
            (Some(variable), None) => format!("and {VARIABLE} ({}) does not have it", variable.display()),
            (None, Some(user)) => format!("{VARIABLE} is not set, and {} is not there", user.join(name).display()),
            (None, None) => format!("and {VARIABLE} is not set"),
        };
        let get = match manifest.download.is_empty() {
            false => format!("`s3gpu dataset fetch {}` gets it, or add", manifest.reference()),
            true => format!("`s3gpu dataset info {}` says how to get it; then add", manifest.reference()),
        };
        Error::usage(
            format!("--dataset {name} is read from files, but no --data-dir is given, {looked}"),
            format!("{get} --data-dir FOLDER, {}", super::expected(manifest)),
        )
    }
}

/// The error of a set's reader; where the folder `data_dir` holds nothing of a set that can be fetched, with the command.
pub(super) fn advised(error: Error, manifest: &Manifest, data_dir: Option<&Path>) -> Error {
    let Some(given) = data_dir.filter(|_| !manifest.download.is_empty()) else { return error };
    match error {
        Error::Data { path, what, hint }
            if !holds(manifest, given) && !holds(manifest, &given.join(&manifest.name)) =>
        {
            let fetch = format!("s3gpu dataset fetch {} --data-dir {}", manifest.reference(), given.display());
            Error::data(path, what, format!("{hint}; `{fetch}` gets {} into it", manifest.name))
        }
        other => other,
    }
}

/// Whether a folder looks like a set's own: its reader finds some of the files there.
pub fn holds(manifest: &Manifest, dir: &Path) -> bool {
    match manifest.format {
        Format::Cifar10 | Format::Cifar100 => cifar::home_in(manifest, dir).is_ok(),
        Format::Idx => idx::home(manifest, dir).is_ok(),
        // Only a fetched set has a list of sums.
        Format::Folder if !manifest.download.is_empty() && dir.join(sums::LIST).is_file() => true,
        Format::Folder => folder::is_of(manifest, dir),
        Format::Shapes => false,
    }
}
