//! What the fuzz targets share: a folder in memory, into which each input is put as the file that a reader opens.

pub use libfuzzer_sys;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

/// The folder of this process; in memory where the system has such a place, since every input is written there.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let make = || {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        made.expect("a folder for the inputs")
    };
    FOLDER.get_or_init(make).path()
}

/// Puts an input where a reader finds it, by a name that may have folders in it.
pub fn put(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("a folder");
    std::fs::write(&path, bytes).expect("room for an input");
    path
}

/// Gzip'd: its sum would keep nearly every changed file from being read at all.
pub fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("memory takes it");
    packed.finish().expect("memory takes it")
}

/// The bytes as a tar whose headers have the sums that belong to them, for the same reason.
pub fn summed(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut tar = bytes.to_vec();
    let mut at = 0usize;
    while let Some(block) = tar.get_mut(at..at.saturating_add(BLOCK)) {
        let mut header = tar::Header::from_byte_slice(block).clone();
        if block.iter().any(|byte| *byte != 0) {
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
        at = at.saturating_add(BLOCK).saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
    }
    tar
}

/// Cuts an input in two: two bytes of the first part's length, that part, the rest.
pub fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes {
        [low, high, rest @ ..] => rest.split_at(rest.len().min(u16::from_le_bytes([*low, *high]).into())),
        _ => (bytes, &[]),
    }
}

/// A target that puts every input under a name and hands the path to a reader. Whatever that returns is right; only a panic, a
/// crash, a hang or memory without bounds is wrong.
#[macro_export]
macro_rules! reads {
    ($name:expr, $reader:expr) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            let path = $crate::put($name, bytes);
            let reader: fn(&std::path::Path) = $reader;
            reader(&path);
        });
    };
}

/// A target for a reader of text; bytes that are not UTF-8 are skipped.
#[macro_export]
macro_rules! parses {
    ($reader:expr) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            let reader: fn(&str) = $reader;
            if let Ok(text) = std::str::from_utf8(bytes) {
                reader(text);
            }
        });
    };
}
