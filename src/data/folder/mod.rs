//! Image folders: a folder a class, in it JPEG, PNG and WebP files, which are decoded when they are asked for.

mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub(super) use scan::{EXPECTED, class_names};
use scan::{Found, Layout};

use super::picture::{Picture, decode};
use super::transform::Transform;
use super::{Manifest, Reading, Source, Splits, View, keyed_rng};
use crate::error::{Error, Result};

/// Bytes of an image's file at most.
const MAX_FILE: u64 = 256 << 20;
/// Files that a remark names; the rest is counted.
const NAMED: usize = 5;

/// A split of an image folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    channels: usize,
    /// Labels, ascending, and paths below the root.
    files: Vec<(u32, PathBuf)>,
    transform: Transform,
    reading: Reading,
    cache: Cache,
    /// What the folder holds beside images.
    refused: Vec<(PathBuf, String)>,
    /// Images that turned out to be damaged, by index, with what is wrong.
    damaged: Mutex<BTreeMap<u32, String>>,
}

/// Opens the wanted splits (train, test) of the folder `dir`.
pub(super) fn load(
    manifest: &Manifest,
    dir: &Path,
    splits: Splits,
    reading: &Reading,
) -> Result<(Option<Folder>, Option<Folder>)> {
    let find = |root: &Path| scan::images(manifest, root, reading.threads());
    let (train, test) = match (Layout::of(dir)?, reading.val_split) {
        (Layout::Split { test: Some(own), .. }, Some(_)) => {
            let what = format!("--val-split is given, but the folder has images to measure on in {}", own.display());
            return Err(Error::usage(what, "leave --val-split out"));
        }
        (Layout::Split { train, test }, _) => {
            let missing = |wanted: bool, part: &Option<PathBuf>, name| match (wanted, part) {
                (true, None) => Err(Error::data(dir, format!("has no {name}"), format!("--data-dir takes {EXPECTED}"))),
                (wanted, part) => wanted.then(|| find(part.as_deref().unwrap_or(dir))).transpose(),
            };
            (missing(splits.train, &train, "train/")?, missing(splits.test, &test, "val/ or test/")?)
        }
        (Layout::Whole(root), Some(share)) => {
            if !(share > 0.0 && share < 1.0) {
                return Err(Error::usage(format!("--val-split is {share}"), "it must be above 0 and below 1"));
            }
            let [train, test] = scan::split(find(&root)?, share, reading.seed)?;
            (splits.train.then_some(train), splits.test.then_some(test))
        }
        (Layout::Whole(root), None) if splits.train && splits.test => {
            let hint = "--val-split 0.1 keeps 10 % of each class to measure on; or put the images into train/ and val/";
            return Err(Error::data(root, "has no images to measure on beside those to train on", hint));
        }
        (Layout::Whole(root), None) => {
            let find = |wanted: bool| wanted.then(|| find(&root)).transpose();
            (find(splits.train)?, find(splits.test)?)
        }
    };
    // One bound for both: together they keep no more than was allowed.
    let room = Arc::new(AtomicU64::new(reading.cache));
    let open = |found: Option<Found>, train| found.map(|f| Folder::new(manifest, f, train, reading, &room)).transpose();
    Ok((open(train, true)?, open(test, false)?))
}

/// Whether the folder `dir` looks like the set's: it has a folder for each of its classes and no other, or, where the
/// manifest leaves the classes open, images to train on and others to measure on.
pub(super) fn is_of(manifest: &Manifest, dir: &Path) -> bool {
    match Layout::of(dir) {
        Err(_) => false,
        Ok(layout) if manifest.classes.is_empty() => {
            matches!(layout, Layout::Split { train: Some(_), test: Some(_) })
        }
        Ok(layout) => layout.has_classes(names(manifest)),
    }
}

/// The names of the class folders, in the order of the classes.
fn names(manifest: &Manifest) -> &[String] {
    if manifest.folders.is_empty() { &manifest.classes } else { &manifest.folders }
}

/// Whether the folder `dir` has no split of its own.
pub(super) fn lacks_split(dir: &Path) -> Result<bool> {
    Ok(matches!(Layout::of(dir)?, Layout::Whole(_)))
}

/// The splits that the folder `dir` has without being cut in two: one that lacks a split has images to train on alone.
pub(super) fn splits(dir: &Path) -> Result<Splits> {
    Ok(match Layout::of(dir)? {
        Layout::Split { train, test } => Splits { train: train.is_some(), test: test.is_some() },
        Layout::Whole(_) => Splits { train: true, test: false },
    })
}

impl Folder {
    fn new(manifest: &Manifest, found: Found, train: bool, reading: &Reading, room: &Arc<AtomicU64>) -> Result<Self> {
        let Found { root, files, refused } = found;
        if let (true, Some((path, what))) = (reading.strict, refused.first()) {
            return Err(Error::data(root.join(path), what, "remove the file, or leave --strict out"));
        }
        let missing = |label: &usize| files.binary_search_by_key(label, |(l, _)| *l as usize).is_err();
        if let (true, Some(label)) = (train, (0..manifest.classes.len()).find(missing)) {
            let what = format!("the class folder `{}` is missing or holds no image", names(manifest)[label]);
            return Err(Error::data(root, what, remark(&refused).unwrap_or_else(|| "add images to it".into())));
        }
        if files.is_empty() {
            let hint = remark(&refused).unwrap_or_else(|| format!("--data-dir takes {EXPECTED}"));
            return Err(Error::data(root, "holds no image in its class folders", hint));
        }
        if u32::try_from(files.len()).is_err() {
            return Err(Error::data(root, format!("{} images are too many", files.len()), "at most 2^32 − 1 fit"));
        }
        let augment = train && reading.augment;
        let transform = Transform {
            size: [manifest.height as u32, manifest.width as u32],
            random_crop: augment && manifest.pad == 0,
            margin: manifest.pad == 0,
            jitter: manifest.jitter.filter(|_| augment),
        };
        Ok(Self {
            root,
            channels: manifest.channels,
            cache: Cache::new(files.len(), room.clone()),
            files,
            transform,
            reading: *reading,
            refused,
            damaged: Mutex::default(),
        })
    }

    /// Image `i` ready for the random part of its transform, or what is wrong with it. That it cannot be read at all (a
    /// disk that is gone, too many open files) says nothing of the image: the outer error.
    fn prepared(&self, i: usize) -> Result<Result<Cow<'_, Picture>, String>> {
        if let Some(kept) = self.cache.get(i) {
            return Ok(Ok(Cow::Borrowed(kept)));
        }
        let (path, mut bytes) = (self.root.join(&self.files[i].1), Vec::new());
        let read = File::open(&path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
        read.map_err(Error::io(path, "read"))?;
        if bytes.len() as u64 > MAX_FILE {
            return Ok(Err(format!("more than {MAX_FILE} bytes")));
        }
        let picture = decode(&bytes, self.channels).and_then(|picture| self.transform.prepare(picture));
        Ok(picture.map(|picture| self.cache.keep(i, picture)))
    }

    /// Image `i`, or the next whole one of its class where it is damaged: labels and counts stay as they are.
    fn whole(&self, i: usize) -> Result<Cow<'_, Picture>> {
        let class = self.class(i);
        let after = i - class.start;
        for step in 0..class.len() {
            let at = class.start + (after + step) % class.len();
            if self.damaged().contains_key(&(at as u32)) {
                continue;
            }
            match self.prepared(at)? {
                Ok(picture) => return Ok(picture),
                Err(what) if self.reading.strict => {
                    let hint = "replace or remove the file, or leave --strict out";
                    return Err(Error::data(self.root.join(&self.files[at].1), what, hint));
                }
                Err(what) => drop(self.damaged().insert(at as u32, what)),
            }
        }
        let folder = self.root.join(&self.files[i].1);
        let what = format!("all {} images of its class are damaged", class.len());
        Err(Error::data(folder, what, "replace the files, or remove the class's folder"))
    }

    /// The indices of the images of `i`'s class.
    fn class(&self, i: usize) -> Range<usize> {
        let label = self.files[i].0;
        self.files.partition_point(|(l, _)| *l < label)..self.files.partition_point(|(l, _)| *l <= label)
    }

    fn damaged(&self) -> MutexGuard<'_, BTreeMap<u32, String>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn label(&self, i: usize) -> u32 {
        self.files[i].0
    }

    fn image_len(&self) -> usize {
        self.channels * self.transform.size.iter().map(|s| *s as usize).product::<usize>()
    }

    fn fill(&self, indices: &[u32], view: View, pixels: &mut [u8]) -> Result<()> {
        for (index, to) in indices.iter().zip(pixels.chunks_exact_mut(self.image_len())) {
            let picture = self.whole(*index as usize)?;
            let image = match view {
                View::Test => self.transform.test(&picture),
                View::Train { epoch } => {
                    let place = u64::from(epoch) << 32 | u64::from(*index);
                    self.transform.train(&picture, &mut keyed_rng(b"s3gpu crop&color", self.reading.seed, place))
                }
            };
            let wrong = |what| Error::data(self.root.join(&self.files[*index as usize].1), what, "remove the file");
            image.map_err(wrong)?.planar(to);
        }
        Ok(())
    }

    fn threads(&self) -> usize {
        self.reading.threads()
    }

    fn remarks(&self) -> Vec<String> {
        let damaged: Vec<_> =
            self.damaged().iter().map(|(i, what)| (self.files[*i as usize].1.clone(), what.clone())).collect();
        let line = |files: &[(PathBuf, String)], what: &str| {
            let count = if files.len() == 1 { "1 file is".into() } else { format!("{} files are", files.len()) };
            remark(files).map(|names| format!("{}: {count} {what}: {names}", self.root.display()))
        };
        let parts =
            [line(&self.refused, "left out"), line(&damaged, "damaged, each replaced by the next of its class")];
        parts.into_iter().flatten().collect()
    }
}

/// The first files by name, with what is wrong.
fn remark(files: &[(PathBuf, String)]) -> Option<String> {
    let more = files.len().checked_sub(NAMED).filter(|more| *more > 0);
    let named = files.iter().take(NAMED).map(|(path, what)| format!("{} ({what})", path.display()));
    let parts: Vec<_> = named.chain(more.map(|more| format!("and {more} more"))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Prepared pictures, kept until their bytes reach a bound: the first ones to come, since an epoch asks for each once and
/// so none is better to keep than another.
#[derive(Debug)]
struct Cache {
    slots: Vec<OnceLock<Picture>>,
    /// Bytes that may still be kept, shared with the set's other split.
    left: Arc<AtomicU64>,
}

impl Cache {
    fn new(images: usize, left: Arc<AtomicU64>) -> Self {
        let slots = if left.load(Ordering::Relaxed) == 0 { 0 } else { images };
        Self { slots: (0..slots).map(|_| OnceLock::new()).collect(), left }
    }

    fn get(&self, i: usize) -> Option<&Picture> {
        self.slots.get(i)?.get()
    }

    /// Keeps the picture if there is room.
    fn keep(&self, i: usize, picture: Picture) -> Cow<'_, Picture> {
        let Some(slot) = self.slots.get(i) else { return Cow::Owned(picture) };
        let bytes = picture.pixels.len() as u64;
        let room = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        match room {
            Err(_) => Cow::Owned(picture),
            Ok(_) => {
                let mut mine = Some(picture);
                let kept = slot.get_or_init(|| mine.take().expect("taken once"));
                // Another thread was faster.
                if mine.is_some() {
                    self.left.fetch_add(bytes, Ordering::Relaxed);
                }
                Cow::Borrowed(kept)
            }
        }
    }
}
