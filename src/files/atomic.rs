//! Replacing a file in one move, so that a crash, a full disk or kill -9 never leaves half of one.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// A file's new content under a temporary name beside it, whole and synced, not yet in its place.
pub struct Staged {
    path: PathBuf,
    temporary: NamedTempFile,
}

impl Staged {
    /// Writes what `path` shall hold through `fill`. Dropped, it leaves nothing.
    ///
    /// A new file gets the permissions that the process's umask allows, like any other.
    ///
    /// # Errors
    /// [`Error::Io`] naming `path` when the folder refuses a new file, or when `fill` or the disk fails in the middle.
    pub fn write(path: impl AsRef<Path>, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Self> {
        let path = path.as_ref();
        let mut prefix = OsStr::new(".").to_os_string();
        prefix.push(path.file_name().unwrap_or_default());
        prefix.push(".");

        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder.tempfile_in(folder_of(path)).map_err(Error::io(path, "create"))?;

        let mut writer = BufWriter::new(temporary.as_file());
        fill(&mut writer).and_then(|()| writer.flush()).map_err(Error::io(path, "write"))?;
        drop(writer);
        temporary.as_file().sync_all().map_err(Error::io(path, "sync"))?;
        Ok(Self { path: path.into(), temporary })
    }

    /// Renames it over its path, and syncs the folder.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path; the old file is then untouched.
    pub fn commit(self) -> Result<()> {
        self.temporary.persist(&self.path).map_err(|failure| Error::io(&self.path, "replace")(failure.error))?;
        sync_folder(folder_of(&self.path));
        Ok(())
    }
}

/// Writes `path` through `fill`, or leaves what was there.
///
/// # Errors
/// As [`Staged::write`] and [`Staged::commit`]. The old file is then untouched and the temporary one is gone.
pub fn write_atomic(path: impl AsRef<Path>, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    Staged::write(path, fill)?.commit()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes what was renamed or removed in a folder durable. It is done by now and some file systems cannot sync a folder,
/// so a refusal is no failure.
#[cfg(unix)]
pub fn sync_folder(folder: &Path) {
    let _ = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
}

/// Windows has no such call: its journal orders renames and removals.
#[cfg(not(unix))]
pub fn sync_folder(_folder: &Path) {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn creates_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.bin");
        for text in ["first and longer", "second"] {
            write_atomic(&path, |out| out.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(folder.path()), ["last.bin"]);
    }

    #[test]
    fn a_failure_half_way_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.bin");
        fs::write(&path, "old").unwrap();
        let failure = write_atomic(&path, |out| {
            out.write_all(&[0; 1 << 16])?;
            Err(io::ErrorKind::StorageFull.into())
        });
        let message = failure.unwrap_err().to_string();
        assert!(message.contains("last.bin: cannot write") && message.contains("disk is full"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["last.bin"]);
    }

    #[test]
    fn a_folder_in_the_way_or_a_missing_one_is_an_error_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("inside"), "kept").unwrap();
        for path in [taken.clone(), folder.path().join("missing").join("file")] {
            let failure = write_atomic(&path, |out| out.write_all(b"new")).unwrap_err();
            assert!(matches!(&failure, Error::Io { path: named, .. } if *named == path), "{failure}");
        }
        assert_eq!(names(folder.path()), ["taken"]);
        assert_eq!(names(&taken), ["inside"]);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomic(&ours, |out| out.write_all(b"x")).unwrap();
        fs::write(&plain, "x").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
