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
    for (labels, words) in
        [([20, 1], ["record 0", "coarse label 20", "0 to 19"]), ([1, 100], ["record 0", "fine label 100", "0 to 99"])]
    {
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
        assert!(text.contains(words) && text.contains("a.tar.gz") && text.contains("\n  "), "no `{words}` in {text}");
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
