//! IDX files, the format of MNIST and Fashion-MNIST: a big-endian header and unsigned bytes, gzip'd or not.

use std::fs::{self, File};
use std::io::{BufReader, Chain, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::{Manifest, Records, Splits};
use crate::error::{Error, Result};

/// Bytes of a file's content at most; MNIST's largest has 47 MB.
const MAX_BYTES: usize = 1 << 30;
const AGAIN: &str = "the file is damaged or not of this data set: fetch it again";

/// Words for a hint: the folder that `--data-dir` should name.
pub(super) const EXPECTED: &str = "the folder of train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (.gz or not)";

/// Reads the wanted splits (train, test) from `dir`, which is the folder of the files, one of the files, or a parent.
pub(super) fn load(manifest: &Manifest, dir: &Path, splits: Splits) -> Result<(Option<Records>, Option<Records>)> {
    let home = home(manifest, dir)?;
    let read = |wanted: bool, split| wanted.then(|| read_split(manifest, &home, split)).transpose();
    Ok((read(splits.train, "train")?, read(splits.test, "t10k")?))
}

/// The folder of the files.
pub(super) fn home(manifest: &Manifest, dir: &Path) -> Result<PathBuf> {
    let hint = || format!("let --data-dir name {EXPECTED}");
    let home = match fs::metadata(dir) {
        Ok(found) if found.is_dir() => dir,
        Ok(_) => dir.parent().unwrap_or(dir),
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(Error::data(dir, "no such folder", hint())),
        Err(e) => return Err(Error::io(dir, "read")(e)),
    };
    let homes = [home.to_path_buf(), home.join("raw"), home.join(&manifest.name)];
    let holds = |home: &PathBuf| ["train", "t10k"].iter().any(|split| find(home, split, "images", 3).is_some());
    let found = homes.into_iter().find(holds);
    found.ok_or_else(|| Error::data(dir, format!("holds none of the files of {}", manifest.name), hint()))
}

/// The file of one kind, by any of the names in use.
fn find(home: &Path, split: &str, kind: &str, rank: usize) -> Option<PathBuf> {
    let names = ["-", "."].map(|dot| format!("{split}-{kind}{dot}idx{rank}-ubyte"));
    let names = names.iter().flat_map(|name| [home.join(name), home.join(format!("{name}.gz"))]);
    names.into_iter().find(|path| path.exists())
}

fn read_split(manifest: &Manifest, home: &Path, split: &str) -> Result<Records> {
    let need = |kind, rank| {
        find(home, split, kind, rank).ok_or_else(|| {
            let path = home.join(format!("{split}-{kind}-idx{rank}-ubyte"));
            Error::data(path, "no such file", format!("--data-dir takes {EXPECTED}"))
        })
    };
    let (image_path, label_path) = (need("images", 3)?, need("labels", 1)?);
    let (shape, pixels) = read(&image_path, 3)?;
    if shape[1..] != [manifest.height, manifest.width] {
        let what = format!(
            "its images have {} x {} pixels, but those of {} have {} x {}",
            shape[1], shape[2], manifest.name, manifest.height, manifest.width
        );
        return Err(Error::data(image_path, what, "choose the --dataset that the file is of"));
    }
    let (count, labels) = read(&label_path, 1)?;
    if count[0] != shape[0] {
        let what = format!("{} labels for {} images", count[0], shape[0]);
        return Err(Error::data(label_path, what, AGAIN));
    }
    if labels.is_empty() {
        return Err(Error::data(image_path, "it holds no image", AGAIN));
    }
    let classes = manifest.classes.len();
    if let Some((i, label)) = labels.iter().enumerate().find(|(_, label)| usize::from(**label) >= classes) {
        let what = format!("record {i} has label {label}, but labels go from 0 to {}", classes - 1);
        return Err(Error::data(label_path, what, AGAIN));
    }
    let labels = labels.into_iter().map(u32::from).collect();
    Ok(Records { pixels, labels, image_len: manifest.image_len() })
}

/// The extents and the bytes of a file of `rank` dimensions.
fn read(path: &Path, rank: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let damaged = |what: String| Error::data(path, what, AGAIN);
    let found = fs::metadata(path).map_err(Error::io(path, "read"))?;
    if !found.is_file() {
        return Err(damaged("not a regular file".into()));
    }
    let fails = |e: std::io::Error| match e.kind() {
        ErrorKind::UnexpectedEof => damaged("truncated".into()),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => damaged(format!("not whole gzip data: {e}")),
        _ => Error::io(path, "read")(e),
    };
    let mut reader = content(path)?;
    let mut header = vec![0; 4 + 4 * rank];
    reader.read_exact(&mut header).map_err(fails)?;
    if header[..4] != [0, 0, 8, rank as u8] {
        let what = format!("not IDX with {rank} dimensions of bytes: it begins with {:02x?}", &header[..4]);
        return Err(damaged(what));
    }
    let extent = |b: &[u8]| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize;
    let shape: Vec<usize> = header[4..].chunks_exact(4).map(extent).collect();
    let length = shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
    let Some(length) = length.filter(|length| *length <= MAX_BYTES) else {
        return Err(damaged(format!("its header asks for {shape:?} bytes, but at most {MAX_BYTES} are read")));
    };
    // It grows with what is there, not with what the header promises; one byte more than promised is one too many.
    let mut bytes = Vec::new();
    reader.take(length as u64 + 1).read_to_end(&mut bytes).map_err(fails)?;
    match bytes.len().cmp(&length) {
        std::cmp::Ordering::Equal => Ok((shape, bytes)),
        std::cmp::Ordering::Less => Err(damaged(format!("truncated: {} of {length} bytes", bytes.len()))),
        std::cmp::Ordering::Greater => Err(damaged(format!("more than the {length} bytes of its header"))),
    }
}

/// A file's bytes, unpacked where they begin like gzip's.
fn content(path: &Path) -> Result<Box<dyn Read>> {
    let mut file = File::open(path).map_err(Error::io(path, "read"))?;
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic).map_err(Error::io(path, "read"))?;
    let packed = magic == [0x1f, 0x8b];
    let whole: BufReader<Chain<Cursor<Vec<u8>>, File>> = BufReader::new(Cursor::new(magic).chain(file));
    Ok(if packed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::data;

    const BOTH: Splits = Splits { train: true, test: true };

    fn idx(shape: &[u32], bytes: impl IntoIterator<Item = u8>) -> Vec<u8> {
        let mut file = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|extent| file.extend(extent.to_be_bytes()));
        file.extend(bytes);
        file
    }

    fn images(count: u32) -> Vec<u8> {
        idx(&[count, 28, 28], (0..count * 784).map(|i| (i % 251) as u8))
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }

    fn mnist(dir: &Path) -> Result<(Records, Records)> {
        let (train, test) = load(&Manifest::find("mnist").unwrap(), dir, BOTH)?;
        Ok((train.unwrap(), test.unwrap()))
    }

    #[test]
    fn every_name_in_use_is_found_packed_or_not() {
        for (sub, dot, packed) in [("", "-", false), ("raw/", ".", false), ("mnist/", "-", true), ("", ".", true)] {
            let put = |name: &str, rank, bytes: Vec<u8>| {
                let end = if packed { ".gz" } else { "" };
                (format!("{sub}{name}{dot}idx{rank}-ubyte{end}"), if packed { gz(&bytes) } else { bytes })
            };
            let files = [
                put("train-images", 3, images(3)),
                put("train-labels", 1, idx(&[3], [9, 0, 4])),
                put("t10k-images", 3, images(1)),
                put("t10k-labels", 1, idx(&[1], [7])),
            ];
            let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
            let dir = folder(&files);
            let (train, test) = mnist(dir.path()).unwrap();
            assert_eq!((&train.labels[..], &test.labels[..]), (&[9, 0, 4][..], &[7][..]));
            assert_eq!(train.image(1)[..3], [784 % 251, 785 % 251, 786 % 251].map(|v| v as u8));
            // One of the files stands for its folder.
            if sub.is_empty() {
                assert_eq!(mnist(&dir.path().join(files[0].0)).unwrap(), (train, test));
            }
        }
    }

    #[test]
    fn only_the_wanted_split_is_read_and_the_name_does_not_decide_what_is_packed() {
        let dir = folder(&[
            ("t10k-images-idx3-ubyte.gz", images(2)),
            ("t10k-labels-idx1-ubyte", gz(&idx(&[2], [1, 2]))),
            ("train-images-idx3-ubyte", vec![1]),
        ]);
        let manifest = Manifest::find("fashion-mnist").unwrap();
        let set = data::load(&manifest, Some(dir.path()), Splits { train: false, test: true }).unwrap();
        assert!(set.train.is_none());
        assert_eq!((set.test.as_ref().unwrap().len(), set.test.unwrap().label(1)), (2, 2));
    }

    #[test]
    fn damaged_files_are_refused_with_what_is_wrong() {
        let labels = || idx(&[2], [1, 2]);
        let cases = [
            ("images-idx3", vec![], "truncated"),
            ("images-idx3", images(2)[..10].to_vec(), "truncated"),
            ("images-idx3", images(2)[..1000].to_vec(), "truncated: 984 of 1568 bytes"),
            ("images-idx3", [images(2), vec![0]].concat(), "more than the 1568 bytes"),
            ("images-idx3", gz(&images(2))[..300].to_vec(), "truncated"),
            ("images-idx3", [&gz(&images(2))[..40], &[7; 400][..]].concat(), "gzip"),
            ("images-idx3", idx(&[2, 28], [0; 56]), "not IDX with 3 dimensions"),
            ("images-idx3", [&[0, 0, 13, 3][..], &images(2)[4..]].concat(), "00, 00, 0d, 03"),
            ("images-idx3", b"<html>404 not found</html>".to_vec(), "3c, 68, 74, 6d"),
            // Refused before anything of that size is allocated.
            ("images-idx3", idx(&[u32::MAX, u32::MAX, u32::MAX], []), "at most 1073741824"),
            ("images-idx3", idx(&[1 << 20, 1 << 10, 2], []), "at most 1073741824"),
            ("images-idx3", gz(&idx(&[1_000_000, 28, 28], [0; 100])), "truncated: 100 of 784000000 bytes"),
            ("images-idx3", idx(&[2, 32, 32], [0; 2048]), "32 x 32 pixels, but those of mnist have 28 x 28"),
            ("images-idx3", idx(&[0, 28, 28], []), "2 labels for 0 images"),
            ("labels-idx1", idx(&[3], [1, 2, 3]), "3 labels for 2 images"),
            ("labels-idx1", idx(&[2], [1, 10]), "record 1 has label 10, but labels go from 0 to 9"),
            ("labels-idx1", idx(&[2], [1]), "truncated: 1 of 2 bytes"),
        ];
        for (kind, bytes, words) in cases {
            let test = [("t10k-images-idx3-ubyte", images(1)), ("t10k-labels-idx1-ubyte", idx(&[1], [7]))];
            let [image, label] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
            let dir = folder(&[&test[..], &[(image, images(2)), (label, labels())]].concat());
            let name = format!("train-{kind}-ubyte");
            fs::write(dir.path().join(&name), bytes).unwrap();
            let text = mnist(dir.path()).unwrap_err().to_string();
            assert!(text.contains(words) && text.contains("\n  "), "no `{words}` in {text}");
        }
    }

    #[test]
    fn missing_files_are_named() {
        let dir = folder(&[("train-images-idx3-ubyte", images(2)), ("note.txt", vec![1])]);
        let text = mnist(dir.path()).unwrap_err().to_string();
        assert!(text.contains("train-labels-idx1-ubyte: no such file"), "{text}");
        let text = mnist(&dir.path().join("nowhere")).unwrap_err().to_string();
        assert!(text.contains("no such folder") && text.contains("train-images-idx3-ubyte"), "{text}");
        let text = mnist(folder(&[("note.txt", vec![1])]).path()).unwrap_err().to_string();
        assert!(text.contains("none of the files of mnist"), "{text}");
        let dir = folder(&[("train-images-idx3-ubyte/x", vec![]), ("train-labels-idx1-ubyte", idx(&[1], [1]))]);
        assert!(mnist(dir.path()).unwrap_err().to_string().contains("not a regular file"));
        let empty =
            folder(&[("train-images-idx3-ubyte", idx(&[0, 28, 28], [])), ("train-labels-idx1-ubyte", idx(&[0], []))]);
        assert!(mnist(empty.path()).unwrap_err().to_string().contains("no image"));
    }
}
