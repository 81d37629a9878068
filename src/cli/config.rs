//! `s3gpu config`.

use std::process::ExitCode;

use super::train::TrainArgs;
use crate::error::Result;

/// Prints the configuration that `s3gpu train` would take with these flags. Without a data set, the keys that depend on it are
/// left out.
pub(super) fn run(args: &TrainArgs) -> Result<ExitCode> {
    let layered = args.layered()?;
    if layered.origins.contains_key("dataset") {
        layered.check()?;
    }
    let text = layered.annotated()?;
    say!("{}", text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
