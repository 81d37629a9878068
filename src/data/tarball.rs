//! Chosen members of a .tar.gz, read into memory within bounds. Nothing is unpacked to the disk, so no path of the archive
//! leads anywhere.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// Bytes of a member at most; CIFAR-100's largest has 154 MB.
const MAX_MEMBER: u64 = 1 << 30;
/// Bytes of an unpacked archive at most, of all members together.
const MAX_TOTAL: u64 = 2 << 30;
const AGAIN: &str = "the archive is damaged or another one: fetch it again";

/// Whether a file begins like a gzip'd archive.
pub(super) fn is_one(path: &Path) -> bool {
    let mut magic = Vec::new();
    let read = File::open(path).and_then(|file| file.take(2).read_to_end(&mut magic));
    read.is_ok() && magic == [0x1f, 0x8b]
}

/// The members whose folder and file name are wanted, as name and bytes, sorted by name.
pub(super) fn members(path: &Path, wanted: impl Fn(&str, &str) -> bool) -> Result<Vec<(String, Vec<u8>)>> {
    let damaged = |what: String| Error::data(path, what, AGAIN);
    let broken = |e: std::io::Error| damaged(format!("not a whole .tar.gz: {e}"));
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let mut archive = tar::Archive::new(MultiGzDecoder::new(BufReader::new(file)).take(MAX_TOTAL));
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let inner = entry.path().map_err(broken)?.into_owned();
        let part = |part: Option<&std::ffi::OsStr>| part.and_then(|p| p.to_str()).unwrap_or_default().to_string();
        let (folder, name) = (part(inner.parent().and_then(Path::file_name)), part(inner.file_name()));
        if !wanted(&folder, &name) {
            continue;
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
    }
    found.sort();
    Ok(found)
}
