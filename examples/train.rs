//! Trains ResNet-8 with 3-bit shift weights on drawn shapes: `cargo run --release --example train [FOLDER]`.
//!
//! It leaves what `s3gpu train` leaves: config.toml, metrics.jsonl, best.safetensors, last.safetensors and curves.svg.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use s3gpu::data::{self, Splits};
use s3gpu::gpu;
use s3gpu::train::{Config, EvalRecord, Observer, Run, Setup, TrainRecord};

/// Prints each evaluation; every method that is left out does nothing.
struct Print;

impl Observer for Print {
    fn eval(&mut self, record: &EvalRecord, _: Option<&TrainRecord>, seconds: f64) {
        println!("epoch {}: top-1 {:.2} %, loss {:.4} ({seconds:.0} s)", record.epoch + 1, record.top1, record.loss);
    }
}

fn main() -> s3gpu::Result<()> {
    let out = PathBuf::from(std::env::args().nth(1).unwrap_or("runs/example".into()));
    // The defaults are the command line's; S3's latents want a large rate in so short a run.
    let defaults = Config::on("shapes")?;
    let setup = Setup::new(Config { model: "resnet8".into(), epochs: 1, latent_lr: 30.0, seed: 1, ..defaults })?;
    let data = data::load(&setup.manifest, None, Splits::BOTH)?;

    // `true` replaces a run that is in the folder; `None` is no limit of steps; the flag stops it from another thread.
    let mut run = Run::start(&setup, gpu::open(None)?, data.both()?, &out, true)?;
    let outcome = run.train(None, &AtomicBool::new(false), &mut Print)?;

    let best = run.progress().best.unwrap_or_default();
    println!("{outcome:?}: best top-1 {best:.2} %, in {}", out.display());
    Ok(())
}
