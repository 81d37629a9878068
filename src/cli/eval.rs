//! `s3gpu eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::data::{self, Manifest, Splits};
use crate::error::Result;
use crate::train::Trained;
use crate::train::metrics::Record;

#[derive(Args)]
pub(super) struct EvalArgs {
    /// Checkpoint (safetensors) or a run's folder, whose best weights are taken
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
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &EvalArgs) -> Result<ExitCode> {
    let manifest = Manifest::find(&args.dataset)?;
    let trained = Trained::read(&args.weights)?;
    trained.graph(&manifest)?;
    let data = data::load(&manifest, args.data_dir.as_deref(), Splits::TEST)?;
    let test = data.test.expect("the test set was asked for");
    let batch = args.batch_size.min(test.len() as u32);
    let mut engine = trained.engine(&manifest, super::open_gpu(args.adapter.as_deref())?, batch, &args.rung)?;
    let started = std::time::Instant::now();
    let figures = engine.evaluate(&test)?;
    let record = trained.record(&figures, &manifest)?;
    if args.json {
        let json = serde_json::to_string(&Record::Eval(record)).expect("finite numbers");
        say!("{json}")?;
    } else {
        let speed = figures.count as f64 / started.elapsed().as_secs_f64();
        say!(
            "{} {} on {}: top-1 {:.2} %, top-5 {:.2} %, loss {:.4}",
            trained.identity.model,
            trained.identity.method.title(),
            manifest.name,
            record.top1,
            record.top5,
            record.loss
        )?;
        say!("{} of {} images right, {speed:.0} images/s", record.correct, record.count)?;
    }
    Ok(ExitCode::SUCCESS)
}
