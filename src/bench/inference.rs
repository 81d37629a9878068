//! Forward passes of one network in one run: as floats, as integers by every rung, and by the reference on the processor.
//!
//! All ways take turns, so that what else the machine does hits all of them; medians count, and the fastest stands beside them. A pass
//! runs from pixels on the device to logits there (to loss and counts for floats); the reference on the processor begins and ends in
//! memory.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::median;
use super::workload::{Subject, Workload};
use crate::data::Records;
use crate::error::{Error, Result};
use crate::gpu::{self, Gpu};
use crate::int::fast::Scratch;
use crate::int::gpu::{CODE, Choice, Measured, Network, measure};
use crate::int::model::Op;
use crate::int::{Fast, Model};
use crate::kernels::AnyKernel;
use crate::kernels::int::RUNGS;
use crate::model::Shortcut;

/// Channels of a CIFAR network's first layer at width 1.
const FIRST_CHANNELS: u32 = 16;

/// Flags of `s3gpu bench inference`.
#[derive(Args, Clone, Debug)]
pub struct InferenceArgs {
    /// Integer network, as `s3gpu export` writes it
    pub model: PathBuf,
    /// Images in a batch; one image is measured beside it
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch_size: u32,
    /// Rounds to take the median of
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub steps: u32,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    pub adapter: Option<String>,
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    pub json: bool,
}

/// One way to run the network.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    /// What it is.
    pub name: String,
    /// Whether its kernels multiply; nothing is said of what is not a rung.
    pub multiplies: Option<bool>,
    /// Median seconds of a batch.
    pub batch_seconds: f64,
    /// Its fastest.
    pub batch_fastest: f64,
    /// Median seconds of one image.
    pub image_seconds: f64,
    /// What nine of ten single images are within.
    pub image_p90: f64,
    /// The float pass's seconds of a batch over its own, medians: above 1 is faster than floats.
    pub speedup: f64,
    /// The same of the fastest.
    pub speedup_fastest: f64,
}

/// Everything measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Adapter and driver.
    pub adapter: String,
    /// Network, method and bits.
    pub network: String,
    /// Images in a batch.
    pub batch: u32,
    /// The ways; floats first.
    pub ways: Vec<Way>,
    /// Each distinct convolution's rungs.
    pub convolutions: Vec<Measured>,
}

/// A network for a batch and one for a single image, both with pixels on the device.
struct Pair {
    batch: Network,
    image: Network,
}

impl Pair {
    fn new(
        open: &dyn Fn() -> Result<Gpu>,
        model: &Model,
        batch: u32,
        choices: [&Choice; 2],
        pixels: &[u8],
    ) -> Result<Self> {
        let mut batch = Network::new(open()?, model, batch, choices[0])?;
        let mut image = Network::new(open()?, model, 1, choices[1])?;
        batch.send(pixels);
        image.send(&pixels[..crate::int::model::len(model.input())]);
        Ok(Self { batch, image })
    }
}

fn pass(network: &mut Network) -> Result<f64> {
    let n = network.batch_size() as u32;
    let started = Instant::now();
    network.submit(n);
    network.exec.gpu.wait(None, || "during a benchmark".into())?;
    Ok(started.elapsed().as_secs_f64())
}

/// How long each of the two looks at the rungs may take.
const MEASURING: Duration = Duration::from_secs(120);
/// Single images in a round.
const SINGLES: usize = 4;

/// Seconds of batches and of single images.
#[derive(Clone, Default)]
struct Times {
    batch: Vec<f64>,
    image: Vec<f64>,
}

impl Times {
    /// One batch and [`SINGLES`] images.
    fn take(&mut self, mut batch: impl FnMut() -> Result<f64>, mut image: impl FnMut() -> Result<f64>) -> Result<()> {
        self.batch.push(batch()?);
        (0..SINGLES).try_for_each(|_| {
            self.image.push(image()?);
            Ok(())
        })
    }
}

/// Seconds that a closure takes.
fn seconds(f: impl FnOnce()) -> f64 {
    let started = Instant::now();
    f();
    started.elapsed().as_secs_f64()
}

/// The float network that the integers were made of, in name and shape.
fn floats(model: &Model, batch_size: u32, adapter: Option<&str>) -> Result<Workload> {
    let first = model.nodes.iter().find(|n| matches!(n.op, Op::Conv(_))).map_or(FIRST_CHANNELS, |n| n.shape.c);
    let padded = model.nodes.iter().any(|n| matches!(n.op, Op::PadShortcut { .. }));
    Ok(Workload {
        model: model.info.model.clone(),
        width: (first / FIRST_CHANNELS).max(1),
        shortcut: if padded { Shortcut::Pad } else { Shortcut::Conv },
        batch_size,
        method: "fp32".into(),
        bits: None,
        rung: Vec::new(),
        adapter: adapter.map(String::from),
        classes: model.classes() as u32,
        image_size: model.input().h,
    })
}

/// Measures all ways.
///
/// # Errors
/// For a file that is no integer network; as [`Network::new`] and [`Subject::of`].
pub fn run(args: &InferenceArgs) -> Result<Report> {
    let model = Model::read(&args.model)?;
    let adapter = args.adapter.as_deref();
    let open = || gpu::open(adapter);
    let len = crate::int::model::len(model.input());
    let batch = args.batch_size;
    let pixels: Vec<u8> = (0..batch as usize * len).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as u8).collect();
    let images = Records { labels: vec![0; batch as usize], image_len: len, pixels };
    let gpu = open()?;
    let adapter_name = gpu::describe(&gpu.info);
    let convolutions = measure(&gpu, &model, batch, MEASURING)?;
    let single = measure(&gpu, &model, 1, MEASURING)?;
    drop(gpu);

    let fast = Fast::new(&model);
    let wanted = fast.logits(&images);
    let mut float_batch = Subject::of(open()?, &floats(&model, batch, adapter)?, None)?;
    let mut float_image = Subject::of(open()?, &floats(&model, 1, adapter)?, None)?;
    let mut integers = Vec::new();
    let forced = RUNGS.map(|rung| {
        let name = AnyKernel::name(rung);
        let choice = Choice { forced: vec![name.into()], shift_only: !rung.multiplies, ..Choice::default() };
        (format!("integers, {name}"), [choice.clone(), choice])
    });
    let measured = [(false, "integers, measured choice"), (true, "integers, measured choice, shift-only")];
    let measured = measured.map(|(shift_only, name)| {
        (name.to_string(), [Choice::fastest(&convolutions, shift_only), Choice::fastest(&single, shift_only)])
    });
    let code = [(false, "integers, int_conv_code, then fastest"), (true, "integers, int_conv_code, shift-only")];
    let code = code.map(|(shift_only, name)| {
        let with =
            |measured: &[Measured]| Choice { forced: vec![CODE.into()], ..Choice::fastest(measured, shift_only) };
        (name.to_string(), [with(&convolutions), with(&single)])
    });
    for (name, [of_batch, of_image]) in forced.into_iter().chain(measured).chain(code) {
        let mut pair = Pair::new(&open, &model, batch, [&of_batch, &of_image], &images.pixels)?;
        // Nothing that is wrong is timed; this compiles, too.
        for network in [&mut pair.batch, &mut pair.image] {
            let n = network.batch_size();
            if network.run(&images.pixels[..n * len])? != wanted[..n * model.classes()] {
                return Err(Error::Gpu { what: format!("to compute what the reference does: {name} is not timed") });
            }
        }
        integers.push((name, pair));
    }

    let mut times = vec![Times::default(); 2 + integers.len()];
    for _ in 0..args.steps {
        let [floats, rest @ .., reference] = &mut times[..] else { unreachable!("two are always there") };
        floats.take(|| float_batch.forwards(1), || float_image.forwards(1))?;
        for (times, (_, pair)) in rest.iter_mut().zip(&mut integers) {
            times.take(|| pass(&mut pair.batch), || pass(&mut pair.image))?;
        }
        let mut scratch = Scratch::default();
        let mut image = || drop(fast.forward(images.image(0), &mut scratch, |_, _| ()));
        reference.take(|| Ok(seconds(|| drop(fast.logits(&images)))), || Ok(seconds(&mut image)))?;
    }

    let integers = integers.into_iter().map(|(name, pair)| (name, Some(pair.batch.multiplies())));
    let names = [("floats (fp32)".to_string(), None)].into_iter().chain(integers);
    let names = names.chain([("integers, processor".to_string(), None)]);
    let fastest = |all: &[f64]| all.iter().copied().fold(f64::INFINITY, f64::min);
    let floats = (median(times[0].batch.clone()), fastest(&times[0].batch));
    let way = |((name, multiplies), mut times): ((String, Option<bool>), Times)| {
        times.image.sort_by(f64::total_cmp);
        let (batch_fastest, image_p90) = (fastest(&times.batch), times.image[(times.image.len() - 1) * 9 / 10]);
        let batch_seconds = median(times.batch);
        Way {
            name,
            multiplies,
            batch_seconds,
            batch_fastest,
            image_seconds: median(times.image),
            image_p90,
            speedup: floats.0 / batch_seconds,
            speedup_fastest: floats.1 / batch_fastest,
        }
    };
    let info = &model.info;
    Ok(Report {
        adapter: adapter_name,
        network: format!("{} {} {}-bit", info.model, info.method, info.bits),
        batch,
        ways: names.zip(times).map(way).collect(),
        convolutions,
    })
}

impl Report {
    /// Ways and convolutions as tables.
    pub fn table(&self) -> String {
        let mut s = String::new();
        let _ = writeln!(
            s,
            "batch {}: ms of a pass, median and fastest, and as floats over it; ms of one image, median and p90\n{:42} {:>10} {:>9} \
             {:>9} {:>8} {:>6} {:>6} {:>8} {:>8}",
            self.batch, "", "multiplies", "median", "fastest", "images/s", "x", "x", "1 image", "p90"
        );
        for way in &self.ways {
            let multiplies = way.multiplies.map_or("", |m| if m { "yes" } else { "no" });
            let ms = [way.batch_seconds, way.batch_fastest, way.image_seconds, way.image_p90].map(|s| 1e3 * s);
            let [batch, fastest, image, p90] = ms;
            let rate = f64::from(self.batch) / way.batch_seconds;
            let _ = writeln!(
                s,
                "{:42} {multiplies:>10} {batch:>9.2} {fastest:>9.2} {rate:>8.0} {:>6.2} {:>6.2} {image:>8.2} {p90:>8.2}",
                way.name, way.speedup, way.speedup_fastest
            );
        }
        let _ = writeln!(s, "\nconvolutions, ms a dispatch");
        for m in &self.convolutions {
            let _ = writeln!(s, "{} ({} of them)", m.key, m.times);
            for (rung, seconds) in &m.seconds {
                let taken = if m.fastest(false) == Some(rung.as_str()) { " <- taken" } else { "" };
                let taken = if m.fastest(true) == Some(rung.as_str()) {
                    format!("{taken} <- shift-only")
                } else {
                    taken.into()
                };
                let _ = writeln!(s, "  {rung:30} {:>9.3}{taken}", 1e3 * seconds);
            }
        }
        s
    }
}

/// A network's file name for the first line.
pub fn title(path: &Path, report: &Report) -> String {
    format!("{} ({}) on {}", path.display(), report.network, report.adapter)
}
