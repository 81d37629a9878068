//! What is in an image folder: its splits, its classes, its files.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;

use rand::RngExt;

use crate::data::picture::{HEAD, sniff};
use crate::data::{Manifest, keyed_rng};
use crate::error::{Error, Result};

/// Folders inside a class's folder are looked through to this depth.
const DEPTH: usize = 8;
/// Names that the folder of the images to measure on may have, the first that exists.
const TEST: [&str; 3] = ["val", "validation", "test"];

/// What `--data-dir` should name.
pub(in crate::data) const EXPECTED: &str =
    "a folder with train/ and val/ (or test/), or one of class folders with --val-split 0.1";

/// Where a folder keeps its splits.
#[derive(Debug, PartialEq)]
pub(super) enum Layout {
    /// In folders of their own, at least one of them.
    Split {
        /// The images to train on.
        train: Option<PathBuf>,
        /// The images to measure on.
        test: Option<PathBuf>,
    },
    /// Nowhere: all images in one folder of class folders.
    Whole(PathBuf),
}

impl Layout {
    /// Looks at `dir`, or at the only folder in it.
    pub fn of(dir: &Path) -> Result<Self> {
        let folders = folders(dir)?;
        let named = |name: &str| folders.iter().any(|f| f == name).then(|| dir.join(name));
        let (train, test) = (named("train"), TEST.into_iter().find_map(named));
        let only_test = folders.iter().all(|f| TEST.contains(&f.as_str()));
        match (train, test) {
            _ if folders.is_empty() => Err(Error::data(dir, "holds no folders of images", hint())),
            (Some(train), None) => Ok(Self::Whole(train)),
            (Some(train), test) => Ok(Self::Split { train: Some(train), test }),
            (None, test @ Some(_)) if only_test => Ok(Self::Split { train: None, test }),
            _ => match &folders[..] {
                [only] if dir.join(only).join("train").is_dir() => Self::of(&dir.join(only)),
                _ => Ok(Self::Whole(dir.into())),
            },
        }
    }

    /// Whether the class folders have these names, in any order.
    pub fn has_classes(&self, names: &[String]) -> bool {
        folders(self.classes())
            .is_ok_and(|found| found.len() == names.len() && names.iter().all(|name| found.contains(name)))
    }

    /// The folder whose class folders name the classes.
    fn classes(&self) -> &Path {
        match self {
            Self::Split { train: Some(dir), .. } | Self::Split { test: Some(dir), .. } | Self::Whole(dir) => dir,
            Self::Split { .. } => Path::new(""),
        }
    }
}

fn hint() -> String {
    format!("let --data-dir name {EXPECTED}")
}

/// The class names of an image folder: its class folders', sorted.
pub(in crate::data) fn class_names(dir: &Path) -> Result<Vec<String>> {
    let layout = Layout::of(dir)?;
    let names = folders(layout.classes())?;
    match names.len() {
        0 | 1 => {
            let what = format!("holds {} class folders, but a network needs at least two classes", names.len());
            Err(Error::data(layout.classes(), what, hint()))
        }
        _ => Ok(names),
    }
}

/// The names of the folders in `dir`, sorted; those that begin with a dot are left out.
fn folders(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in entries(dir)? {
        if !entry.path().is_dir() {
            continue;
        }
        match entry.file_name().into_string() {
            Ok(name) if name.starts_with('.') => {}
            Ok(name) => names.push(name),
            Err(_) => return Err(Error::data(entry.path(), "a class folder's name is not UTF-8", "rename it")),
        }
    }
    names.sort();
    Ok(names)
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>> {
    let read = fs::read_dir(dir).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::data(dir, "no such folder", hint()),
        std::io::ErrorKind::NotADirectory => Error::data(dir, "not a folder", hint()),
        _ => Error::io(dir, "read")(e),
    })?;
    read.map(|entry| entry.map_err(Error::io(dir, "read"))).collect()
}

/// The images of a split.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Folder of the class folders.
    pub root: PathBuf,
    /// Labels, ascending, and paths below the root, sorted within a label.
    pub files: Vec<(u32, PathBuf)>,
    /// Files that are no images, with what is wrong.
    pub refused: Vec<(PathBuf, String)>,
}

/// Finds all images below `root`, whose folders are some of the manifest's classes, with `threads` that look into files.
pub(super) fn images(manifest: &Manifest, root: &Path, threads: usize) -> Result<Found> {
    let names = super::names(manifest);
    let mut labels = Vec::new();
    for folder in folders(root)? {
        let Some(label) = names.iter().position(|name| *name == folder) else {
            let what = format!("its folder `{folder}` is none of the {} classes of {}", names.len(), manifest.name);
            return Err(Error::data(root, what, "rename or remove the folder, or name another data set"));
        };
        labels.push((label as u32, folder));
    }
    labels.sort();
    let mut candidates = Vec::new();
    for (label, folder) in labels {
        let first = candidates.len();
        walk(root, Path::new(&folder), DEPTH, &mut |path| candidates.push((label, path)))?;
        candidates[first..].sort();
    }
    let mut found = Found { root: root.into(), ..Found::default() };
    let share = candidates.len().div_ceil(threads.max(1)).max(1);
    let verdicts: Vec<_> = thread::scope(|scope| {
        let look = |(_, path): &(u32, PathBuf)| look(&root.join(path));
        let parts: Vec<_> = candidates
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(look).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    });
    for ((label, path), verdict) in candidates.into_iter().zip(verdicts) {
        match verdict? {
            None => found.files.push((label, path)),
            Some(what) => found.refused.push((path, what)),
        }
    }
    Ok(found)
}

/// Calls `each` with every file below `root`/`folder`. Folders behind symbolic links are not entered, for they could lead
/// back; names that begin with a dot are left out.
fn walk(root: &Path, folder: &Path, depth: usize, each: &mut impl FnMut(PathBuf)) -> Result<()> {
    for entry in entries(&root.join(folder))? {
        let (name, path) = (entry.file_name(), folder.join(entry.file_name()));
        let kind = entry.file_type().map_err(Error::io(entry.path(), "read"))?;
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if !kind.is_dir() {
            each(path);
        } else if depth > 0 {
            walk(root, &path, depth - 1, each)?;
        }
    }
    Ok(())
}

/// What is wrong with a file by its first bytes, if anything; an error where the system refuses to read it.
fn look(path: &Path) -> Result<Option<String>> {
    // Before it is opened: to open a pipe would wait for its writer.
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Ok(Some("not a regular file".into())),
        Ok(_) => {}
        // A link that leads nowhere is no file.
        Err(e) if path.is_symlink() => return Ok(Some(e.to_string())),
        Err(e) => return Err(Error::io(path, "read")(e)),
    }
    let mut head = Vec::with_capacity(HEAD);
    let read = File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    read.map_err(Error::io(path, "read"))?;
    Ok(sniff(&head).err())
}

/// Cuts a split in two: of each class, the share `test` (at least one image, at most all but one), chosen by the seed.
pub(super) fn split(found: Found, test: f64, seed: u64) -> Result<[Found; 2]> {
    let Found { root, files, refused } = found;
    let part = |refused| Found { root: root.clone(), files: Vec::new(), refused };
    // What is no image is told once, with the images to train on.
    let mut parts = [part(refused), part(Vec::new())];
    for class in files.chunk_by(|a, b| a.0 == b.0) {
        let label = class[0].0;
        if class.len() < 2 {
            let what = format!("{} is the only image of its class, too few to split", class[0].1.display());
            return Err(Error::data(&root, what, "add images, or remove the class's folder"));
        }
        let mut order: Vec<u32> = (0..class.len() as u32).collect();
        let mut rng = keyed_rng(b"s3gpu  val split", seed, label.into());
        for i in (1..class.len() as u32).rev() {
            order.swap(i as usize, rng.random_range(0..=i) as usize);
        }
        let count = ((class.len() as f64 * test).round() as usize).clamp(1, class.len() - 1);
        let mut chosen = vec![false; class.len()];
        order[..count].iter().for_each(|i| chosen[*i as usize] = true);
        for (file, chosen) in class.iter().zip(chosen) {
            parts[usize::from(chosen)].files.push(file.clone());
        }
    }
    Ok(parts)
}
