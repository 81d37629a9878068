//! The official binary files of CIFAR-10 and CIFAR-100: records of one or two label bytes and the planes of an image.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::pattern::matches;
use super::{Format, Manifest, Records, Splits, tarball};
use crate::error::{Error, Result};

/// The largest file that is read; the official ones are below 160 MB.
const MAX_FILE_BYTES: u64 = 1 << 30;
const UNPACK: &str = "the file is damaged or not of this data set: unpack the archive again";

/// Where a format keeps its files, and what a record's label bytes are.
struct Layout {
    /// The folder that the official archive unpacks to.
    folder: &'static str,
    /// Training files: `PREFIX*.bin`, or exactly one file where the prefix is a whole name.
    train: &'static str,
    /// The test file.
    test: &'static str,
    /// The label bytes in front of the pixels, with the number of classes of each; the last one is the class.
    labels: Vec<(&'static str, usize)>,
}

impl Layout {
    fn of(manifest: &Manifest) -> Self {
        let classes = manifest.classes.len();
        if manifest.format == Format::Cifar100 {
            Self {
                folder: "cifar-100-binary",
                train: "train.bin",
                test: "test.bin",
                labels: vec![("coarse label", 20), ("fine label", classes)],
            }
        } else {
            Self {
                folder: "cifar-10-batches-bin",
                train: "data_batch_*.bin",
                test: "test_batch.bin",
                labels: vec![("label", classes)],
            }
        }
    }
}

/// Words for a hint: the folder that `--data-dir` should name.
pub(super) fn expected(manifest: &Manifest) -> String {
    let Layout { folder, train, test, .. } = Layout::of(manifest);
    format!(
        "the binary version, as its .tar.gz or unpacked: the folder {folder} with {train} and {test}, or its parent"
    )
}

/// The folder that holds the files: `dir` or the official folder in it.
pub(super) fn home_in(manifest: &Manifest, dir: &Path) -> Result<PathBuf> {
    home(manifest, &Layout::of(manifest), dir)
}

/// Reads the wanted splits (train, test) from `dir`, which is the folder of the files, its parent, or the official archive.
pub(super) fn load(manifest: &Manifest, dir: &Path, splits: Splits) -> Result<(Option<Records>, Option<Records>)> {
    let layout = Layout::of(manifest);
    if dir.is_file() && tarball::is_one(dir) {
        return unpack(manifest, &layout, dir, splits);
    }
    let home = home(manifest, &layout, dir)?;
    let read = |wanted: bool, pattern: &str| wanted.then(|| read_split(manifest, &layout, &home, pattern)).transpose();
    Ok((read(splits.train, layout.train)?, read(splits.test, layout.test)?))
}

/// Reads the wanted splits from the archive.
fn unpack(
    manifest: &Manifest,
    layout: &Layout,
    archive: &Path,
    splits: Splits,
) -> Result<(Option<Records>, Option<Records>)> {
    let parts = [(splits.train, layout.train), (splits.test, layout.test)];
    let wanted = |name: &str| parts.iter().any(|(wanted, pattern)| *wanted && matches(pattern, name));
    let members = tarball::members(archive, |folder, name| folder == layout.folder && wanted(name))?;
    let [train, test] = parts.map(|(wanted, pattern)| {
        let read = || {
            let mut records = Records { image_len: manifest.image_len(), ..Records::default() };
            for (name, bytes) in members.iter().filter(|(name, _)| matches(pattern, name)) {
                append(&mut records, layout, &archive.join(name), bytes)?;
            }
            match records.is_empty() {
                true => Err(Error::data(archive, format!("it holds no {}/{pattern}", layout.folder), UNPACK)),
                false => Ok(records),
            }
        };
        wanted.then(read).transpose()
    });
    Ok((train?, test?))
}

/// The folder that holds the files: `dir` or the official folder in it.
fn home(manifest: &Manifest, layout: &Layout, dir: &Path) -> Result<PathBuf> {
    let hint = || format!("let --data-dir name {}", expected(manifest));
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Error::data(dir, "not a folder, nor a .tar.gz", hint())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::data(dir, "no such folder", hint())),
        Err(e) => return Err(Error::io(dir, "read")(e)),
    }
    for home in [dir.to_path_buf(), dir.join(layout.folder)] {
        if home.is_dir() && (!find(&home, layout.train)?.is_empty() || !find(&home, layout.test)?.is_empty()) {
            return Ok(home);
        }
    }
    Err(Error::data(dir, format!("holds none of the files of {}", manifest.name), hint()))
}

/// The files in `home` whose name is `pattern`, which may hold one `*`; sorted by name.
fn find(home: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(home).map_err(Error::io(home, "read"))? {
        let entry = entry.map_err(Error::io(home, "read"))?;
        if entry.file_name().to_str().is_some_and(|name| matches(pattern, name)) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// All records of the files that match `pattern`.
fn read_split(manifest: &Manifest, layout: &Layout, home: &Path, pattern: &str) -> Result<Records> {
    let files = find(home, pattern)?;
    if files.is_empty() {
        let hint = format!("unpack the whole archive again; --data-dir takes {}", expected(manifest));
        return Err(Error::data(home.join(pattern), "no such file", hint));
    }
    let mut records = Records { image_len: manifest.image_len(), ..Records::default() };
    for file in files {
        append(&mut records, layout, &file, &read(&file)?)?;
    }
    Ok(records)
}

/// The bytes of one file.
fn read(path: &Path) -> Result<Vec<u8>> {
    let found = fs::metadata(path).map_err(Error::io(path, "read"))?;
    if !found.is_file() {
        return Err(Error::data(path, "not a regular file", UNPACK));
    }
    if found.len() > MAX_FILE_BYTES {
        let what = format!("{} bytes, but a file of this format has at most {MAX_FILE_BYTES}", found.len());
        return Err(Error::data(path, what, UNPACK));
    }
    fs::read(path).map_err(Error::io(path, "read"))
}

/// Appends the records of one file.
fn append(records: &mut Records, layout: &Layout, path: &Path, bytes: &[u8]) -> Result<()> {
    let record_len = layout.labels.len() + records.image_len;
    let (whole, rest) = (bytes.len() / record_len, bytes.len() % record_len);
    if bytes.is_empty() {
        return Err(Error::data(path, "the file is empty", UNPACK));
    }
    if rest != 0 {
        let what = format!("truncated: {whole} whole records of {record_len} bytes, then {rest} bytes of another");
        return Err(Error::data(path, what, UNPACK));
    }
    records.pixels.reserve(whole * records.image_len);
    records.labels.reserve(whole);
    for (index, record) in bytes.chunks_exact(record_len).enumerate() {
        let (labels, pixels) = record.split_at(layout.labels.len());
        for ((name, classes), label) in layout.labels.iter().zip(labels) {
            if usize::from(*label) >= *classes {
                let what = format!("record {index} has {name} {label}, but labels go from 0 to {}", classes - 1);
                return Err(Error::data(path, what, UNPACK));
            }
        }
        records.labels.extend(labels.last().map(|label| u32::from(*label)));
        records.pixels.extend_from_slice(pixels);
    }
    Ok(())
}

#[cfg(test)]
#[path = "cifar_tests.rs"]
mod tests;
