//! What a data set is: the TOML files of `datasets/`, carried by the binary, and those of users, by their paths.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::origin::{self, Download, Images, KnownFile};
use super::shapes;
use super::transform::Jitter;
use crate::error::{Error, Result, did_you_mean};

/// The built-in manifests: name and text. The name is also the file's stem.
const BUILT_IN: [(&str, &str); 8] = [
    ("cifar10", include_str!("../../datasets/cifar10.toml")),
    ("cifar100", include_str!("../../datasets/cifar100.toml")),
    ("shapes", include_str!("../../datasets/shapes.toml")),
    ("mnist", include_str!("../../datasets/mnist.toml")),
    ("fashion-mnist", include_str!("../../datasets/fashion-mnist.toml")),
    ("imagenette", include_str!("../../datasets/imagenette.toml")),
    ("imagenet", include_str!("../../datasets/imagenet.toml")),
    ("folder", include_str!("../../datasets/folder.toml")),
];

/// How the images of a data set are stored or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// CIFAR-10's binary files: a label byte, then the planes.
    Cifar10,
    /// CIFAR-100's binary files: a coarse and a fine label byte, then the planes.
    Cifar100,
    /// IDX files, as of MNIST.
    Idx,
    /// JPEG, PNG and WebP files in a folder for each class.
    Folder,
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
    /// Class names; a label is an index into them. Empty for [`Format::Folder`] where the folders' names are to be taken.
    #[serde(default)]
    pub classes: Vec<String>,
    /// For [`Format::Folder`]: the class folders' names in the order of the classes, where they differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
    /// Mean of each channel over the training images, of pixels scaled to 0 … 1. Length C.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, likewise.
    pub std: Vec<f32>,
    /// Augmentation: zero pixels added on each side before a random crop back to H × W. For [`Format::Folder`], 0 means
    /// random resized crops instead.
    pub pad: usize,
    /// Augmentation: whether images are mirrored left to right at random.
    pub flip: bool,
    /// Augmentation, for [`Format::Folder`] only: random changes of colour.
    pub jitter: Option<Jitter>,
    /// For [`Format::Shapes`] only.
    pub generator: Option<Generator>,
    /// How many images it has, if that is known.
    pub images: Option<Images>,
    /// Training settings that suit it, by the keys of a run's config.toml.
    pub recipe: Option<toml::Table>,
    /// How to get it where it cannot be fetched.
    pub obtain: Option<String>,
    /// What to fetch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub download: Vec<Download>,
    /// What is known of its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file: Vec<KnownFile>,
    /// The file that it was read from; none where it is built in.
    #[serde(skip)]
    pub path: Option<PathBuf>,
}

impl Manifest {
    /// The names that [`Manifest::find`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The built-in data set of that name, or a user's own by the path of its TOML: anything that ends in `.toml` or has
    /// a folder in it.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name; it lists the known ones. [`Error::Io`] for a file that cannot be read; else
    /// as [`Manifest::parse`].
    pub fn find(name: &str) -> Result<Self> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::parse(text, &format!("datasets/{name}.toml"));
        }
        let path = Path::new(name);
        if path.extension().is_some_and(|e| e == "toml") || path.components().count() > 1 {
            return Self::read(path);
        }
        let near = did_you_mean(name, Self::names());
        let known: Vec<_> = Self::names().collect();
        let hint = format!("{near}--dataset takes one of: {}; or the path of a set's own TOML", known.join(", "));
        Err(Error::usage(format!("unknown data set `{name}`"), hint))
    }

    fn read(path: &Path) -> Result<Self> {
        /// Far more than any manifest has.
        const MOST: u64 = 1 << 24;
        const HINT: &str = "name the TOML that describes the set; the program's own in datasets/ are examples";
        let found = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
        if !found.is_file() || found.len() > MOST {
            return Err(Error::data(path, "not a data set's manifest", HINT));
        }
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let text = String::from_utf8(bytes).map_err(|_| Error::data(path, "not a text in UTF-8", HINT))?;
        let mut manifest = Self::parse(&text, &path.display().to_string())?;
        manifest.path = Some(path.into());
        Ok(manifest)
    }

    /// What `--dataset` takes for this set: its name, or the path of its file.
    pub fn reference(&self) -> String {
        self.path.as_ref().map_or_else(|| self.name.clone(), |path| path.display().to_string())
    }

    /// Why there is nothing to fetch, and what to do instead.
    pub(super) fn unfetched(&self) -> (String, String) {
        let name = &self.name;
        match (&self.obtain, self.format) {
            (_, Format::Shapes) => {
                (format!("{name} is drawn by the program: there is nothing to fetch"), "use it as it is".into())
            }
            (Some(obtain), _) => (format!("{name} cannot be fetched by a program"), obtain.clone()),
            (None, _) => {
                let hint = "add a [[download]] with its url, or name the folder of its files by --data-dir";
                (format!("the manifest of {name} names nothing to fetch"), hint.into())
            }
        }
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

    /// The same with images of another size, for an image folder, or another crop.
    ///
    /// # Errors
    /// [`Error::Usage`] where the format's size is fixed, or they cannot be.
    pub fn with(mut self, image_size: Option<usize>, pad: Option<usize>) -> Result<Self> {
        if let (Some(size), false) = (image_size, self.format == Format::Folder) {
            let what = format!("--image-size is {size}, but {} has {} x {} pixels", self.name, self.height, self.width);
            return Err(Error::usage(what, "leave --image-size out; it is for image folders"));
        }
        if let Some(size) = image_size {
            (self.height, self.width) = (size, size);
        }
        self.pad = pad.unwrap_or(self.pad);
        match self.fault() {
            None => Ok(self),
            Some(fault) => Err(Error::usage(fault, "choose another --image-size or --pad")),
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
        if !origin::is_name(&self.name) {
            return Some(format!("name is `{}`, but must be letters, digits, `-`, `_` and `.`", self.name));
        }
        if let Some(fault) = origin::fault(&self.download, &self.file) {
            return Some(fault);
        }
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
        let folder = self.format == Format::Folder;
        let distinct = |names: &[String]| names.iter().collect::<std::collections::BTreeSet<_>>().len();
        let from_folders = folder && self.classes.is_empty();
        if !from_folders && (distinct(&self.classes) < self.classes.len() || self.classes.len() < 2) {
            return Some("classes must be at least two different names".into());
        }
        if !folder && (self.jitter.is_some() || !self.folders.is_empty()) {
            return Some("folders and [jitter] are for the format folder only".into());
        }
        if !self.folders.is_empty() && [self.folders.len(), distinct(&self.folders)] != [self.classes.len(); 2] {
            return Some("folders must be as many different names as there are classes".into());
        }
        if let Some(fault) = self.jitter.and_then(|jitter| jitter.fault()) {
            return Some(fault);
        }
        match (self.format, &self.generator) {
            (Format::Shapes, _) => {}
            (_, Some(_)) => return Some("[generator] is for the format shapes only".into()),
            (Format::Idx, _) if self.channels != 1 => {
                return Some(format!("channels is {}, but this format's images have 1", self.channels));
            }
            (Format::Folder, _) if ![1, 3].contains(&self.channels) => {
                return Some(format!("channels is {}, but must be 1 (grey) or 3 (colour)", self.channels));
            }
            (Format::Folder, _) => {}
            // A label is one byte there.
            _ if self.classes.len() > 256 => {
                return Some(format!("{} classes, but this format's labels end at 255", self.classes.len()));
            }
            _ => {}
        }
        match (self.format, &self.generator) {
            (Format::Shapes, None) => Some("the format shapes needs [generator] with seed, train and test".into()),
            (Format::Shapes, Some(g)) if g.train == 0 || g.test == 0 => {
                Some("[generator] must ask for at least one training and one test image".into())
            }
            (Format::Shapes, Some(_)) => shapes::fault(self),
            _ => None,
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
            let shape = (manifest.channels, manifest.height, manifest.width, manifest.pad, manifest.flip);
            let want = match manifest.format {
                Format::Cifar10 | Format::Cifar100 | Format::Shapes => (3, 32, 32, 4, true),
                Format::Idx => (1, 28, 28, 2, name == "fashion-mnist"),
                Format::Folder => (3, 224, 224, 0, true),
            };
            assert_eq!(shape, want, "{name}");
        }
        assert_eq!(Manifest::find("cifar10").unwrap().image_len(), 3072);
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
    fn a_users_own_manifest_is_read_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        let find = |path: &Path| Manifest::find(path.to_str().unwrap());
        assert!(find(&path).unwrap_err().to_string().contains("mine.toml: cannot read"));
        std::fs::write(&path, BUILT_IN[0].1.replace("\"cifar10\"\ntitle", "\"mine\"\ntitle")).unwrap();
        assert_eq!(find(&path).unwrap().name, "mine");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(find(&path).unwrap_err().to_string().contains("mine.toml"));
        std::fs::write(&path, "name = 3").unwrap();
        assert!(find(&path).unwrap_err().to_string().contains("not a data set's manifest"));
    }

    #[test]
    fn damaged_manifests_are_refused_by_key() {
        let [cifar, mnist, imagenette, shapes] =
            ["cifar10", "mnist", "imagenette", "shapes"].map(|n| BUILT_IN.iter().find(|b| b.0 == n).unwrap().1);
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
            (cifar, "name = \"cifar10\"", "name = \"../cifar10\"", "../cifar10"),
            (cifar, "flip = true", "flip = true\n[jitter]\ncontrast = 0.4", "jitter"),
            (mnist, "channels = 1", "channels = 3", "mean"),
            (imagenette, "channels = 3", "channels = 4", "mean"),
            (imagenette, "\"tench\"", "\"parachute\"", "classes"),
            (imagenette, "\"n01440764\"", "\"n03888257\"", "folders"),
            (imagenette, "flip = true", "flip = true\n[jitter]\ncontrast = -0.4", "contrast is -0.4"),
            (imagenette, "flip = true", "flip = true\n[jitter]\nhue = 0.4", "hue"),
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
