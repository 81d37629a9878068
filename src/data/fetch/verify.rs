//! Comparing a set's files with everything that is known of them.

use std::path::Path;

use super::sums::{self, LIST, Verdict};
use super::{Manifest, Progress};
use crate::data::origin::{Algorithm, Known};
use crate::data::{self, Format, Splits};
use crate::error::Result;

/// What was found of one file, or of several at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, or what stands for several.
    pub subject: String,
    /// How it compares.
    pub verdict: Verdict,
}

/// Compares the set in `dir`, its folder as [`crate::data::place`] finds it, with the published sums, with the list that fetching left,
/// and with the number of images.
///
/// # Errors
/// [`crate::Error::Io`] when the system refuses to read a file that is there.
pub fn verify(manifest: &Manifest, dir: &Path, progress: &mut dyn Progress) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut add = |subject: &str, verdict| findings.push(Finding { subject: subject.into(), verdict });
    let home = data::home(manifest, dir);
    for file in &manifest.file {
        add(&file.path, sums::check(&home.join(&file.path), file.known(), progress)?);
    }
    for download in &manifest.download {
        let (name, path) = (download.file_name(), home.join(download.file_name()));
        if path.exists() || !download.is_archive() {
            add(name, sums::check(&path, download.known(), progress)?);
        } else {
            add(name, Verdict::Unknown("the archive was not kept, so that its sum cannot be checked".into()));
        }
    }
    match sums::read_list(&home)? {
        Some(list) => add(LIST, against_list(&home, &list, progress)?),
        None => add(LIST, Verdict::Unknown("no list of sums, which `s3gpu dataset fetch` leaves".into())),
    }
    add("images", images(manifest, dir));
    Ok(findings)
}

/// All files of the list at once: a set may have a million.
fn against_list(home: &Path, list: &[(String, String)], progress: &mut dyn Progress) -> Result<Verdict> {
    let mut wrong = Vec::new();
    for (sum, file) in list {
        let known = Known { size: None, sum: Some((Algorithm::Sha256, sum)) };
        if let Verdict::Wrong(what) = sums::check(&home.join(file), known, progress)? {
            wrong.push(format!("{file}: {what}"));
        }
    }
    Ok(match wrong.first() {
        None => Verdict::Right(format!("all {} files are as they were fetched", list.len())),
        Some(first) => {
            let what = format!("{} of {} files are not as they were fetched; first {first}", wrong.len(), list.len());
            Verdict::Wrong(what)
        }
    })
}

/// Reads the set as training would, and counts.
fn images(manifest: &Manifest, dir: &Path) -> Verdict {
    let loaded = data::splits(manifest, Some(dir))
        .and_then(|splits| Ok((splits == Splits::BOTH, data::load(manifest, Some(dir), splits)?)));
    let (split, set) = match loaded {
        Ok(loaded) => loaded,
        Err(e) => return Verdict::Wrong(e.to_string().replace("\n ", ";")),
    };
    let count = |split: &Option<Box<dyn data::Source>>| split.as_ref().map_or(0, |s| s.len());
    let (train, test) = (count(&set.train), count(&set.test));
    let seen = match manifest.format {
        Format::Folder => "which were not decoded",
        _ => "every label in range",
    };
    if !split {
        let found = format!("{} images without a split, {seen}", train + test);
        // Where --val-split makes the split, only the sum is known.
        return match manifest.images.map(|images| images.train + images.test) {
            Some(wanted) if wanted == train + test => Verdict::Right(found),
            Some(wanted) => Verdict::Wrong(format!("{} images without a split, not {wanted}", train + test)),
            None => Verdict::Unknown(format!("{found}; the manifest does not say how many there should be")),
        };
    }
    let found = format!("{train} training and {test} test images, {seen}");
    match manifest.images {
        Some(images) if (images.train, images.test) == (train, test) => Verdict::Right(found),
        Some(images) => {
            Verdict::Wrong(format!("{train} training and {test} test images, not {} and {}", images.train, images.test))
        }
        None => Verdict::Unknown(format!("{found}; the manifest does not say how many there should be")),
    }
}
