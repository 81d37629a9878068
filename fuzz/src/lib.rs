//! What the fuzz targets share: a folder in memory, into which each input is put as the file that a reader opens.

pub use libfuzzer_sys;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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
