//! `s3gpu train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::data::{ReadArgs, remark};
use super::dry_run::dry_run;
use super::long_run::LongRunArgs;
use super::open_run::{Stopped, check_batch, load, standing, stop_at_interrupt};
use super::settings::{LayerArgs, Settings};
use super::view::View;
use super::watch::Watch;
use crate::data::{Dataset, Manifest};
use crate::error::{Error, Result};
use crate::files::tensors;
use crate::train::Config;
use crate::train::checkpoint::Progress;
use crate::train::folder::{self, LAST};
use crate::train::layers::{Layered, Origin};
use crate::train::run::{Outcome, Run};
use crate::train::setup::Setup;
use crate::tune;

#[derive(Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    layers: LayerArgs,
    #[command(flatten)]
    read: ReadArgs,
    /// Folder with the data set's files, or its parent [default: S3GPU_DATA, then the user's data folder]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Stop after this many steps, counted from the run's start; --resume goes on
    #[arg(long)]
    steps: Option<u64>,
    #[command(flatten)]
    long_run: LongRunArgs,
    /// The run's folder [default: runs/DATASET-MODEL-METHOD]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace the run that is in the folder
    #[arg(long)]
    force: bool,
    /// Go on with a run from its last checkpoint; all settings are the run's own
    // The settings themselves conflict by `settings::finish`: only where data and adapter are, and when to stop, may change.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "force", "tune", "tune_seconds"])]
    resume: Option<PathBuf>,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
    /// Measure first which convolution rungs are fastest for the plan's shapes, and keep that for later runs
    #[arg(long, conflicts_with_all = ["rungs", "dry_run"])]
    tune: bool,
    /// Longest that --tune may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    tune_seconds: u64,
    /// Print the plan (buffers, steps, bytes) and stop
    #[arg(long)]
    dry_run: bool,
}

impl TrainArgs {
    /// The configuration that all layers give, with where each value came from.
    pub(super) fn layered(&self) -> Result<Layered> {
        if let Some(run) = &self.resume {
            let mut layered = Layered::of_run(folder::read_config(run)?, run);
            if let Some(dir) = &self.data_dir {
                layered.config.data_dir = Some(dir.clone());
                layered.origins.insert("data-dir".into(), Origin::Flag);
            }
            return Ok(layered);
        }
        let (recipe, mut upper) = self.layers.read()?;
        upper.push(self.settings.layer(self.data_dir.as_deref())?);
        Layered::new(recipe, upper)
    }
}

pub(super) fn run(args: TrainArgs) -> Result<ExitCode> {
    args.long_run.refuse_half()?;
    match args.resume.clone() {
        Some(run) => resume(&args, &run),
        None => start(args),
    }
}

/// The configuration, checked, and the run's folder.
fn config(args: &TrainArgs) -> Result<(Config, PathBuf)> {
    let c = args.layered()?.settle()?;
    let name = Manifest::find(&c.dataset)?.name;
    let folder = format!("runs/{name}-{}-{}", c.model, c.method()?.title().replace(' ', "-"));
    Ok((c, args.out.clone().unwrap_or_else(|| folder.into())))
}

fn start(args: TrainArgs) -> Result<ExitCode> {
    if args.steps == Some(0) {
        return Err(Error::usage("--steps is 0", "it must be at least 1; --dry-run shows the plan without training"));
    }
    let (config, out) = config(&args)?;
    let mut setup = Setup::new(config)?;
    let mut tell = |line: &str| note!("{line}");
    if args.dry_run {
        let gpu = super::open_gpu(args.adapter.as_deref())?;
        setup.tuned = tune::rungs(&setup, &gpu, None, &mut tell)?;
        return dry_run(&setup, gpu, Progress::default().rungs(&setup.config.rungs));
    }
    folder::check_free(&out, args.force)?;
    let data = load(&setup, &args.read)?;
    check_batch(&setup, &data)?;
    let gpu = super::open_gpu(args.adapter.as_deref())?;
    let cap = args.tune.then(|| Duration::from_secs(args.tune_seconds));
    setup.tuned = tune::rungs(&setup, &gpu, cap, &mut tell)?;
    let mut run = Run::start(&setup, gpu, data.both()?, &out, args.force)?;
    go(&setup, &data, &mut run, &args, &out)
}

fn resume(args: &TrainArgs, out: &Path) -> Result<ExitCode> {
    let setup = Setup::new(args.layered()?.config)?;
    let path = out.join(LAST);
    // A look, for which the folder need not be claimed: the file is only ever replaced whole.
    let seen = match path.exists() {
        true => Some(standing(&setup, &tensors::read_meta(&path)?, &path)?),
        false => None,
    };
    if args.dry_run {
        let rungs = seen.unwrap_or_default().rungs(&setup.config.rungs);
        return dry_run(&setup, super::open_gpu(args.adapter.as_deref())?, rungs);
    }
    let (c, steps) = (&setup.config, args.steps.unwrap_or(u64::MAX));
    if let Some(p) = seen.filter(|p| p.ended(c) || p.step >= steps) {
        let total = p.total(c);
        let done = match p.step {
            step if step >= total => "this run is finished",
            _ if p.out_of_patience(c.patience) => "this run ended early, as --patience says",
            _ => "this run has done that many steps",
        };
        say!("{}: {done} ({} of {total} steps); nothing to do", out.display(), p.step)?;
        return Ok(ExitCode::SUCCESS);
    }
    let stopped = Stopped::take(&setup, out)?;
    let data = load(&setup, &args.read)?;
    check_batch(&setup, &data)?;
    stopped.check_images(&data)?;
    let gpu = super::open_gpu(args.adapter.as_deref())?;
    let mut run = stopped.go_on(&setup, &data, gpu, &mut |line| note!("{line}"))?;
    go(&setup, &data, &mut run, args, out)
}

fn go(setup: &Setup, data: &Dataset, run: &mut Run, args: &TrainArgs, out: &Path) -> Result<ExitCode> {
    let [train, test] = data.both()?;
    let engine = run.engine();
    note!(
        "{} {} on {}: {} training images, {} test images; {} dispatches a step, {} on the device",
        setup.config.model,
        setup.identity.method.title(),
        setup.manifest.name,
        train.len(),
        test.len(),
        engine.dispatches(),
        super::bytes(engine.exec.plan.bytes())
    );
    if args.long_run.tensorboard {
        run.write_events()?;
    }
    let mut said = Vec::new();
    remark(data, &mut said);
    if setup.config.accumulate > 1 {
        let (parts, most) = (setup.config.accumulate, setup.config.part_size());
        note!(
            "each step adds up {parts} parts of at most {most} images; batch norm takes its mean and variance from one part at a time"
        );
    }
    let (stop, interrupt) = stop_at_interrupt()?;
    let outcome = match args.long_run.watch.then(|| Watch::open(setup, run, out, stop.clone(), interrupt)).flatten() {
        Some(mut watch) => {
            let outcome = run.train(args.steps, &stop, &mut watch);
            watch.finish();
            outcome
        }
        None => {
            let mut view = View::new(setup.config.epochs);
            let outcome = run.train(args.steps, &stop, &mut view);
            view.finish();
            outcome
        }
    };
    remark(data, &mut said);
    let on = format!("s3gpu train --resume {}", out.display());
    Ok(match outcome? {
        Outcome::Finished => {
            say!("finished: {}", out.display())?;
            ExitCode::SUCCESS
        }
        Outcome::OutOfPatience => {
            let waited = setup.config.patience;
            say!("finished early, after {waited} evaluations without a better top-1: {}", out.display())?;
            ExitCode::SUCCESS
        }
        Outcome::StepsReached => {
            say!("stopped after step {}, as --steps says; `{on}` goes on", args.steps.unwrap_or_default())?;
            ExitCode::SUCCESS
        }
        Outcome::Interrupted => {
            say!("stopped and saved; `{on}` goes on")?;
            ExitCode::from(130)
        }
    })
}
