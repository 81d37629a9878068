//! `s3gpu eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::integer::{self, Device};
use crate::data::{self, Manifest, Splits};
use crate::error::{Error, Result};
use crate::graph::lower::{Options, RungChoice};
use crate::int::file;
use crate::model::Values;
use crate::train::Engine;
use crate::train::checkpoint::{self, Identity};
use crate::train::metrics::Record;
use crate::train::run::eval_record;
use crate::train::setup::build_graph;

#[derive(Args)]
pub(super) struct EvalArgs {
    /// Checkpoint or integer network (safetensors), or a run's folder, whose best weights are taken
    #[arg(long)]
    weights: PathBuf,
    /// Data set
    #[arg(long)]
    dataset: String,
    /// Folder with the data set's files, or its parent
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Images at a time
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_size: u32,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
    /// Convolution rung that comes first where it fits; may be repeated
    #[arg(long, value_name = "KERNEL")]
    rung: Vec<String>,
    /// Where it runs [default: cpu for an integer network, gpu for a checkpoint]
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &EvalArgs) -> Result<ExitCode> {
    let manifest = Manifest::find(&args.dataset)?;
    let path = match args.weights.is_dir() {
        true => args.weights.join(crate::train::folder::BEST),
        false => args.weights.clone(),
    };
    if file::is_integer(&path)? {
        integer::check_device(args.device)?;
        return integer::eval(&path, &manifest, args.data_dir.as_deref(), args.json);
    }
    if args.device == Some(Device::Cpu) {
        let hint = "leave --device out, or make an integer network of it with `s3gpu export`";
        return Err(Error::usage(format!("--device cpu runs integer networks, and {} is none", path.display()), hint));
    }
    let file = checkpoint::read(&path)?;
    let identity = Identity::read(&file, &path)?;
    let classes = checkpoint::classes(&file, &path)?;
    if classes as usize != manifest.classes.len() {
        let what = format!("it tells {classes} classes apart, but {} has {}", manifest.name, manifest.classes.len());
        return Err(Error::checkpoint(&path, what, "choose the --dataset that it was trained on"));
    }
    let graph = build_graph(&identity, &manifest, classes)?;
    let data = data::load(&manifest, args.data_dir.as_deref(), Splits { train: false, test: true })?;
    let test = data.test.expect("the test set was asked for");
    let options = Options {
        batch: args.batch_size.min(test.len() as u32),
        mean: identity.mean.clone().unwrap_or_else(|| manifest.mean.clone()),
        std: identity.std.clone().unwrap_or_else(|| manifest.std.clone()),
        rungs: RungChoice { forced: args.rung.clone(), ..Default::default() },
        ..Default::default()
    };
    checkpoint::check_channels(&options.mean, &options.std, manifest.channels, &path)?;
    let mut engine = Engine::new(super::open_gpu(args.adapter.as_deref())?, &graph, &options)?;
    engine.load(&Values::from_file(&graph, &engine.layout, &file, &path)?);
    let started = std::time::Instant::now();
    let figures = engine.evaluate(&test)?;
    let step = file.meta.get("step").and_then(|s| s.parse().ok()).unwrap_or(0u64).saturating_sub(1);
    let epoch = file.meta.get("epoch").and_then(|s| s.parse().ok()).unwrap_or(0);
    let record = eval_record(&figures, epoch, step);
    if !record.loss.is_finite() {
        return Err(Error::checkpoint(
            &path,
            format!("its logits on {} are not finite (loss {}), so no accuracy is claimed", manifest.name, record.loss),
            "these weights are not those of a trained network: choose an earlier checkpoint",
        ));
    }
    if args.json {
        let json = serde_json::to_string(&Record::Eval(record)).expect("finite numbers");
        say!("{json}")?;
    } else {
        let speed = figures.count as f64 / started.elapsed().as_secs_f64();
        say!(
            "{} {} on {}: top-1 {:.2} %, top-5 {:.2} %, loss {:.4}",
            identity.model,
            identity.method.title(),
            manifest.name,
            record.top1,
            record.top5,
            record.loss
        )?;
        say!("{} of {} images right, {speed:.0} images/s", record.correct, record.count)?;
    }
    Ok(ExitCode::SUCCESS)
}
