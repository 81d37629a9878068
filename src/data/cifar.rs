//! The official binary files of CIFAR-10 and CIFAR-100: records of one or two label bytes and the planes of an image.

use std::{
    fs,
    path::{Path, PathBuf},
};

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

/// Whether a file's name is `pattern`, which may hold one `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
        None => name == pattern,
    }
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
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const BOTH: Splits = Splits { train: true, test: true };

    /// Records whose label bytes are given and whose pixel `i` is `i` plus the last label, cut to a byte.
    fn file(records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for labels in records {
            bytes.extend_from_slice(labels);
            bytes.extend((0..3072usize).map(|i| (i + usize::from(*labels.last().unwrap())) as u8));
        }
        bytes
    }

    /// A folder with these files; a name may hold a subfolder.
    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }

    fn load(name: &str, dir: &Path, splits: Splits) -> Result<(Option<Records>, Option<Records>)> {
        super::load(&Manifest::find(name).unwrap(), dir, splits)
    }

    /// A member of an archive: a file, or a link where the bytes are `None`.
    type Member<'a> = (&'a str, Option<Vec<u8>>);

    fn archive(members: &[Member]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            match bytes {
                Some(bytes) => {
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, name, &bytes[..]).unwrap();
                }
                None => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    tar.append_link(&mut header, name, "/etc/passwd").unwrap();
                }
            }
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    /// The message of a load that must fail, which names `dir`, or `path` in it, and gives a way out on its own line.
    fn refusal(name: &str, dir: &Path, path: &str) -> String {
        let place = if path.is_empty() { dir.to_path_buf() } else { dir.join(path) };
        let error = load(name, dir, BOTH).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}: ", place.display())) && text.contains("\n  "), "{text}");
        text
    }

    #[test]
    fn cifar10_is_read_from_its_folder_and_from_the_parent() {
        for sub in ["", "cifar-10-batches-bin/"] {
            let dir = folder(&[
                (&format!("{sub}data_batch_2.bin"), file(&[&[9]])),
                (&format!("{sub}data_batch_1.bin"), file(&[&[3], &[0], &[5]])),
                (&format!("{sub}test_batch.bin"), file(&[&[1], &[2]])),
                (&format!("{sub}data_batch_1.bin.part"), vec![1, 2, 3]),
                (&format!("{sub}batches.meta.txt"), b"airplane".to_vec()),
            ]);
            let (train, test) = load("cifar10", dir.path(), BOTH).unwrap();
            let (train, test) = (train.unwrap(), test.unwrap());
            assert_eq!((train.labels.as_slice(), test.labels.as_slice()), (&[3, 0, 5, 9][..], &[1, 2][..]));
            assert_eq!((train.image_len, train.pixels.len()), (3072, 4 * 3072));
            // Label byte left out, every image at its place.
            for i in 0..4 {
                assert_eq!(train.image(i)[..2], [train.label(i) as u8, train.label(i) as u8 + 1]);
            }
        }
    }

    #[test]
    fn cifar100_is_read_with_its_fine_labels() {
        for sub in ["", "cifar-100-binary/"] {
            let dir = folder(&[
                (&format!("{sub}train.bin"), file(&[&[19, 99], &[0, 50]])),
                (&format!("{sub}test.bin"), file(&[&[4, 0]])),
            ]);
            let (train, test) = load("cifar100", dir.path(), BOTH).unwrap();
            assert_eq!(train.as_ref().unwrap().labels, [99, 50]);
            assert_eq!(train.unwrap().image(1)[..2], [50, 51]);
            assert_eq!(test.unwrap().labels, [0]);
        }
    }

    #[test]
    fn only_the_wanted_split_is_read() {
        let dir = folder(&[("data_batch_1.bin", vec![1]), ("test_batch.bin", file(&[&[1]]))]);
        let (train, test) = load("cifar10", dir.path(), Splits { train: false, test: true }).unwrap();
        assert_eq!((train, test.map(|t| t.len())), (None, Some(1)));
        refusal("cifar10", dir.path(), "data_batch_1.bin");
    }

    #[test]
    fn a_wrong_folder_is_refused() {
        let dir = folder(&[("note.txt", vec![1])]);
        assert!(refusal("cifar10", dir.path(), "").contains("none of the files of cifar10"));
        assert!(refusal("cifar10", &dir.path().join("nowhere"), "").contains("no such folder"));
        let text = refusal("cifar100", &dir.path().join("note.txt"), "");
        assert!(text.contains("not a folder") && text.contains("cifar-100-binary"), "{text}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = folder(&[("test_batch.bin", file(&[&[1]]))]);
        assert!(refusal("cifar10", dir.path(), "data_batch_*.bin").contains("no such file"));
        let dir = folder(&[("cifar-100-binary/train.bin", file(&[&[1, 1]]))]);
        assert!(refusal("cifar100", dir.path(), "cifar-100-binary/test.bin").contains("no such file"));
    }

    #[test]
    fn damaged_files_are_refused_with_what_is_wrong() {
        let good = || ("test_batch.bin", file(&[&[1]]));
        let mut cut = file(&[&[1], &[2], &[3]]);
        cut.truncate(2 * 3073 + 17);
        for (bytes, words) in [
            (vec![], vec!["empty"]),
            (cut, vec!["truncated", "2 whole records of 3073 bytes", "17 bytes"]),
            (file(&[&[9], &[10]]), vec!["record 1", "label 10", "0 to 9"]),
        ] {
            let dir = folder(&[good(), ("data_batch_3.bin", bytes)]);
            let text = refusal("cifar10", dir.path(), "data_batch_3.bin");
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
        for (labels, words) in [
            ([20, 1], ["record 0", "coarse label 20", "0 to 19"]),
            ([1, 100], ["record 0", "fine label 100", "0 to 99"]),
        ] {
            let dir = folder(&[("train.bin", file(&[&labels])), ("test.bin", file(&[&[1, 1]]))]);
            let text = refusal("cifar100", dir.path(), "train.bin");
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_such_a_file_is_refused_unread() {
        let dir = folder(&[("test_batch.bin", file(&[&[1]])), ("data_batch_1.bin", vec![])]);
        let big = fs::File::options().write(true).open(dir.path().join("data_batch_1.bin")).unwrap();
        // A hole: it takes no space, but would take 256 GiB of memory.
        big.set_len(1 << 38).unwrap();
        assert!(refusal("cifar10", dir.path(), "data_batch_1.bin").contains("at most 1073741824"));

        let dir = folder(&[("train.bin/x", vec![]), ("test.bin", file(&[&[1, 1]]))]);
        assert!(refusal("cifar100", dir.path(), "train.bin").contains("not a regular file"));
    }

    #[test]
    fn the_official_archive_is_read_as_it_is() {
        let [first, second] = [file(&[&[3], &[0]]), file(&[&[9]])];
        let whole = archive(&[
            ("cifar-10-batches-bin/test_batch.bin", Some(file(&[&[1]]))),
            ("cifar-10-batches-bin/data_batch_2.bin", Some(second)),
            ("cifar-10-batches-bin/readme.html", Some(vec![1, 2, 3])),
            ("./cifar-10-batches-bin/data_batch_1.bin", Some(first)),
            // Of another folder.
            ("data_batch_3.bin", Some(vec![1])),
        ]);
        let dir = folder(&[("any.name", whole)]);
        let (train, test) = load("cifar10", &dir.path().join("any.name"), BOTH).unwrap();
        assert_eq!((train.as_ref().unwrap().labels.as_slice(), test.unwrap().labels), (&[3, 0, 9][..], vec![1]));
        assert_eq!(train.unwrap().image(2)[..2], [9, 10]);
    }

    #[test]
    fn hostile_archives_are_refused() {
        let name = "cifar-10-batches-bin/data_batch_1.bin";
        let test = || ("cifar-10-batches-bin/test_batch.bin", Some(file(&[&[1]])));
        let good = archive(&[test(), (name, Some(file(&[&[1]])))]);
        // A tar header that promises 256 GiB.
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_size(1 << 38);
        header.set_cksum();
        let mut promise = GzEncoder::new(Vec::new(), Compression::fast());
        promise.write_all(header.as_bytes()).unwrap();
        for (bytes, words) in [
            (archive(&[test(), (name, None)]), "not a regular file (Symlink)"),
            (archive(&[test(), (name, Some(vec![1])), (name, Some(vec![1]))]), "data_batch_1.bin twice"),
            (archive(&[test(), (name, Some(vec![1; 5000]))]), "truncated: 1 whole records"),
            (
                archive(&[test(), ("data_batch_1.bin", Some(file(&[&[1]])))]),
                "holds no cifar-10-batches-bin/data_batch_*.bin",
            ),
            (promise.finish().unwrap(), "more than 1073741824"),
            (good[..good.len() / 2].to_vec(), "not a whole .tar.gz"),
            ([&good[..30], &[7; 300][..]].concat(), "not a whole .tar.gz"),
        ] {
            let dir = folder(&[("a.tar.gz", bytes)]);
            let text = load("cifar10", &dir.path().join("a.tar.gz"), BOTH).unwrap_err().to_string();
            assert!(
                text.contains(words) && text.contains("a.tar.gz") && text.contains("\n  "),
                "no `{words}` in {text}"
            );
        }
    }

    #[test]
    fn what_the_system_refuses_is_an_io_error() {
        let error = load("cifar10", Path::new("a\0b"), BOTH).unwrap_err();
        assert!(matches!(error, Error::Io { action: "read", .. }), "{error:?}");
        #[cfg(unix)]
        {
            let dir = folder(&[("test_batch.bin", file(&[&[1]]))]);
            let link = dir.path().join("data_batch_1.bin");
            std::os::unix::fs::symlink("gone", &link).unwrap();
            let error = load("cifar10", dir.path(), BOTH).unwrap_err();
            assert!(matches!(&error, Error::Io { path, .. } if *path == link), "{error:?}");
        }
    }
}
