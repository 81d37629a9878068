//! Where a data set comes from: the parts of a manifest that say what to download and what is known of its files.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

/// How many images a data set has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// To train on.
    pub train: usize,
    /// To evaluate on.
    pub test: usize,
}

/// A file on a server: an archive whose `members` are unpacked, or, without any, a file of the set as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Its address, `http` or `https`; the last part is the file's name.
    pub url: String,
    /// Addresses of the same file, tried in this order where the first fails.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// SHA-256 as 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// MD5 as 32 hexadecimal digits; good against damage, not against malice.
    pub md5: Option<String>,
    /// Patterns of the archive's members that belong to the set; nothing else is unpacked. A `*` stands for any
    /// characters within one part of a path.
    #[serde(default)]
    pub members: Vec<String>,
    /// Leading folders that are taken off the members' paths.
    #[serde(default)]
    pub strip: usize,
    /// The most bytes that the members may have together; an archive that holds more is refused.
    pub unpacked: Option<u64>,
}

/// What is known of a file of the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFile {
    /// Path below the set's folder, with `/`.
    pub path: String,
    /// Bytes.
    pub size: Option<u64>,
    /// SHA-256 as 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// MD5 as 32 hexadecimal digits.
    pub md5: Option<String>,
}

/// How a sum is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// MD5.
    Md5,
}

/// What a file must be, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// Bytes.
    pub size: Option<u64>,
    /// The best sum that is known, in hexadecimal digits.
    pub sum: Option<(Algorithm, &'a str)>,
}

impl<'a> Known<'a> {
    fn new(size: Option<u64>, sha256: &'a Option<String>, md5: &'a Option<String>) -> Self {
        let sha256 = sha256.as_deref().map(|s| (Algorithm::Sha256, s));
        Self { size, sum: sha256.or_else(|| Some((Algorithm::Md5, md5.as_deref()?))) }
    }
}

impl Download {
    /// The file's name: the last part of its address.
    pub fn file_name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is unpacked.
    pub fn is_archive(&self) -> bool {
        !self.members.is_empty()
    }

    /// Size and sum, as far as they are known.
    pub fn known(&self) -> Known<'_> {
        Known::new(self.size, &self.sha256, &self.md5)
    }

    fn fault(&self) -> Option<String> {
        let url = &self.url;
        for address in std::iter::once(url).chain(&self.mirrors) {
            if !address.starts_with("http://") && !address.starts_with("https://") {
                return Some(format!("[[download]] has the address `{address}`, but only http and https are spoken"));
            }
        }
        if !is_plain_path(self.file_name()) || self.file_name().contains(['?', '#', '%']) {
            return Some(format!("[[download]] url `{url}` does not end in a file's name"));
        }
        if self.is_archive() && self.unpacked.is_none() {
            return Some(format!("[[download]] of {url} has members, but not the most bytes of them, `unpacked`"));
        }
        if !self.is_archive() && (self.unpacked.is_some() || self.strip > 0) {
            return Some(format!("[[download]] of {url} has `unpacked` or `strip`, but no members"));
        }
        if let Some(bad) = self.members.iter().find(|m| !is_plain_path(m) || m.split('/').count() <= self.strip) {
            return Some(format!("[[download]] of {url} has the member `{bad}`, which is no path below the archive"));
        }
        sum_fault(&self.sha256, &self.md5).map(|what| format!("[[download]] of {url}: {what}"))
    }
}

impl KnownFile {
    /// Size and sum, as far as they are known.
    pub fn known(&self) -> Known<'_> {
        Known::new(self.size, &self.sha256, &self.md5)
    }
}

/// The first thing that cannot be in these parts of a manifest.
pub(super) fn fault(downloads: &[Download], files: &[KnownFile]) -> Option<String> {
    if let Some(fault) = downloads.iter().find_map(Download::fault) {
        return Some(fault);
    }
    let mut names: Vec<_> = downloads.iter().map(Download::file_name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Some(format!("two [[download]] have the name {}", twice[0]));
    }
    for file in files {
        if !is_plain_path(&file.path) {
            return Some(format!("[[file]] path `{}` is no path below the set's folder", file.path));
        }
        if let Some(what) = sum_fault(&file.sha256, &file.md5) {
            return Some(format!("[[file]] {}: {what}", file.path));
        }
    }
    None
}

/// Whether a name can be a folder's: letters, digits, `-`, `_` and `.`, no dot in front.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(plain)
}

/// Whether a path stays below the folder that it is joined to, on every system.
pub(super) fn is_plain_path(path: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, '\\' | ':');
    !path.is_empty()
        && !path.contains(bad)
        && path.split('/').all(|part| !part.is_empty())
        && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

fn sum_fault(sha256: &Option<String>, md5: &Option<String>) -> Option<String> {
    for (name, sum, digits) in [("sha256", sha256, 64), ("md5", md5, 32)] {
        let is_hex = |s: &str| s.len() == digits && s.bytes().all(|b| b.is_ascii_hexdigit());
        if let Some(sum) = sum.as_deref().filter(|s| !is_hex(s)) {
            return Some(format!("{name} is `{sum}`, but must be {digits} hexadecimal digits"));
        }
    }
    None
}
