//! The one error type of the crate: what went wrong, where, the limit that was met, and the way out.

use std::path::{Path, PathBuf};

/// Shorthand for results with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can stop s3gpu, one variant for each cause that a user can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag, a value or a combination of them that cannot be: exit code 2.
    #[error("{what}\n  {hint}")]
    Usage {
        /// What is wrong, naming the flag and the value.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// A data set's file that is missing, damaged or not what its format says.
    #[error("{}: {what}\n  {hint}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// A checkpoint or run folder that cannot be used.
    #[error("{}: {what}\n  {hint}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// The operating system refused to read or write.
    #[error("{}: cannot {action}: {source}{}", path.display(), io_hint(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The verb: `read`, `write`, `create`, `rename` …
        action: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// No adapter at all, or none that matches `--adapter`.
    #[error("{what}\n  {hint}")]
    NoAdapter {
        /// What was looked for.
        what: String,
        /// How to get one.
        hint: String,
    },
    /// The plan needs more than the adapter offers.
    #[error("{tensor} needs {need} bytes, but this adapter's {limit_name} is {limit}\n  {hint}")]
    AdapterTooSmall {
        /// The tensor that does not fit.
        tensor: String,
        /// Bytes that it needs.
        need: u64,
        /// The limit's name in WebGPU's terms.
        limit_name: &'static str,
        /// The limit in bytes.
        limit: u64,
        /// The way out, with the largest batch that fits where there is one.
        hint: String,
    },
    /// The device's memory is full before the plan is complete.
    #[error(
        "the plan needs {need} bytes on the device ({largest} bytes for {tensor}), but its memory was full after {held}\n  {hint}"
    )]
    OutOfMemory {
        /// Bytes of all buffers.
        need: u64,
        /// The largest tensor.
        tensor: String,
        /// Its bytes.
        largest: u64,
        /// Bytes that the device gave.
        held: u64,
        /// The way out, with a batch that should fit where there is one.
        hint: String,
    },
    /// Shapes that do not go together, found when the graph is built.
    #[error("layer {layer}: {what}")]
    Shape {
        /// The layer's PyTorch name.
        layer: String,
        /// The dimension by name, and both values.
        what: String,
    },
    /// The adapter refused a shader, a buffer or a dispatch.
    #[error("the adapter refused {what}\n  run `s3gpu doctor` and paste its table into a bug report")]
    Gpu {
        /// What it refused and why.
        what: String,
    },
    /// The device went away in the middle of the work.
    #[error("the GPU device was lost {place}: {reason}\n  {hint}")]
    DeviceLost {
        /// The step or command.
        place: String,
        /// The driver's reason.
        reason: String,
        /// How to go on.
        hint: String,
    },
    /// The loss is not finite any more.
    #[error("the loss is {loss} at step {step}: training diverged\n  {hint}")]
    Diverged {
        /// Step, from 0.
        step: u64,
        /// The loss as printed.
        loss: String,
        /// Names the last good checkpoint and what to change.
        hint: String,
    },
}

impl Error {
    /// A wrong flag, value or combination.
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: hint.into() }
    }

    /// A data file that cannot be used.
    pub fn data(path: impl AsRef<Path>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().into(), what: what.into(), hint: hint.into() }
    }

    /// A checkpoint or run folder that cannot be used.
    pub fn checkpoint(path: impl AsRef<Path>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.as_ref().into(), what: what.into(), hint: hint.into() }
    }

    /// A failed system call; use as `.map_err(Error::io(path, "read"))`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// A shape mismatch at a layer.
    pub fn shape(layer: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Shape { layer: layer.into(), what: what.into() }
    }

    /// The process's exit code: 2 for usage, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            _ => 1,
        }
    }
}

/// The way out for the system errors that have one.
fn io_hint(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as K;
    match source.kind() {
        K::StorageFull | K::QuotaExceeded => {
            "\n  the disk is full: free some space or choose another folder; earlier checkpoints are untouched"
        }
        K::PermissionDenied => "\n  choose a folder that you may read and write",
        K::NotFound => "\n  check the path",
        K::AlreadyExists => "\n  a file is in the way: choose another path",
        K::NotADirectory => "\n  a part of the path is a file, not a folder: choose another path",
        K::FileTooLarge => {
            "\n  the file is larger than `ulimit -f` or the file system allows: raise the limit or choose another folder; earlier checkpoints are untouched"
        }
        K::ReadOnlyFilesystem => "\n  this file system is read-only: choose another folder",
        _ => "",
    }
}
/// "did you mean `x`? " for the known word that is nearest to `word`; empty where none is near enough to be meant.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let word = word.to_lowercase().replace('_', "-");
    let scored = known.into_iter().map(|known| (strsim::jaro_winkler(&word, known), known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.75);
    best.map(|(_, known)| format!("did you mean `{known}`? ")).unwrap_or_default()
}
