//! Unpacking an archive that may be damaged or hostile: known members only, below one folder, within bounds.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path};

use flate2::read::MultiGzDecoder;

use super::Progress;
use crate::data::origin::{Download, is_plain_path};
use crate::data::pattern::matches_path;
use crate::data::tarball::each_member;
use crate::error::{Error, Result};

const DAMAGED: &str = "the archive is damaged or not the one that the manifest means: fetch it again";
const HOSTILE: &str = "nothing of it was taken over: get the archive from a source that you trust";

/// Headers, padding and members that are not wanted may take as much again as the wanted ones, and this.
const SLACK: u64 = 64 << 20;

/// Unpacks the wanted members of a .tar.gz or .tar into the empty folder `into`; their paths below it, sorted.
///
/// # Errors
/// [`Error::Data`] for an archive that is damaged, lacks a member, holds a link, a device or a path that leads out of
/// `into`, or unpacks to more than the manifest's `unpacked`; [`Error::Io`] when the disk refuses.
pub(super) fn unpack(
    archive: &Path,
    rules: &Download,
    into: &Path,
    progress: &mut dyn Progress,
) -> Result<Vec<String>> {
    let mut file = File::open(archive).map_err(Error::io(archive, "read"))?;
    let mut magic = [0; 2];
    let is_gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let mut file = File::open(archive).map_err(Error::io(archive, "read"))?;
    let length = file.metadata().map_err(Error::io(archive, "read"))?.len();
    progress.begin(&format!("unpacking {}", super::name_of(archive)), Some(length), 0);

    let bytes = rules.unpacked.unwrap_or_default();
    let read = Cell::new(0);
    let counted = Counted { inner: &mut file, read: &read };
    let stream: Box<dyn Read> = match is_gzip {
        true => Box::new(MultiGzDecoder::new(BufReader::new(counted))),
        false => Box::new(counted),
    };
    let bounded = Bounded { inner: stream, left: bytes.saturating_mul(2).saturating_add(SLACK) };
    let mut unpacker = Unpacker { archive, rules, into, left: bytes, files: Vec::new() };
    let mut found = vec![false; rules.members.len()];
    let mut told = 0;
    let mut rest = each_member(
        bounded,
        |e| damaged(archive, &e),
        |entry| {
            unpacker.member(entry, &mut found)?;
            progress.advance(read.get() - told);
            told = read.get();
            Ok(())
        },
    )?;
    // To the end, so that gzip's own sum is checked.
    io::copy(&mut rest, &mut io::sink()).map_err(|e| damaged(archive, &e))?;
    if let Some(missing) = rules.members.iter().zip(&found).find(|(_, found)| !**found) {
        return Err(Error::data(archive, format!("it has no member {}", missing.0), DAMAGED));
    }
    unpacker.files.sort();
    Ok(unpacker.files)
}

struct Unpacker<'a> {
    archive: &'a Path,
    rules: &'a Download,
    into: &'a Path,
    /// Bytes that may still be written.
    left: u64,
    files: Vec<String>,
}

fn damaged(archive: &Path, e: &io::Error) -> Error {
    match e.get_ref().is_some_and(|e| e.is::<TooLong>()) {
        true => Error::data(archive, "it unpacks to far more bytes than the manifest's `unpacked` says", HOSTILE),
        false => Error::data(archive, format!("it cannot be unpacked: {e}"), DAMAGED),
    }
}

impl Unpacker<'_> {
    fn hostile(&self, what: impl Into<String>) -> Error {
        Error::data(self.archive, what, HOSTILE)
    }

    /// Writes a member if it is a wanted one, and notes in `found` which patterns it matches.
    fn member(&mut self, entry: &mut tar::Entry<impl Read>, found: &mut [bool]) -> Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !kind.is_file() && !kind.is_dir() {
            let what = match kind {
                tar::EntryType::Symlink => "a symbolic link",
                tar::EntryType::Link => "a hard link",
                tar::EntryType::Char | tar::EntryType::Block => "a device",
                _ => "neither a file nor a folder",
            };
            return Err(self.hostile(format!("its member {shown:?} is {what}")));
        }
        let path = entry.path().map_err(|e| damaged(self.archive, &e))?.into_owned();
        let Some(path) = plain(&path) else {
            return Err(self.hostile(format!("its member {shown:?} has a path that leads out of the archive")));
        };
        let mut wanted = false;
        for (pattern, found) in self.rules.members.iter().zip(found) {
            let matches = kind.is_file() && matches_path(pattern, &path);
            *found |= matches;
            wanted |= matches;
        }
        if !wanted {
            return Ok(());
        }
        if !is_plain_path(&path) {
            return Err(self.hostile(format!("its member {shown:?} has a name that not every system allows")));
        }
        if entry.size() > self.left {
            let most = self.rules.unpacked.unwrap_or_default();
            return Err(
                self.hostile(format!("its members have more than the {most} bytes of the manifest's `unpacked`"))
            );
        }
        self.left -= entry.size();
        let name = path.splitn(self.rules.strip + 1, '/').last().unwrap_or_default().to_string();
        self.write(entry, &name)?;
        self.files.push(name);
        Ok(())
    }

    fn write(&self, entry: &mut tar::Entry<impl Read>, name: &str) -> Result<()> {
        let path = self.into.join(name);
        let folder = path.parent().unwrap_or(self.into);
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let mut out = match File::options().write(true).create_new(true).open(&path) {
            Ok(out) => out,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(self.hostile(format!("it has the member {name} twice")));
            }
            Err(e) => return Err(Error::io(&path, "create")(e)),
        };
        let (size, mut written, mut buffer) = (entry.size(), 0, vec![0; 1 << 16]);
        loop {
            let n = entry.read(&mut buffer).map_err(|e| damaged(self.archive, &e))?;
            if n == 0 {
                break;
            }
            out.write_all(&buffer[..n]).map_err(Error::io(&path, "write"))?;
            written += n as u64;
        }
        match written == size {
            true => Ok(()),
            false => Err(Error::data(self.archive, format!("it ends within its member {name}"), DAMAGED)),
        }
    }
}

/// The parts of a relative path that stays below its start, joined by `/`.
fn plain(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(parts.join("/"))
}

/// Counts the bytes of the archive itself, for the bar.
struct Counted<'a> {
    inner: &'a mut File,
    read: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

/// Ends with [`TooLong`] where a stream goes on beyond its bound: what is skipped must be decompressed, too.
struct Bounded<R> {
    inner: R,
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("too long")]
struct TooLong;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| io::Error::other(TooLong))?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_are_none() {
        assert_eq!(plain(Path::new("./a/b")), Some("a/b".into()));
        for path in ["/a", "a/../b", "..", "a/.."] {
            assert_eq!(plain(Path::new(path)), None, "{path}");
        }
    }
}
