//! Evaluates a checkpoint: `cargo run --release --example eval [WEIGHTS [DATASET [DATA_DIR]]]`; the `train` example leaves one.

use std::path::PathBuf;

use s3gpu::data::{self, Manifest, Splits};
use s3gpu::gpu;
use s3gpu::train::Trained;

fn main() -> s3gpu::Result<()> {
    let mut args = std::env::args().skip(1);
    let weights = args.next().unwrap_or("runs/example".into());
    let manifest = Manifest::find(&args.next().unwrap_or("shapes".into()))?;
    let folder = args.next().map(PathBuf::from);
    let data = data::load(&manifest, folder.as_deref(), Splits::TEST)?;
    let test = data.test.expect("the test set was asked for");

    // The file says which network it is. Up to 250 images at a time; no kernel is preferred over the built-in choice.
    let trained = Trained::read(&weights)?;
    let mut engine = trained.engine(&manifest, gpu::open(None)?, 250.min(test.len() as u32), &[])?;
    let figures = engine.evaluate(&test)?;

    let record = trained.record(&figures, &manifest)?;
    let (model, method) = (&trained.identity.model, trained.identity.method.title());
    println!("{model} {method}: top-1 {:.2} %, {} of {} right", record.top1, record.correct, record.count);
    Ok(())
}
