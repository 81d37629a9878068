//! Data sets: what one is ([`manifest`]), its images in memory ([`Records`]), one reader a format, and the order in
//! which they are shown ([`sampler`]). A new data set is one TOML in `datasets/`, a new format one file here.

use std::path::Path;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::error::{Error, Result};

mod cifar;
pub mod manifest;
pub mod sampler;
mod shapes;

pub use manifest::{Format, Generator, Manifest};

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

/// A data set with the splits that were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// What the data set is.
    pub manifest: Manifest,
    /// The images to train on, if asked for; never empty.
    pub train: Option<Records>,
    /// The images to evaluate on, if asked for; never empty.
    pub test: Option<Records>,
}

impl Dataset {
    /// The images to train on and those to evaluate on, as [`crate::train::Run::start`] takes them.
    ///
    /// # Errors
    /// [`Error::Usage`] where one of the two was not asked for.
    pub fn both(&self) -> Result<[&Records; 2]> {
        match (&self.train, &self.test) {
            (Some(train), Some(test)) => Ok([train, test]),
            _ => Err(Error::usage("a data set was loaded without one of its splits", "ask for both: Splits::BOTH")),
        }
    }
}

/// Reads, or draws, the wanted splits of a data set.
///
/// # Errors
/// [`Error::Usage`] when `data_dir` is missing for a set that is read from files, or given for one that is drawn;
/// [`Error::Data`] when files are missing, empty, truncated, too large or hold a label out of range;
/// [`Error::Io`] when the system refuses to read them.
pub fn load(manifest: &Manifest, data_dir: Option<&Path>, splits: Splits) -> Result<Dataset> {
    let (train, test) = match (manifest.format, data_dir) {
        (Format::Cifar10 | Format::Cifar100, Some(dir)) => cifar::load(manifest, dir, splits)?,
        (Format::Cifar10 | Format::Cifar100, None) => {
            return Err(Error::usage(
                format!("--dataset {} is read from files, but no --data-dir is given", manifest.name),
                format!("add --data-dir FOLDER, {}", cifar::expected(manifest)),
            ));
        }
        (Format::Shapes, None) => shapes::draw(manifest, splits),
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
    };
    Ok(Dataset { manifest: manifest.clone(), train, test })
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
    fn data_dir_is_asked_for_exactly_where_it_is_used() {
        let splits = Splits { train: true, test: true };
        for (name, dir, words) in [
            ("cifar10", None, ["--data-dir", "data_batch_*.bin"]),
            ("cifar100", None, ["--data-dir", "train.bin"]),
            ("shapes", Some(Path::new("photos")), ["photos", "drop --data-dir"]),
        ] {
            let error = load(&Manifest::find(name).unwrap(), dir, splits).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            for word in words {
                assert!(error.to_string().contains(word), "{error}");
            }
        }
    }
}
