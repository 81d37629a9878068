//! Chosen members of a .tar.gz, read into memory within bounds. Nothing is unpacked to the disk, so no path of the archive
//! leads anywhere.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// Bytes of a member at most; CIFAR-100's largest has 154 MB.
const MAX_MEMBER: u64 = 1 << 30;
/// Bytes of an unpacked archive at most, of all members together.
const MAX_TOTAL: u64 = 2 << 30;
const AGAIN: &str = "the archive is damaged or another one: fetch it again";

/// Bytes of what describes a member at most: its header, a long name, PAX records. The tar reader takes them into memory
/// whole.
const MAX_HEADERS: u64 = 1 << 20;

/// Gives every member of a tar to `each`, in order, and the stream behind them.
///
/// # Errors
/// What `broken` makes of an error of the stream or its form, as where more than [`MAX_HEADERS`] describe a member; and
/// what `each` returns.
pub(super) fn each_member<R: Read>(
    stream: R,
    broken: impl Fn(io::Error) -> Error,
    mut each: impl FnMut(&mut tar::Entry<'_, Described<R>>) -> Result<()>,
) -> Result<R> {
    let left = Rc::new(Cell::new(u64::MAX));
    let mut tar = tar::Archive::new(Described { inner: stream, left: left.clone() });
    let mut entries = tar.entries().map_err(&broken)?;
    loop {
        // The last member was read to its end, so that all until the next one is header.
        left.set(MAX_HEADERS);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(&broken)?;
        if entry.header().entry_type().is_gnu_sparse() {
            // Its holes may have any size, and would be read.
            return Err(broken(io::Error::other("a member is a sparse file")));
        }
        left.set(u64::MAX);
        each(&mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(&broken)?;
    }
    Ok(tar.into_inner().inner)
}

/// A stream that ends with an error where the description of a member is too long.
pub(super) struct Described<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Described<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let too_long = || io::Error::other(format!("a member's name takes more than {MAX_HEADERS} bytes"));
        self.left.set(self.left.get().checked_sub(n as u64).ok_or_else(too_long)?);
        Ok(n)
    }
}

/// Whether a file begins like a gzip'd archive.
pub(super) fn is_one(path: &Path) -> bool {
    let mut magic = Vec::new();
    let read = File::open(path).and_then(|file| file.take(2).read_to_end(&mut magic));
    read.is_ok() && magic == [0x1f, 0x8b]
}

/// The members whose folder and file name are wanted, as name and bytes, sorted by name.
pub(super) fn members(path: &Path, wanted: impl Fn(&str, &str) -> bool) -> Result<Vec<(String, Vec<u8>)>> {
    let damaged = |what: String| Error::data(path, what, AGAIN);
    let broken = |e: io::Error| damaged(format!("not a whole .tar.gz: {e}"));
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let stream = MultiGzDecoder::new(BufReader::new(file)).take(MAX_TOTAL);
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    each_member(stream, broken, |entry| {
        let inner = entry.path().map_err(broken)?.into_owned();
        let part = |part: Option<&std::ffi::OsStr>| part.and_then(|p| p.to_str()).unwrap_or_default().to_string();
        let (folder, name) = (part(inner.parent().and_then(Path::file_name)), part(inner.file_name()));
        if !wanted(&folder, &name) {
            return Ok(());
        }
        let (kind, size) = (entry.header().entry_type(), entry.size());
        if !kind.is_file() {
            return Err(damaged(format!("its member {} is not a regular file ({kind:?})", inner.display())));
        }
        if size > MAX_MEMBER {
            return Err(damaged(format!("its member {} has {size} bytes, more than {MAX_MEMBER}", inner.display())));
        }
        if found.iter().any(|(other, _)| *other == name) {
            return Err(damaged(format!("it has {name} twice")));
        }
        let mut bytes = Vec::new();
        entry.take(size).read_to_end(&mut bytes).map_err(broken)?;
        if bytes.len() as u64 != size {
            return Err(damaged(format!("truncated: {} of the {size} bytes of {name}", bytes.len())));
        }
        found.push((name, bytes));
        Ok(())
    })?;
    found.sort();
    Ok(found)
}
