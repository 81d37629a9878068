//! `s3gpu train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{ArgAction, Args};

use super::dry_run::dry_run;
use super::long_run::{self, LongRunArgs};
use super::view::View;
use super::watch::{self, Watch};
use crate::data::{self, Dataset, Manifest, Splits};
use crate::error::{Error, Result};
use crate::files::tensors::{self, TensorFile};
use crate::methods::{LatentInit, MethodSpec};
use crate::model::Shortcut;
use crate::train::checkpoint::{self, Identity, Progress};
use crate::train::folder::{self, Claim, LAST};
use crate::train::run::{Outcome, Run};
use crate::train::setup::Setup;
use crate::train::{Config, Schedule};
use crate::tune;

#[derive(Args)]
pub(super) struct TrainArgs {
    /// Data set: cifar10, cifar100 or shapes
    #[arg(long, required_unless_present = "resume")]
    dataset: Option<String>,
    /// Folder with the data set's files, or its parent
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Network: resnet8, 14, 20, 32, 44, 56, 110 (CIFAR) or resnet18, 34, 50 (ImageNet)
    #[arg(long, default_value = "resnet20")]
    model: String,
    /// Factor on all channel counts
    #[arg(long, default_value_t = 1)]
    width: u32,
    /// Shortcut of the CIFAR networks
    #[arg(long, value_enum, default_value_t)]
    shortcut: Shortcut,
    /// Training method: fp32 or s3
    #[arg(long, default_value = "s3")]
    method: String,
    /// Bits a weight (s3: 2, 3 or 4)
    #[arg(long)]
    bits: Option<u32>,
    /// How latents start
    #[arg(long, value_enum, default_value_t)]
    latent_init: LatentInit,
    /// Factor on the latents' learning rate
    #[arg(long, default_value_t = 1.0)]
    latent_lr: f32,
    /// Factor of the dense-weight regularizer
    #[arg(long, default_value_t = 1e-5)]
    dense_reg: f32,
    /// Start from these weights (safetensors with PyTorch's names, or the S3 authors')
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Epochs; also the schedule's horizon
    #[arg(long, default_value_t = 200)]
    epochs: u64,
    /// Stop after this many steps, counted from the run's start; --resume goes on
    #[arg(long)]
    steps: Option<u64>,
    #[command(flatten)]
    long_run: LongRunArgs,
    /// Images in a step
    #[arg(long, default_value_t = 128)]
    batch_size: u32,
    /// Learning rate
    #[arg(long, default_value_t = 0.1)]
    lr: f32,
    /// How the learning rate falls; `step` divides by 10 at 50 % and 75 %
    #[arg(long, value_enum, default_value_t)]
    schedule: Schedule,
    /// Epochs over which the learning rate rises at the start
    #[arg(long, value_name = "EPOCHS", default_value_t = 0.0)]
    warmup: f64,
    /// Momentum
    #[arg(long, default_value_t = 0.9)]
    momentum: f32,
    /// Nesterov momentum
    #[arg(long)]
    nesterov: bool,
    /// Weight decay, on every parameter
    #[arg(long, default_value_t = 1e-4)]
    weight_decay: f32,
    /// Share of the target spread over all classes
    #[arg(long, default_value_t = 0.0)]
    label_smoothing: f32,
    /// Seed of initialization, order and augmentation
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Train on the images as they are, without crop and mirror
    #[arg(long = "no-augment", action = ArgAction::SetFalse)]
    augment: bool,
    /// Train on the images in the files' order
    #[arg(long = "no-shuffle", action = ArgAction::SetFalse)]
    shuffle: bool,
    /// Steps from one metrics line to the next
    #[arg(long, default_value_t = 50)]
    log_every: u64,
    /// Epochs from one evaluation to the next
    #[arg(long, default_value_t = 1)]
    eval_every: u64,
    /// The run's folder [default: runs/DATASET-MODEL-METHOD]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace the run that is in the folder
    #[arg(long)]
    force: bool,
    /// Go on with a run from its last checkpoint; all settings are the run's own
    #[arg(long, value_name = "RUN", conflicts_with_all = NOT_WITH_RESUME, conflicts_with_all = long_run::SETTINGS)]
    resume: Option<PathBuf>,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
    /// Convolution rung that comes first where it fits; may be repeated
    #[arg(long, value_name = "KERNEL")]
    rung: Vec<String>,
    /// Measure first which convolution rungs are fastest for the plan's shapes, and keep that for later runs
    #[arg(long, conflicts_with_all = ["rung", "dry_run"])]
    tune: bool,
    /// Longest that --tune may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    tune_seconds: u64,
    /// Print the plan (buffers, steps, bytes) and stop
    #[arg(long)]
    dry_run: bool,
}

/// A resumed run keeps its settings; only where data and adapter are, and when to stop, may change.
const NOT_WITH_RESUME: [&str; 29] = [
    "dataset",
    "model",
    "width",
    "shortcut",
    "method",
    "bits",
    "latent_init",
    "latent_lr",
    "dense_reg",
    "init",
    "epochs",
    "batch_size",
    "lr",
    "schedule",
    "warmup",
    "momentum",
    "nesterov",
    "weight_decay",
    "label_smoothing",
    "seed",
    "augment",
    "shuffle",
    "log_every",
    "eval_every",
    "out",
    "force",
    "rung",
    "tune",
    "tune_seconds",
];

pub(super) fn run(args: TrainArgs) -> Result<ExitCode> {
    args.long_run.refuse_half()?;
    match args.resume.clone() {
        Some(run) => resume(&args, &run),
        None => start(args),
    }
}

/// The configuration that the flags mean.
fn config(args: &TrainArgs) -> Result<(Config, PathBuf)> {
    let dataset = args.dataset.clone().unwrap_or_default();
    let manifest = Manifest::find(&dataset)?;
    let spec = MethodSpec::find(&args.method, args.bits)?;
    let (mut mean, mut std) = (manifest.mean.clone(), manifest.std.clone());
    if let Some(path) = &args.init {
        // Weights go with the normalization that they were trained under.
        let file = checkpoint::read(path)?;
        let [file_mean, file_std] = checkpoint::normalization(&file, path)?;
        (mean, std) = (file_mean.unwrap_or(mean), file_std.unwrap_or(std));
        checkpoint::check_channels(&mean, &std, manifest.channels, path)?;
    }
    let folder = format!("runs/{dataset}-{}-{}", args.model, spec.title().replace(' ', "-"));
    let config = Config {
        dataset,
        data_dir: args.data_dir.clone(),
        model: args.model.clone(),
        width: args.width,
        shortcut: args.shortcut,
        method: args.method.clone(),
        bits: spec.bits,
        latent_init: args.latent_init,
        latent_lr: args.latent_lr,
        dense_reg: args.dense_reg,
        init: args.init.clone(),
        epochs: args.epochs,
        batch_size: args.batch_size,
        lr: args.lr,
        schedule: args.schedule,
        warmup: args.warmup,
        momentum: args.momentum,
        nesterov: args.nesterov,
        weight_decay: args.weight_decay,
        label_smoothing: args.label_smoothing,
        seed: args.seed,
        augment: args.augment,
        shuffle: args.shuffle,
        log_every: args.log_every,
        eval_every: args.eval_every,
        rungs: args.rung.clone(),
        mean,
        std,
        ..Config::default()
    };
    let config = args.long_run.apply(config);
    Ok((config, args.out.clone().unwrap_or_else(|| folder.into())))
}

fn load(setup: &Setup, data_dir: Option<&Path>) -> Result<Dataset> {
    let data = data::load(&setup.manifest, data_dir, Splits { train: true, test: true })?;
    let count = data.train.as_ref().map_or(0, data::Records::len);
    if setup.config.batch_size as usize > count {
        let what =
            format!("--batch-size {} is larger than the training set of {count} images", setup.config.batch_size);
        return Err(Error::usage(what, format!("choose at most {count}")));
    }
    Ok(data)
}

fn records(data: &Dataset) -> [&data::Records; 2] {
    [&data.train, &data.test].map(|r| r.as_ref().expect("both splits were asked for"))
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
    let data = load(&setup, args.data_dir.as_deref())?;
    let gpu = super::open_gpu(args.adapter.as_deref())?;
    let cap = args.tune.then(|| Duration::from_secs(args.tune_seconds));
    setup.tuned = tune::rungs(&setup, &gpu, cap, &mut tell)?;
    let mut run = Run::start(&setup, gpu, records(&data), &out, args.force)?;
    go(&setup, &data, &mut run, &args, &out)
}

/// Where a run stands by its last.safetensors, which must be of the network that its configuration names.
fn standing(setup: &Setup, last: &TensorFile, path: &Path) -> Result<Progress> {
    if let Some((key, found, wanted)) = Identity::read(last, path)?.difference(&setup.identity) {
        let what = format!("its {key} is {found}, but the run's config.toml says {wanted}");
        return Err(Error::checkpoint(
            path,
            what,
            "one of the two files comes from another run: put the right one back",
        ));
    }
    checkpoint::progress(last, path)
}

fn resume(args: &TrainArgs, out: &Path) -> Result<ExitCode> {
    let mut config = folder::read_config(out)?;
    config.data_dir = args.data_dir.clone().or(config.data_dir);
    let setup = Setup::new(config)?;
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
    let total = |p: &Progress| setup.config.epochs * setup.config.steps_per_epoch(p.images[0]);
    let patience = setup.config.patience;
    let ended = |p: &Progress| p.step >= args.steps.unwrap_or(u64::MAX).min(total(p)) || p.out_of_patience(patience);
    if let Some(p) = seen.filter(ended) {
        let total = total(&p);
        let done = match p.step {
            step if step >= total => "this run is finished",
            _ if p.out_of_patience(patience) => "this run ended early, as --patience says",
            _ => "this run has done that many steps",
        };
        say!("{}: {done} ({} of {total} steps); nothing to do", out.display(), p.step)?;
        return Ok(ExitCode::SUCCESS);
    }
    let claim = Claim::take(out)?;
    if !path.exists() {
        let hint = "it stopped before its first checkpoint: start it again with --force";
        return Err(Error::checkpoint(out, format!("this run has no {LAST} yet"), hint));
    }
    let last = checkpoint::read(&path)?;
    let progress = standing(&setup, &last, &path)?;
    let total = total(&progress);
    let data = load(&setup, setup.config.data_dir.as_deref())?;
    let found = records(&data).map(|d| d.len() as u64);
    if found != progress.images {
        let [(train, test), (had, had_test)] = [found, progress.images].map(|[a, b]| (a, b));
        let what = format!(
            "its run has {had} training and {had_test} test images, but the data set now has {train} and {test}"
        );
        return Err(Error::checkpoint(&path, what, "give the run's own --data-dir"));
    }
    let gpu = super::open_gpu(args.adapter.as_deref())?;
    let mut run = Run::resume(&setup, gpu, records(&data), claim, last)?;
    let (now, before) = (run.progress(), &progress);
    if now.rungs != before.rungs {
        note!(
            "this adapter or version lacks some of the kernels that the run took before: it goes on, but not bit for bit"
        );
    } else if now.adapter != before.adapter && !before.adapter.is_empty() {
        note!("the run was on {} before: it goes on, but not bit for bit", before.adapter);
    }
    note!("resumed at step {} of {total}", progress.step);
    go(&setup, &data, &mut run, args, out)
}

/// What a run does when it is asked to stop.
pub(super) const STOPPING: &str = "the step is finished and saved first, at an epoch's end with its evaluation";

fn go(setup: &Setup, data: &Dataset, run: &mut Run, args: &TrainArgs, out: &Path) -> Result<ExitCode> {
    let [train, test] = records(data);
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
    if setup.config.accumulate > 1 {
        let (parts, most) = (setup.config.accumulate, setup.config.part_size());
        note!(
            "each step adds up {parts} parts of at most {most} images; batch norm takes its mean and variance from one part at a time"
        );
    }
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let interrupt = move || {
        if flag.swap(true, Ordering::Relaxed) {
            watch::restore();
            std::process::exit(130);
        }
        if !watch::is_open() {
            note!("\nstopping: {STOPPING}; Ctrl-C again ends at once");
        }
    };
    ctrlc::set_handler(interrupt.clone()).map_err(|e| Error::usage(format!("Ctrl-C cannot be caught: {e}"), ""))?;
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
            say!("stopped after {} steps as --steps says; `{on}` goes on", args.steps.unwrap_or_default())?;
            ExitCode::SUCCESS
        }
        Outcome::Interrupted => {
            say!("stopped and saved; `{on}` goes on")?;
            ExitCode::from(130)
        }
    })
}
