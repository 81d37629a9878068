//! An archive that is fetched: it is unpacked within bounds, and nothing of it lies anywhere but in the set's folder.
#![no_main]

use std::fs;
use std::path::Path;

use s3gpu::data::Manifest;
use s3gpu::data::fetch::{Outcome, Progress, Request, fetch};
use s3gpu_fuzz::libfuzzer_sys::fuzz_target;
use s3gpu_fuzz::{folder, packed, put, summed};

const SET: &str = r#"
name = "set"
title = "t"
format = "cifar10"
licence = "l"
channels = 3
height = 2
width = 2
classes = ["a", "b"]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
pad = 0
flip = false

[[download]]
url = "http://localhost/set.tar.gz"
members = ["*/*.bin"]
unpacked = 20000
"#;

struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _: &str, _: Option<u64>, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn note(&mut self, _: &str) {}
}

/// Bytes of the regular files below; nothing else is there but folders.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("readable").path());
    let sizes = entries.map(|path| match fs::symlink_metadata(&path).expect("it is there") {
        found if found.is_dir() => size(&path),
        found if found.is_file() => found.len(),
        _ => panic!("{} is neither a file nor a folder", path.display()),
    });
    sizes.sum()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let (tar, strip) = (summed(bytes), kind >> 1 & 1);
    let file = put("from/set.tar.gz", &if kind & 1 == 1 { packed(&tar) } else { tar });
    let manifest = Manifest::parse(&format!("{SET}strip = {strip}"), "set.toml").expect("a manifest");
    let root = folder().join("root");
    let from = [file];
    let request = Request { manifest: &manifest, root: &root, from: &from, url: None, keep_archive: false };
    let outcome = fetch(&request, &mut Quiet);
    if let Ok(Outcome::Installed(dir)) = &outcome {
        assert_eq!(*dir, root.join("set"));
        let list = fs::metadata(dir.join("SHA256SUMS")).expect("the list of sums").len();
        assert!(size(dir) - list <= 20_000);
        fs::remove_dir_all(dir).expect("it can be removed");
    }
    // Only the lock stays, and nothing is beside the two folders.
    let names = |dir: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(dir).expect("a folder").map(|e| e.expect("readable").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!((names(&root), names(folder())), (vec![".set.lock".into()], vec!["from".into(), "root".into()]));
});
