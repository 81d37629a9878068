//! `s3gpu eval` on integer networks, and what the commands that run them share.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;

use crate::data::{self, Manifest, Reading, Source, Splits};
use crate::error::{Error, Result};
use crate::graph::Shape;
use crate::int::Model;
use crate::int::evaluate::{figures, logits_hash, run};
use crate::train::metrics::Record;
use crate::train::run::eval_record;
use crate::train::setup::input_shape;

/// Where a network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Device {
    /// An adapter, for checkpoints
    Gpu,
    /// The processor, for integer networks
    Cpu,
}

/// Integer networks run on the processor.
pub(super) fn check_device(device: Option<Device>) -> Result<()> {
    match device {
        Some(Device::Gpu) => Err(Error::usage(
            "--device gpu: integer networks run on the processor only in this version",
            "leave --device out, or say --device cpu; the logits are the same everywhere",
        )),
        _ => Ok(()),
    }
}

/// Refuses a network that tells another number of classes apart than the data set has.
pub(super) fn check_classes(classes: usize, manifest: &Manifest, path: &Path) -> Result<()> {
    if classes == manifest.classes.len() {
        return Ok(());
    }
    let what = format!("it tells {classes} classes apart, but {} has {}", manifest.name, manifest.classes.len());
    Err(Error::checkpoint(path, what, "choose the --dataset that it was trained on"))
}

/// Accuracy, speed and the logits' hash of an integer network on a data set's test images.
pub(super) fn eval(
    path: &Path,
    manifest: &Manifest,
    data_dir: Option<&Path>,
    reading: &Reading,
    json: bool,
) -> Result<ExitCode> {
    let model = Model::read(path)?;
    let manifest = &data::complete(manifest.clone(), data_dir)?;
    check_classes(model.classes(), manifest, path)?;
    let (own, theirs): (Shape, Shape) = (model.input(), input_shape(manifest));
    if own != theirs {
        let what = format!("it takes images of {own}, but {} has {theirs}", manifest.name);
        return Err(Error::checkpoint(path, what, "choose the --dataset that it was trained on"));
    }
    let data = data::open(manifest, data_dir, Splits::TEST, reading)?;
    let test = data.test.expect("the test set was asked for");
    let started = Instant::now();
    let (logits, labels) = run(&model, &test)?;
    let images_per_s = test.len() as f64 / started.elapsed().as_secs_f64();
    let hash = format!("{:016x}", logits_hash(&logits));
    let record = eval_record(&figures(&model, &logits, &labels), model.info.epoch, model.info.step.saturating_sub(1));
    if json {
        let mut json = serde_json::to_value(Record::Eval(record)).expect("finite numbers");
        json["images_per_s"] = images_per_s.into();
        json["logits_hash"] = hash.into();
        say!("{json}")?;
    } else {
        let i = &model.info;
        say!(
            "{} {} {}-bit, integers, on {}: top-1 {:.2} %, top-5 {:.2} %, loss {:.4}",
            i.model,
            i.method,
            i.bits,
            manifest.name,
            record.top1,
            record.top5,
            record.loss
        )?;
        say!("{} of {} images right, {images_per_s:.0} images/s", record.correct, record.count)?;
        say!("logits hash {hash}")?;
    }
    Ok(ExitCode::SUCCESS)
}
