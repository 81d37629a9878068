//! `s3gpu eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::data::{DataArgs, remark};
use crate::data::{self, Format, Manifest, Reading, Splits};
use crate::error::{Error, Result};
use crate::files::tensors::TensorFile;
use crate::graph::lower::{Options, RungChoice};
use crate::model::Values;
use crate::train::Engine;
use crate::train::checkpoint::{self, Identity};
use crate::train::metrics::Record;
use crate::train::run::eval_record;
use crate::train::setup::build_graph;

#[derive(Args)]
pub(super) struct EvalArgs {
    /// Checkpoint (safetensors) or a run's folder, whose best weights are taken
    #[arg(long)]
    weights: PathBuf,
    /// Data set by name, as `s3gpu dataset list` shows them, or the path of its TOML
    #[arg(long)]
    dataset: String,
    /// Folder with the data set's files, or its parent [default: S3GPU_DATA, then the user's data folder]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    images: DataArgs,
    /// Images at a time
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_size: u32,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
    /// Convolution rung that comes first where it fits; may be repeated
    #[arg(long, value_name = "KERNEL")]
    rung: Vec<String>,
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// The data set that the flags name, at the size, crop and split that the weights were trained with where they do not say.
fn data_set(args: &EvalArgs, file: &TensorFile, classes: u32) -> Result<(Manifest, Reading)> {
    fn kept<T: std::str::FromStr>(file: &TensorFile, key: &str) -> Option<T> {
        file.meta.get(key)?.parse().ok()
    }
    let images = &args.images;
    let mut manifest = Manifest::find(&args.dataset)?;
    let mut reading = images.how(Reading { val_split: images.val_split, ..Reading::default() });
    if manifest.format != Format::Folder {
        return Ok((manifest.with(images.image_size, images.pad)?, reading));
    }
    manifest = manifest.with(images.image_size.or(kept(file, "image_size")), images.pad.or(kept(file, "pad")))?;
    if manifest.classes.is_empty() {
        let names: Vec<String> =
            file.meta.get("class_names").map(|n| n.split(',').map(str::to_string).collect()).unwrap_or_default();
        manifest.classes = if names.len() == classes as usize { names } else { manifest.classes };
        manifest = data::complete(manifest, args.data_dir.as_deref())?;
    }
    reading.seed = kept(file, "seed").unwrap_or_default();
    let whole = data::lacks_split(&manifest, args.data_dir.as_deref())?;
    reading.val_split = images.val_split.or_else(|| kept(file, "val_split").filter(|_| whole)).filter(|s| *s != 0.0);
    if let (Some(share), None) = (reading.val_split, images.val_split) {
        note!("note: on the share {share} that training kept to measure on; --val-split 0 takes all images");
    }
    Ok((manifest, reading))
}

pub(super) fn run(args: &EvalArgs) -> Result<ExitCode> {
    let path = match args.weights.is_dir() {
        true => args.weights.join(crate::train::folder::BEST),
        false => args.weights.clone(),
    };
    let file = checkpoint::read(&path)?;
    let identity = Identity::read(&file, &path)?;
    let classes = checkpoint::classes(&file, &path)?;
    let (manifest, reading) = data_set(args, &file, classes)?;
    if classes as usize != manifest.classes.len() {
        let what = format!("it tells {classes} classes apart, but {} has {}", manifest.name, manifest.classes.len());
        return Err(Error::checkpoint(&path, what, "choose the --dataset that it was trained on"));
    }
    let graph = build_graph(&identity, &manifest, classes)?;
    let data = data::open(&manifest, args.data_dir.as_deref(), Splits { train: false, test: true }, &reading)?;
    let mut said = Vec::new();
    remark(&data, &mut said);
    let test = data.test.as_deref().expect("the test set was asked for");
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
    let figures = engine.evaluate(test)?;
    remark(&data, &mut said);
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
