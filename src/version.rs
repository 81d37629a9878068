//! Which program this is, for records of what it made.

/// The checkout's commit where cargo started the program from one, or what `S3GPU_COMMIT` says.
pub(crate) fn commit() -> Option<String> {
    if let Ok(commit) = std::env::var("S3GPU_COMMIT") {
        return Some(commit).filter(|c| !c.is_empty());
    }
    let folder = std::env::var_os("CARGO_MANIFEST_DIR")?;
    let args = ["describe", "--always", "--dirty", "--exclude=*"];
    let output = std::process::Command::new("git").arg("-C").arg(folder).args(args).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_string();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}

/// `s3gpu 0.1.0`, with the commit where it is known.
pub(crate) fn program() -> String {
    let commit = commit().map(|c| format!(", commit {c}")).unwrap_or_default();
    format!("s3gpu {}{commit}", env!("CARGO_PKG_VERSION"))
}
