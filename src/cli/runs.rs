//! `s3gpu runs`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::table::columns;
use crate::error::Result;
use crate::train::summary::{self, Summary};

#[derive(Args)]
pub(super) struct RunsArgs {
    /// Folder that is searched, three levels down [default: runs]
    dir: Option<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RunsArgs) -> Result<ExitCode> {
    let dir = args.dir.clone().unwrap_or_else(|| "runs".into());
    // No run has been made here yet: no fault.
    let none_yet = args.dir.is_none() && !dir.exists();
    let folders = if none_yet { Vec::new() } else { summary::find(&dir)? };
    let found: Vec<_> = folders.into_iter().map(|path| (Summary::read(&path), path)).collect();
    if args.json {
        let object = |(read, path): &(Result<Summary>, PathBuf)| match read {
            Ok(summary) => json!(summary),
            Err(e) => json!({"path": path, "state": "damaged", "error": e.to_string()}),
        };
        say!("{}", json!(found.iter().map(object).collect::<Vec<_>>()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        say!("no runs in {0}; `s3gpu train --out {0}/NAME …` makes one", dir.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = found.iter().filter_map(|(read, _)| read.as_ref().ok()).map(row).collect();
    if !rows.is_empty() {
        let titles = ["run", "data set", "model", "method", ">epochs", ">best top-1", "state", "adapter"];
        columns(&titles, &rows).iter().try_for_each(|line| say!("{line}"))?;
    }
    for (read, _) in &found {
        if let Err(e) = read {
            say!("damaged: {e}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(s: &Summary) -> Vec<String> {
    let done =
        if s.epochs_done.fract() == 0.0 { format!("{}", s.epochs_done) } else { format!("{:.2}", s.epochs_done) };
    let best = s.best_top1.map_or("-".into(), |top1| format!("{top1:.2} %"));
    let path = s.path.display().to_string();
    let adapter = s.adapter.as_deref().map_or("-".into(), short_adapter);
    let epochs = format!("{done}/{}", s.epochs);
    vec![path, s.dataset.clone(), s.model.clone(), s.method.clone(), epochs, best, s.state.name().into(), adapter]
}

/// Characters of an adapter's name at most in a table.
const ADAPTER: usize = 28;

/// An adapter's name without its driver, cut where it is long; --json has all of it.
fn short_adapter(name: &str) -> String {
    let own = name.split(" (").next().unwrap_or_default();
    match own.chars().count() > ADAPTER {
        true => own.chars().take(ADAPTER - 1).chain(['…']).collect(),
        false => own.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_fit_a_table() {
        for (name, wanted) in [
            ("llvmpipe (LLVM 19.1.7, 256 bits) (Vulkan, llvmpipe Mesa 25.0.7 (LLVM 19.1.7))", "llvmpipe"),
            ("NVIDIA GeForce RTX 4090 (Vulkan, NVIDIA 575.57)", "NVIDIA GeForce RTX 4090"),
            ("NVIDIA RTX 6000 Ada Generation Laptop GPU (Vulkan, NVIDIA 1)", "NVIDIA RTX 6000 Ada Generat…"),
        ] {
            assert_eq!(short_adapter(name), wanted);
        }
    }
}
