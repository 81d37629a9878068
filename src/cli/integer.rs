//! `s3gpu eval` on integer networks, and what the commands that run them share.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::data::{self, Manifest, Reading, Source, Splits};
use crate::error::{Error, Result};
use crate::graph::Shape;
use crate::int::evaluate::{figures, logits_hash, run_by};
use crate::int::fast::Scratch;
use crate::int::gpu::{Choice, Network, measured, multiplies};
use crate::int::{Fast, Model};
use crate::train::metrics::Record;
use crate::train::run::eval_record;
use crate::train::setup::input_shape;

/// How long a first run may take to see which rungs are fastest.
const MEASURING: Duration = Duration::from_secs(20);

/// Where a network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Device {
    /// An adapter
    Gpu,
    /// The processor, for integer networks
    Cpu,
}

/// Where and how an integer network runs: the logits are the same everywhere.
pub(super) struct Place<'a> {
    pub device: Option<Device>,
    pub adapter: Option<&'a str>,
    pub rungs: &'a [String],
    pub shift_only: bool,
    pub batch: u32,
}

impl Place<'_> {
    /// Whether no flag needs an adapter.
    fn asks_nothing(&self) -> bool {
        self.device.is_none() && self.adapter.is_none() && self.rungs.is_empty()
    }
}

/// A network where it runs.
pub(super) enum Runner<'a> {
    Cpu(Fast<'a>),
    Gpu(Box<Network>),
}

impl<'a> Runner<'a> {
    pub(super) fn new(model: &'a Model, place: &Place) -> Result<Self> {
        if place.device == Some(Device::Cpu) {
            if !place.rungs.is_empty() || place.adapter.is_some() {
                let what = "--device cpu runs no kernel and takes no adapter";
                return Err(Error::usage(what, "leave out --rung and --adapter, or --device"));
            }
            return Ok(Self::Cpu(Fast::new(model)));
        }
        let gpu = match super::open_gpu(place.adapter) {
            // Nobody asked for an adapter, and the logits are the same.
            Err(Error::NoAdapter { what, .. }) if place.asks_nothing() => {
                note!("note: {what}; on the processor");
                return Ok(Self::Cpu(Fast::new(model)));
            }
            gpu => gpu?,
        };
        let mut choice = Choice { forced: place.rungs.to_vec(), shift_only: place.shift_only, ..Choice::default() };
        choice.check()?;
        if place.rungs.is_empty() {
            let (measured, new) = measured(&gpu, model, place.batch, MEASURING)?;
            choice = Choice::fastest(&measured, place.shift_only);
            if new {
                note!("measured which rung is fastest for {} distinct convolutions", measured.len());
            }
        }
        let network = Network::new(gpu, model, place.batch, &choice)?;
        for (rung, nodes) in by_rung(&network) {
            let how = if multiplies(rung) { "multiplies" } else { "shifts and adds" };
            note!("{rung} ({how}): {}", nodes.join(", "));
        }
        Ok(Self::Gpu(Box::new(network)))
    }

    /// Logits of u8 images [C, H, W], one behind the other.
    pub(super) fn image(&mut self, pixels: &[u8]) -> Result<Vec<i32>> {
        match self {
            Self::Cpu(fast) => Ok(fast.forward(pixels, &mut Scratch::default(), |_, _| ())),
            Self::Gpu(network) => network.run(pixels),
        }
    }

    fn logits(&mut self, records: &data::Records) -> Result<Vec<i32>> {
        match self {
            Self::Cpu(fast) => Ok(fast.logits(records)),
            Self::Gpu(network) => network.logits(records),
        }
    }
}

/// The convolutions that each rung computes.
fn by_rung(network: &Network) -> BTreeMap<&'static str, Vec<&str>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    network.rungs.iter().for_each(|(node, rung)| all.entry(*rung).or_default().push(node.as_str()));
    all
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
    place: &Place,
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
    let place = Place { batch: place.batch.min(test.len() as u32), ..*place };
    let mut runner = Runner::new(&model, &place)?;
    let started = Instant::now();
    let (logits, labels) = run_by(&test, place.batch as usize, |records| runner.logits(records))?;
    let images_per_s = test.len() as f64 / started.elapsed().as_secs_f64();
    let hash = format!("{:016x}", logits_hash(&logits));
    let record = eval_record(&figures(&model, &logits, &labels), model.info.epoch, model.info.step.saturating_sub(1));
    if json {
        let mut json = serde_json::to_value(Record::Eval(record)).expect("finite numbers");
        json["images_per_s"] = images_per_s.into();
        json["logits_hash"] = hash.into();
        if let Runner::Gpu(network) = &runner {
            json["adapter"] = crate::gpu::describe(&network.exec.gpu.info).into();
            json["rungs"] = serde_json::to_value(&network.rungs).expect("names");
            json["multiplies"] = network.multiplies().into();
        }
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
        if let Runner::Gpu(network) = &runner {
            let count = |(rung, nodes): (_, Vec<_>)| format!("{} by {rung}", nodes.len());
            let counts: Vec<_> = by_rung(network).into_iter().map(count).collect();
            say!("convolutions: {}", counts.join(", "))?;
        }
        say!("logits hash {hash}")?;
    }
    Ok(ExitCode::SUCCESS)
}
