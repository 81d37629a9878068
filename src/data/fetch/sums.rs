//! Sums of files, and the list of them that is kept beside a fetched set in the form of `sha256sum`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::Digest;

use super::Progress;
use crate::data::origin::{Algorithm, Known};
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// The list's name. `sha256sum -c SHA256SUMS` reads it, too.
pub(crate) const LIST: &str = "SHA256SUMS";

/// How a file compares with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be; says by what.
    Right(String),
    /// Not so; says how.
    Wrong(String),
    /// Nothing is known to compare it with, or a part cannot be; says what.
    Unknown(String),
}

/// Compares size first, then the sum.
pub(crate) fn check(path: &Path, known: Known, progress: &mut dyn Progress) -> Result<Verdict> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Verdict::Wrong("missing".into())),
        Err(e) => return Err(Error::io(path, "read")(e)),
    };
    if !found.is_file() {
        return Ok(Verdict::Wrong("not a regular file".into()));
    }
    if let Some(size) = known.size.filter(|size| *size != found.len()) {
        return Ok(Verdict::Wrong(format!("{} bytes, not {size}", found.len())));
    }
    let Some((algorithm, wanted)) = known.sum else {
        return Ok(match known.size {
            Some(size) => Verdict::Unknown(format!("{size} bytes, as it should have; no sum of it is known")),
            None => Verdict::Unknown("neither its size nor a sum of it is known".into()),
        });
    };
    let sum = of(path, algorithm, progress)?;
    let name = algorithm.name();
    Ok(match sum.eq_ignore_ascii_case(wanted) {
        true => Verdict::Right(format!("{name} {sum}")),
        false => Verdict::Wrong(format!("its {name} is {sum}, not {wanted}")),
    })
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }
}

/// A file's sum in hexadecimal digits.
pub(crate) fn of(path: &Path, algorithm: Algorithm, progress: &mut dyn Progress) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path, "read"))?;
    progress.begin(&format!("checking {}", super::name_of(path)), file.metadata().ok().map(|m| m.len()), 0);
    let sum = match algorithm {
        Algorithm::Sha256 => digest::<sha2::Sha256>(&mut file, progress),
        Algorithm::Md5 => digest::<md5::Md5>(&mut file, progress),
    };
    sum.map_err(Error::io(path, "read"))
}

fn digest<D: Digest>(from: &mut File, progress: &mut dyn Progress) -> io::Result<String> {
    let (mut hasher, mut buffer) = (D::new(), vec![0; 1 << 18]);
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(&buffer[..n]);
        progress.advance(n as u64);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Syncs the files of a folder, given by their paths below it, and writes the list of their sums.
pub(super) fn seal(folder: &Path, files: &[String], progress: &mut dyn Progress) -> Result<()> {
    let mut list = String::new();
    for file in files {
        let path = folder.join(file);
        list += &format!("{}  {file}\n", of(&path, Algorithm::Sha256, progress)?);
        // Written before, synced last: by now the system has most of it on the disk.
        File::options().write(true).open(&path).and_then(|f| f.sync_all()).map_err(Error::io(&path, "sync"))?;
    }
    write_atomic(folder.join(LIST), |out| out.write_all(list.as_bytes()))
}

/// The list of a folder as (sum, path below it); none where there is no list.
pub(super) fn read_list(folder: &Path) -> Result<Option<Vec<(String, String)>>> {
    /// Larger than that of any set that an archive brings.
    const MOST: u64 = 1 << 28;
    let path = folder.join(LIST);
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() && found.len() <= MOST => {}
        Ok(_) => return Err(Error::data(&path, "not a list of sums", "remove it, or fetch the set again")),
        Err(_) => return Ok(None),
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
    let lines = text.lines().enumerate().map(|(i, line)| {
        let parts = line.split_once("  ").filter(|(sum, file)| sum.len() == 64 && super::origin::is_plain_path(file));
        let (sum, file) = parts.ok_or_else(|| {
            Error::data(&path, format!("line {} is not a sum and a path", i + 1), "remove it, or fetch the set again")
        })?;
        Ok((sum.to_string(), file.to_string()))
    });
    lines.collect::<Result<_>>().map(Some)
}
