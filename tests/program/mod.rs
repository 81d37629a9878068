//! The program as users start it: a folder of its own with a small data set, the command, and what it said and left.

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use s3gpu::files::cache::CacheFolder;
use tempfile::TempDir;

/// Says that a test, or a part of it, is left out. Where S3GPU_REQUIRE_ALL is set, that is a failure;
/// `way_out` says what is missing here.
pub fn skip(what: &str, way_out: &str) {
    let required = std::env::var_os("S3GPU_REQUIRE_ALL").is_some();
    assert!(!required, "cannot test {what}: {way_out}, or unset S3GPU_REQUIRE_ALL to leave it out");
    eprintln!("SKIPPED: {what}: {way_out}");
}

/// Records in `data/`: 6 steps an epoch at a batch of 4, of which the last has 3 images.
pub const TRAIN_IMAGES: usize = 23;
pub const TEST_IMAGES: usize = 11;

/// Largest file that a snapshot holds byte by byte; sparse ones count by their length.
const SNAPSHOT_BYTES: u64 = 16 << 20;

/// A record of CIFAR-10's layout: a label and an image with a colour of its class under noise, so that there is something to learn.
pub fn record(index: usize) -> Vec<u8> {
    let label = index % 10;
    let mut state = index as u32 + 1;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 26) as usize
    };
    let mut bytes = vec![label as u8];
    for channel in 0..3 {
        let level = (label * (channel + 3)) % 10 * 19;
        bytes.extend((0..1024).map(|_| (level + noise()) as u8));
    }
    bytes
}

pub fn records(range: std::ops::Range<usize>) -> Vec<u8> {
    range.flat_map(record).collect()
}

/// What the program said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let said = Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) };
        assert!(!said.err.contains("panicked"), "{}", said.err);
        said
    }

    /// Exit code 0.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// This exit code, and one error message with all these words and a way out.
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        let errors: Vec<_> = self.err.split("error: ").collect();
        let message = errors.last().copied().unwrap_or_default();
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert!(words.iter().all(|w| message.contains(w)), "no {words:?} in:\n{}", self.err);
        assert!(message.trim_end().contains('\n'), "no way out in:\n{}", self.err);
        self
    }
}

/// A folder that the program runs in, and one for its cache.
pub struct Place(TempDir, TempDir);

impl Place {
    /// With CIFAR-10 files in `data/`.
    pub fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a temporary folder");
        let place = Self(folder(), folder());
        place.put("data/data_batch_1.bin", &records(0..14));
        place.put("data/data_batch_2.bin", &records(14..TRAIN_IMAGES));
        place.put("data/test_batch.bin", &records(100..100 + TEST_IMAGES));
        place
    }

    /// Files that the program keeps from run to run.
    pub fn kept(&self) -> Vec<PathBuf> {
        let folder = self.1.path().join(env!("CARGO_PKG_VERSION"));
        let mut files: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|f| f.path()).collect();
        files.sort();
        files
    }

    /// Its cache folder.
    pub fn cache(&self) -> CacheFolder {
        CacheFolder::below(self.1.path())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The program with these arguments, separated by blanks.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_s3gpu"));
        command.args(args.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command.env("S3GPU_CACHE", self.1.path());
        // No data set of the machine's own.
        command.env("XDG_DATA_HOME", self.1.path().join("share")).env_remove("S3GPU_DATA");
        command
    }

    pub fn run(&self, args: &str) -> Said {
        Said::of(self.command(args).output().expect("the program starts"))
    }

    /// These arguments fail as [`Said::fails`] wants, say nothing on stdout and leave the folder as it was.
    pub fn refuses(&self, args: &str, code: i32, words: &[&str]) {
        let before = self.snapshot();
        let said = self.run(args).fails(code, words);
        assert!(said.out.is_empty(), "{args}: {}", said.out);
        assert!(self.snapshot() == before, "{args}: left {:?}", self.names("."));
    }

    /// A shell command line in which `$S3GPU` is the program.
    pub fn shell(&self, line: &str) -> Said {
        let mut bash = Command::new("bash");
        bash.args(["-c", line]).env("S3GPU", env!("CARGO_BIN_EXE_s3gpu")).current_dir(self.0.path());
        bash.env("S3GPU_CACHE", self.1.path());
        Said::of(bash.output().expect("bash starts"))
    }

    /// Every file and folder below, with what it holds.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        collect(self.0.path(), &mut found);
        found
    }

    /// Names in a folder, but for the lock that a run leaves in its own.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }
}

fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, (u64, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let length = fs::metadata(&path).expect("its size").len();
        if path.is_dir() {
            collect(&path, found);
            found.insert(path, (0, Vec::new()));
        } else {
            let bytes = if length > SNAPSHOT_BYTES { Vec::new() } else { fs::read(&path).expect("its bytes") };
            found.insert(path, (length, bytes));
        }
    }
}

/// `base` with the flags of `extra`, which replace those of the same name.
pub fn with(base: &str, extra: &str) -> String {
    let mut words: Vec<&str> = base.split_whitespace().collect();
    for flag in extra.split_whitespace().filter(|w| w.starts_with("--")) {
        if let Some(at) = words.iter().position(|w| *w == flag) {
            let has_value = words.get(at + 1).is_some_and(|w| !w.starts_with("--"));
            words.drain(at..at + 1 + usize::from(has_value));
        }
    }
    words.join(" ") + " " + extra
}

/// Ways to damage a weight file, and what the message must say.
pub fn damage(whole: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let mut long = whole.to_vec();
    long.extend([0; 4]);
    vec![
        (Vec::new(), "empty or truncated"),
        (whole[..100].to_vec(), "truncated"),
        (whole[..whole.len() - 1].to_vec(), "truncated"),
        (long, "after the last tensor"),
        (b"<html>404 not found</html>".repeat(50), "not a safetensors file"),
        ([&whole[..9], &vec![b'?'; whole.len() - 9][..]].concat(), "damaged safetensors header"),
    ]
}

/// Starts the program and returns once its output has a line that starts with `line`.
pub fn started(place: &Place, args: &str, line: &str) -> Child {
    let mut command = place.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let lines = BufReader::new(child.stdout.as_mut().expect("a pipe")).lines();
    assert!(lines.map_while(Result::ok).any(|l| l.starts_with(line)), "no line `{line}`");
    child
}
