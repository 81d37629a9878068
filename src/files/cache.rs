//! The user's cache folder: what is learned about an adapter and can be learned again.
//!
//! `S3GPU_CACHE` names another folder than the system's; empty, nothing is kept. Files lie in a folder of this version.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use super::atomic::write_atomic;
use crate::error::{Error, Result};

/// The environment variable that names the folder.
pub const VARIABLE: &str = "S3GPU_CACHE";

/// A folder of this version's cache files, made when the first is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheFolder(PathBuf);

impl CacheFolder {
    /// The user's: below `S3GPU_CACHE`, else below the system's folder for caches; none where there is neither.
    pub fn user() -> Option<Self> {
        let system = || Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("s3gpu"));
        Self::chosen(std::env::var_os(VARIABLE), system)
    }

    fn chosen(variable: Option<OsString>, system: impl FnOnce() -> Option<PathBuf>) -> Option<Self> {
        match variable {
            Some(folder) if folder.is_empty() => None,
            Some(folder) => Some(Self::below(folder)),
            None => system().map(Self::below),
        }
    }

    /// This version's, below `root`.
    pub fn below(root: impl AsRef<Path>) -> Self {
        Self(root.as_ref().join(env!("CARGO_PKG_VERSION")))
    }

    /// Where a file is or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file's bytes, or none where it was never written.
    ///
    /// # Errors
    /// [`Error::Io`] where it is there and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(path, "read")(e)),
        }
    }

    /// Replaces a file.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        std::fs::create_dir_all(&self.0).map_err(Error::io(&self.0, "create"))?;
        write_atomic(self.path(name), |out| out.write_all(bytes))
    }
}

/// A file name that says `text`: letters and digits, everything else as single dashes.
pub fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
    let words: String = text.chars().map(plain).collect();
    let joined = words.split_whitespace().collect::<Vec<_>>().join("-");
    joined.chars().take(160).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_and_an_empty_one_turns_the_cache_off() {
        let system = || Some(PathBuf::from("system"));
        let version = env!("CARGO_PKG_VERSION");
        let path = |v: Option<&str>| CacheFolder::chosen(v.map(OsString::from), system).map(|f| f.path("f"));
        assert_eq!(path(None), Some(Path::new("system").join(version).join("f")));
        assert_eq!(path(Some("mine")), Some(Path::new("mine").join(version).join("f")));
        assert_eq!(path(Some("")), None);
        assert_eq!(CacheFolder::chosen(None, || None), None);
    }

    #[test]
    fn files_come_back_and_a_folder_that_cannot_be_is_an_error_by_name() {
        let root = tempfile::tempdir().unwrap();
        let folder = CacheFolder::below(root.path());
        assert_eq!(folder.read("a").unwrap(), None);
        folder.write("a", b"one").unwrap();
        folder.write("a", b"two").unwrap();
        assert_eq!(folder.read("a").unwrap().unwrap(), b"two");
        let blocked = CacheFolder::below(folder.path("a"));
        let message = blocked.write("b", b"x").unwrap_err().to_string();
        assert!(message.contains("cannot create"), "{message}");
    }

    #[test]
    fn slugs_are_file_names() {
        assert_eq!(slug("llvmpipe (LLVM 15.0.6, 256 bits)"), "llvmpipe-llvm-15-0-6-256-bits");
        assert!(slug(&"é/x".repeat(200)).len() <= 160);
    }
}
