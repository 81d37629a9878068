//! Data sets: what one is ([`manifest`]), its images in memory ([`Records`]) or decoded on the way, one reader a format,
//! what hands them out ([`source`]) ahead of time ([`ahead`]), and the order in which they are shown ([`sampler`]). Where
//! a set comes from ([`origin`]), how it gets here ([`mod@fetch`]), where it is found ([`place`]), and what is in it
//! ([`stats`]). A new data set is one TOML in `datasets/`, a new format one file here.

use std::path::{Path, PathBuf};

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::error::{Error, Result};

pub mod ahead;
mod cifar;
pub mod fetch;
mod folder;
mod idx;
pub mod manifest;
pub mod origin;
mod pattern;
mod picture;
pub mod place;
pub mod sampler;
mod shapes;
pub mod source;
pub mod stats;
mod tarball;
mod transform;

pub use ahead::Ahead;
pub use manifest::{Format, Generator, Manifest};
pub use source::{Source, View};
pub use transform::Jitter;

/// Images and their labels, all in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// N × C × H × W bytes: planar, as in the official CIFAR files.
    pub pixels: Vec<u8>,
    /// N class indices.
    pub labels: Vec<u32>,
    /// C · H · W, the bytes of one image.
    pub image_len: usize,
}

impl Records {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The C × H × W bytes of image `i`, which must be below [`Records::len`].
    pub fn image(&self, i: usize) -> &[u8] {
        &self.pixels[i * self.image_len..][..self.image_len]
    }

    /// The class index of image `i`, which must be below [`Records::len`].
    pub fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }
}

/// The parts of a data set that are wanted; the others are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splits {
    /// The images to train on.
    pub train: bool,
    /// The images to evaluate on.
    pub test: bool,
}

impl Splits {
    /// The images to train on and those to evaluate on.
    pub const BOTH: Self = Self { train: true, test: true };
    /// The images to evaluate on alone.
    pub const TEST: Self = Self { train: false, test: true };
}

/// How a data set is read, beside what its manifest says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Seed of the random crops, colours and split of image folders.
    pub seed: u64,
    /// Whether the images to train on are shown with random crops and colours.
    pub augment: bool,
    /// Share of each class that is kept to measure on, for image folders without a split of their own.
    pub val_split: Option<f64>,
    /// Threads that decode; 0 stands for as many as the machine has.
    pub threads: usize,
    /// Bytes of decoded images that are kept for the next epoch.
    pub cache: u64,
    /// Whether a damaged file is an error.
    pub strict: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self { seed: 0, augment: true, val_split: None, threads: 0, cache: 0, strict: false }
    }
}

impl Reading {
    /// Threads that decode, at least 1.
    pub fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.threads == 0 { all() } else { self.threads }
    }
}

/// A data set with the splits that were asked for.
#[derive(Debug)]
pub struct Dataset {
    /// What the data set is.
    pub manifest: Manifest,
    /// The images to train on, if asked for; never empty.
    pub train: Option<Box<dyn Source>>,
    /// The images to evaluate on, if asked for; never empty.
    pub test: Option<Box<dyn Source>>,
}

impl Dataset {
    /// The images to train on and those to evaluate on, as [`crate::train::Run::start`] takes them.
    ///
    /// # Errors
    /// [`Error::Usage`] where one of the two was not asked for.
    pub fn both(&self) -> Result<[&dyn Source; 2]> {
        match (&self.train, &self.test) {
            (Some(train), Some(test)) => Ok([&**train, &**test]),
            _ => Err(Error::usage("a data set was loaded without one of its splits", "ask for both: Splits::BOTH")),
        }
    }
}

/// Opens the wanted splits of a data set, read as [`Reading::default`] says.
///
/// # Errors
/// As [`open`].
pub fn load(manifest: &Manifest, data_dir: Option<&Path>, splits: Splits) -> Result<Dataset> {
    open(manifest, data_dir, splits, &Reading::default())
}

/// Reads, draws, or lists the wanted splits of a data set. What is read from files is looked for in `data_dir`, or without
/// one in all of [`place::Places`].
///
/// # Errors
/// [`Error::Usage`] when a set that is read from files is not found, or `data_dir` is given for one that is drawn;
/// [`Error::Data`] when files are missing, empty, truncated, too large or hold a label out of range;
/// [`Error::Io`] when the system refuses to read them.
pub fn open(manifest: &Manifest, data_dir: Option<&Path>, splits: Splits, reading: &Reading) -> Result<Dataset> {
    let manifest = complete(manifest.clone(), data_dir)?;
    if let (Some(_), false) = (reading.val_split, manifest.format == Format::Folder) {
        let what = format!("--val-split is given, but {} has images to measure on of its own", manifest.name);
        return Err(Error::usage(what, "leave --val-split out; it is for image folders"));
    }
    let dir = || place::Places::new(data_dir).find(&manifest);
    let advised = |error| place::advised(error, &manifest, data_dir);
    let (train, test) = match (manifest.format, data_dir) {
        (Format::Shapes, None) => boxed(shapes::draw(&manifest, splits)),
        (Format::Shapes, Some(dir)) => {
            return Err(Error::usage(
                format!(
                    "--dataset {} is drawn by the program and reads no --data-dir {}",
                    manifest.name,
                    dir.display()
                ),
                "drop --data-dir, or name the data set that lies there with --dataset",
            ));
        }
        (Format::Cifar10 | Format::Cifar100, _) => boxed(cifar::load(&manifest, &dir()?, splits).map_err(advised)?),
        (Format::Idx, _) => boxed(idx::load(&manifest, &dir()?, splits).map_err(advised)?),
        (Format::Folder, _) => boxed(folder::load(&manifest, &dir()?, splits, reading).map_err(advised)?),
    };
    Ok(Dataset { manifest, train, test })
}

/// The manifest with its classes, which an image folder's may leave to the folders' names, in `data_dir` or where else it
/// is found.
///
/// # Errors
/// [`Error::Usage`] without a folder, [`Error::Data`] for one without class folders.
pub fn complete(mut manifest: Manifest, data_dir: Option<&Path>) -> Result<Manifest> {
    if manifest.classes.is_empty() {
        let dir = place::Places::new(data_dir).find(&manifest)?;
        manifest.classes = folder::class_names(&dir).map_err(|e| place::advised(e, &manifest, data_dir))?;
    }
    Ok(manifest)
}

/// Whether an image folder has no images to measure on beside those to train on, so that [`Reading::val_split`] applies.
///
/// # Errors
/// As [`complete`].
pub fn lacks_split(manifest: &Manifest, data_dir: Option<&Path>) -> Result<bool> {
    folder::lacks_split(&place::Places::new(data_dir).find(manifest)?)
}

/// The splits that a data set has without [`Reading::val_split`]: both, but for image folders that have one alone.
///
/// # Errors
/// As [`complete`].
pub fn splits(manifest: &Manifest, data_dir: Option<&Path>) -> Result<Splits> {
    match manifest.format {
        Format::Folder => {
            let dir = place::Places::new(data_dir).find(manifest)?;
            folder::splits(&dir).map_err(|e| place::advised(e, manifest, data_dir))
        }
        _ => Ok(Splits::BOTH),
    }
}

/// The images to train on and those to evaluate on, as far as they were asked for.
type Pair = (Option<Box<dyn Source>>, Option<Box<dyn Source>>);

fn boxed<S: Source + 'static>(splits: (Option<S>, Option<S>)) -> Pair {
    let boxed = |split: Option<S>| split.map(|s| Box::new(s) as Box<dyn Source>);
    (boxed(splits.0), boxed(splits.1))
}

/// The folder in or below `dir` in which the paths of the manifest's files begin.
fn home(manifest: &Manifest, dir: &Path) -> PathBuf {
    let found = match manifest.format {
        Format::Cifar10 | Format::Cifar100 => cifar::home_in(manifest, dir),
        Format::Idx => idx::home(manifest, dir),
        Format::Folder | Format::Shapes => Ok(dir.into()),
    };
    found.unwrap_or_else(|_| dir.into())
}

/// Words for a hint: the folder that `--data-dir` should name.
fn expected(manifest: &Manifest) -> String {
    match manifest.format {
        Format::Cifar10 | Format::Cifar100 => cifar::expected(manifest),
        Format::Idx => idx::EXPECTED.into(),
        Format::Folder | Format::Shapes => folder::EXPECTED.into(),
    }
}

/// Random numbers for one `purpose` and one `index` (an epoch, a record) of a seed. The three together are ChaCha's
/// key, so streams never overlap, whatever is drawn from another one; the same on every platform.
fn keyed_rng(purpose: &[u8; 16], seed: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&index.to_le_bytes());
    key[16..].copy_from_slice(purpose);
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_at_the_image_length() {
        let records = Records { pixels: (0..12).collect(), labels: vec![7, 8, 9], image_len: 4 };
        assert_eq!((records.len(), records.is_empty()), (3, false));
        assert_eq!((records.image(1), records.label(1)), (&[4, 5, 6, 7][..], 8));
        assert!(Records::default().is_empty());
    }

    #[test]
    fn only_image_folders_are_split() {
        let reading = Reading { val_split: Some(0.1), ..Reading::default() };
        let splits = Splits { train: true, test: true };
        let error = open(&Manifest::find("shapes").unwrap(), None, splits, &reading).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("leave --val-split out"), "{error}");
    }

    #[test]
    fn a_drawn_set_takes_no_data_dir() {
        let splits = Splits { train: true, test: true };
        let shapes = Manifest::find("shapes").unwrap();
        let error = load(&shapes, Some(Path::new("photos")), splits).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        for word in ["photos", "drop --data-dir"] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
