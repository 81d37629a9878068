//! `s3gpu report`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::error::{Error, Result};
use crate::files::cache::CacheFolder;
use crate::files::write_atomic;
use crate::gpu;
use crate::report::{self, Judge, Report};

#[derive(Args)]
pub(super) struct ReportArgs {
    /// Folders of runs, or folders with runs up to three levels below, as a sweep's
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page to write
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,
    /// Replace the page if it exists
    #[arg(long)]
    force: bool,
    /// Leave out what needs data sets and an adapter: confusion matrices, and the costs as integers
    #[arg(long)]
    no_eval: bool,
    /// Folder with the data sets' files, or its parent [default: where each run found them]
    #[arg(long, conflicts_with = "no_eval")]
    data_dir: Option<PathBuf>,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long, conflicts_with = "no_eval")]
    adapter: Option<String>,
}

pub(super) fn run(args: &ReportArgs) -> Result<ExitCode> {
    super::check_page("--out", &args.out, args.force)?;
    let mut report = Report::new(report::read(&args.runs)?);
    for (name, problem) in report.problems() {
        note!("left out: {name}: {problem}");
    }
    if !args.no_eval {
        let open = || {
            let mut gpu = gpu::open(args.adapter.as_deref())?;
            gpu.cache = CacheFolder::user();
            Ok(gpu)
        };
        // What was asked for by name must be there; what is missing otherwise is told in the page.
        if args.adapter.is_some() {
            open()?;
        }
        if let Some(dir) = &args.data_dir {
            std::fs::metadata(dir).map_err(Error::io(dir, "read"))?;
        }
        report.judge(&mut Judge::new(&open, args.data_dir.as_deref()), &mut |line| note!("{line}"));
    }
    let page = report.render()?;
    write_atomic(&args.out, |file| file.write_all(page.as_bytes()))?;
    let (runs, size) = (report.count(), super::bytes(page.len() as u64));
    say!("{}: {runs} run{}, {size}", args.out.display(), if runs == 1 { "" } else { "s" })?;
    Ok(ExitCode::SUCCESS)
}
