//! `s3gpu bench data`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::data::{ImageArgs, ReadArgs, remark};
use crate::data::sampler::epoch_order;
use crate::data::{self, Ahead, Manifest, Records, Source, Splits, View};
use crate::error::Result;
use crate::gpu::describe;
use crate::graph::RungChoice;
use crate::methods::MethodSpec;
use crate::model::Values;
use crate::train::setup::Setup;
use crate::train::{Config, Engine};

/// Images are decoded by one thread for at least so many seconds, or all once.
const SECONDS: f64 = 1.0;

#[derive(Args)]
pub(super) struct BenchDataArgs {
    /// Data set
    #[arg(long)]
    dataset: String,
    /// Folder with the data set's files, or its parent
    #[arg(long)]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    read: ReadArgs,
    /// Network
    #[arg(long, default_value = "resnet20")]
    model: String,
    /// Training method
    #[arg(long, default_value = "s3")]
    method: String,
    /// Images in a step
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_size: u32,
    /// Steps that are timed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: u32,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
}

pub(super) fn run(args: &BenchDataArgs) -> Result<ExitCode> {
    let manifest = Manifest::find(&args.dataset)?;
    let config = Config {
        dataset: args.dataset.clone(),
        data_dir: args.data_dir.clone(),
        image_size: args.images.image_size,
        pad: args.images.pad,
        val_split: args.images.val_split,
        model: args.model.clone(),
        method: args.method.clone(),
        bits: MethodSpec::find(&args.method, None)?.bits,
        batch_size: args.batch_size,
        mean: manifest.mean,
        std: manifest.std,
        ..Config::default()
    };
    let setup = Setup::new(config)?;
    let c = &setup.config;
    let reading = args.read.how(c.reading());
    let data = data::open(&setup.manifest, c.data_dir.as_deref(), Splits { train: true, test: false }, &reading)?;
    let source = data.train.as_deref().expect("the training set was asked for");
    let mut said = Vec::new();
    remark(&data, &mut said);
    // As many epochs in a row as the steps need.
    let epochs = (args.steps as usize * c.batch_size as usize).div_ceil(source.len()) as u64;
    let order: Vec<u32> = (0..epochs).flat_map(|epoch| epoch_order(c.seed, epoch, source.len(), true)).collect();
    let batches: Vec<&[u32]> = order.chunks_exact(c.batch_size as usize).take(args.steps as usize).collect();

    let one = alone(source, &order)?;
    let all = ahead(source, &batches, |source, batch| {
        source.fill(batch, View::Train { epoch: 1 }, &mut vec![0; batch.len() * source.image_len()])
    })?;
    let rate = (batches.len() * c.batch_size as usize) as f64 / all.0;
    let threads = source.threads();
    say!("{} images of {}: {one:.0} images/s by one thread", source.len(), setup.manifest.name)?;
    match threads {
        0 => say!("they lie in memory, so no thread runs ahead")?,
        _ => say!("{rate:.0} images/s by {threads} threads, {:.0} each", rate / threads as f64)?,
    }

    let gpu = super::open_gpu(args.adapter.as_deref())?;
    let adapter = describe(&gpu.info);
    let mut engine = Engine::new(gpu, &setup.graph, &setup.options(RungChoice::default()))?;
    engine.load(&Values::init(&setup.graph, &engine.layout, c.latent_init, c.seed));
    let still = constant(source, batches.first().copied().unwrap_or_default())?;
    let same: Vec<u32> = (0..still.len() as u32).collect();
    let again = vec![&same[..]; batches.len()];
    steps(&mut engine, &still, &again[..1])?;
    let (constant, _) = steps(&mut engine, &still, &again)?;
    let (real, waited) = steps(&mut engine, source, &batches)?;
    let count = batches.len() as f64;
    say!("a step of {}, {}, batch {}, on {adapter}:", c.model, setup.identity.method.title(), c.batch_size)?;
    say!("  {:.3} s on one batch again and again", constant / count)?;
    say!("  {:.3} s on the images, {:.0} % of it waiting for them", real / count, 100.0 * waited / real)?;
    Ok(ExitCode::SUCCESS)
}

/// Images a second of one thread, each decoded for the first time.
fn alone(source: &dyn Source, order: &[u32]) -> Result<f64> {
    let mut pixels = vec![0; source.image_len()];
    let started = Instant::now();
    let mut count = 0;
    for index in order {
        source.fill(&[*index], View::Train { epoch: 0 }, &mut pixels)?;
        count += 1;
        if started.elapsed().as_secs_f64() > SECONDS {
            break;
        }
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Seconds to give all batches to `each`, decoded ahead, and those of them spent waiting.
fn ahead(
    source: &dyn Source,
    batches: &[&[u32]],
    mut each: impl FnMut(&Ahead, &[u32]) -> Result<()>,
) -> Result<(f64, f64)> {
    std::thread::scope(|scope| {
        let source = Ahead::new(scope, source);
        let started = Instant::now();
        source.announce(batches.iter().copied(), View::Train { epoch: 1 });
        batches.iter().try_for_each(|batch| each(&source, batch))?;
        Ok((started.elapsed().as_secs_f64(), source.waited().as_secs_f64()))
    })
}

/// A batch in memory.
fn constant(source: &dyn Source, indices: &[u32]) -> Result<Records> {
    let image_len = source.image_len();
    let mut pixels = vec![0; indices.len() * image_len];
    source.fill(indices, View::Train { epoch: 0 }, &mut pixels)?;
    let labels = indices.iter().map(|i| source.label(*i as usize)).collect();
    Ok(Records { pixels, labels, image_len })
}

/// Seconds of training steps on all batches, and those of them spent waiting for images.
fn steps(engine: &mut Engine, source: &dyn Source, batches: &[&[u32]]) -> Result<(f64, f64)> {
    let started = Instant::now();
    let (_, waited) = ahead(source, batches, |source, batch| {
        if engine.is_full() {
            engine.figures()?;
        }
        engine.step(source, batch, 1, 1e-3)
    })?;
    engine.figures()?;
    Ok((started.elapsed().as_secs_f64(), waited))
}
