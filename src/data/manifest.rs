//! What a data set is: the TOML files of `datasets/`, carried by the binary.

use serde::{Deserialize, Serialize};

use super::shapes;
use crate::error::{Error, Result};

/// The built-in manifests: name and text. The name is also the file's stem.
const BUILT_IN: [(&str, &str); 3] = [
    ("cifar10", include_str!("../../datasets/cifar10.toml")),
    ("cifar100", include_str!("../../datasets/cifar100.toml")),
    ("shapes", include_str!("../../datasets/shapes.toml")),
];

/// How the images of a data set are stored or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// CIFAR-10's binary files: a label byte, then the planes.
    Cifar10,
    /// CIFAR-100's binary files: a coarse and a fine label byte, then the planes.
    Cifar100,
    /// Drawn by the program.
    Shapes,
}

/// What a data set that is drawn by the program is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// The seed; the same one gives the same bytes on every platform.
    pub seed: u64,
    /// Number of training images.
    pub train: usize,
    /// Number of test images.
    pub test: usize,
}

/// One data set: format, shape, classes, normalization and augmentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name that `--dataset` takes.
    pub name: String,
    /// A line that says what it is.
    pub title: String,
    /// How it is stored or made.
    pub format: Format,
    /// On what terms it may be used.
    pub licence: String,
    /// Image channels, C.
    pub channels: usize,
    /// Image height in pixels, H.
    pub height: usize,
    /// Image width in pixels, W.
    pub width: usize,
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// Mean of each channel over the training images, of pixels scaled to 0 … 1. Length C.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, likewise.
    pub std: Vec<f32>,
    /// Augmentation: zero pixels added on each side before a random crop back to H × W.
    pub pad: usize,
    /// Augmentation: whether images are mirrored left to right at random.
    pub flip: bool,
    /// For [`Format::Shapes`] only.
    pub generator: Option<Generator>,
    /// Keys of a configuration that suit this data set, in place of the defaults.
    pub recipe: Option<toml::Table>,
}

impl Manifest {
    /// The names that [`Manifest::find`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The built-in data set of that name.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name; it lists the known ones.
    pub fn find(name: &str) -> Result<Self> {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            let known: Vec<_> = Self::names().collect();
            Error::usage(format!("unknown data set `{name}`"), format!("--dataset takes one of: {}", known.join(", ")))
        })?;
        Self::parse(text, &format!("datasets/{name}.toml"))
    }

    /// A manifest from its TOML text; `path` is where it is from, for the errors.
    ///
    /// # Errors
    /// [`Error::Data`] for text that is not TOML, missing, unknown or ill-typed keys, and values that do not go
    /// together.
    pub fn parse(text: &str, path: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text).map_err(|e| {
            Error::data(path, format!("not a data set's manifest: {e}"), "correct the key that it names")
        })?;
        match manifest.fault() {
            None => Ok(manifest),
            Some(fault) => Err(Error::data(path, fault, "correct the manifest")),
        }
    }

    /// C · H · W, the bytes of one image.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The first value that cannot be, if any.
    fn fault(&self) -> Option<String> {
        // Large enough for any image set, small enough that C · H · W fits 32 bits with room to spare.
        const LARGEST_SIDE: usize = 4096;
        let sides = [
            ("channels", self.channels, 4),
            ("height", self.height, LARGEST_SIDE),
            ("width", self.width, LARGEST_SIDE),
        ];
        for (key, value, limit) in sides {
            if value == 0 || value > limit {
                return Some(format!("{key} is {value}, but must be between 1 and {limit}"));
            }
        }
        if self.pad > self.height.min(self.width) {
            return Some(format!("pad is {}, more than the image's shorter side", self.pad));
        }
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != self.channels {
                return Some(format!("{key} has {} values for {} channels", values.len(), self.channels));
            }
        }
        if !self.mean.iter().all(|m| m.is_finite()) || !self.std.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Some("mean must be finite, and std finite and above 0".into());
        }
        let distinct: std::collections::BTreeSet<_> = self.classes.iter().collect();
        if distinct.len() < self.classes.len() || self.classes.len() < 2 {
            return Some("classes must be at least two different names".into());
        }
        match (self.format, &self.generator) {
            (Format::Cifar10 | Format::Cifar100, Some(_)) => Some("[generator] is for the format shapes only".into()),
            // A label is one byte there.
            (Format::Cifar10 | Format::Cifar100, None) if self.classes.len() > 256 => {
                Some(format!("{} classes, but this format's labels end at 255", self.classes.len()))
            }
            (Format::Cifar10 | Format::Cifar100, None) => None,
            (Format::Shapes, None) => Some("the format shapes needs [generator] with seed, train and test".into()),
            (Format::Shapes, Some(g)) if g.train == 0 || g.test == 0 => {
                Some("[generator] must ask for at least one training and one test image".into())
            }
            (Format::Shapes, Some(_)) => shapes::fault(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_manifests_are_what_they_say() {
        for (name, _) in BUILT_IN {
            let manifest = Manifest::find(name).unwrap();
            assert_eq!(manifest.name, name);
            assert_eq!((manifest.channels, manifest.height, manifest.width), (3, 32, 32));
            assert_eq!(manifest.image_len(), 3072);
            assert_eq!((manifest.pad, manifest.flip), (4, true));
        }
        assert_eq!(Manifest::find("cifar10").unwrap().classes.len(), 10);
        // The official order of the fine labels is alphabetical.
        let fine = Manifest::find("cifar100").unwrap().classes;
        assert_eq!(fine.len(), 100);
        assert!(fine.is_sorted());
    }

    #[test]
    fn unknown_name_lists_the_known_ones() {
        let error = Manifest::find("cifar11").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(["cifar11", "cifar10, cifar100, shapes"].iter().all(|part| text.contains(part)), "{text}");
    }

    #[test]
    fn damaged_manifests_are_refused_by_key() {
        let [cifar, shapes] = ["cifar10", "shapes"].map(|n| BUILT_IN.iter().find(|b| b.0 == n).unwrap().1);
        for (text, from, to, word) in [
            (cifar, "pad = 4", "pad = 4\ncolour = 1", "colour"),
            (cifar, "pad = 4", "", "pad"),
            (cifar, "pad = 4", "pad = 33", "pad"),
            (cifar, "pad = 4", "pad = -4", "-4"),
            (cifar, "height = 32", "height = 0", "height"),
            (cifar, "channels = 3", "channels = 2", "channels"),
            (cifar, "std = [0.2470", "std = [0.0", "std"),
            (cifar, "mean = [0.4914", "mean = [nan", "mean"),
            (cifar, "\"bird\"", "\"cat\"", "classes"),
            (cifar, "\"cifar10\"\nlicence", "\"png\"\nlicence", "png"),
            (cifar, "flip = true", "flip = true\n[generator]\nseed = 1\ntrain = 1\ntest = 1", "[generator]"),
            (shapes, "train = 8000", "train = 0", "training"),
            (shapes, "train = 8000", "train = 8000\ntrane = 1", "trane"),
            (shapes, "\"star\"", "\"sun\"", "sun"),
            (shapes, "width = 32", "width = 64", "32"),
            (shapes, "\n[generator]\nseed = 1\ntrain = 8000\ntest = 2000", "", "[generator]"),
        ] {
            assert!(text.contains(from), "the test's own `{from}` is not in the manifest");
            let error = Manifest::parse(&text.replace(from, to), "some.toml").unwrap_err().to_string();
            assert!(error.contains("some.toml") && error.contains(word), "{from} -> {to}: {error}");
        }
    }
}
