//! Step time against batch, width and depth, each varied alone.

use std::time::Instant;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::workload::{Named, Subject, Workload};
use super::{commit, driver, median};
use crate::error::{Error, Result};
use crate::gpu::{self, Gpu};
use crate::graph::{Plan, RungChoice, Vars};
use crate::train::setup::Setup;
use crate::train::{Config, Engine};

/// Steps timed at a point, within its cap.
const STEPS: usize = 3;
/// The largest batch that the command line takes: what a plan is tried with to find what limits it.
const LARGEST_BATCH: u32 = 65_536;

const BATCHES: &[u32] = &[8, 16, 32, 64, 128, 256, 512, 1024];
const WIDTHS: &[u32] = &[1, 2, 3, 4];
const DEPTHS: &[u32] = &[8, 14, 20, 32, 44, 56, 110];

/// Flags of `s3gpu bench scaling`.
#[derive(Args, Clone, Debug)]
pub struct ScalingArgs {
    /// The step that one thing at a time is changed of.
    #[command(flatten)]
    pub workload: Workload,
    /// Seconds that a point may take; dearer ones are left out, and the table says so
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    pub cap: f64,
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    pub json: bool,
    /// Draw it, as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub out: Option<std::path::PathBuf>,
}

/// What came of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Median seconds of a step.
    Seconds(f64),
    /// Why it was not measured.
    LeftOut(String),
}

/// A network and batch on an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Batch, width or depth.
    pub x: u32,
    /// Images in a step.
    pub batch: u32,
    /// Operations of a step.
    pub flops: f64,
    /// Bytes of all buffers of its plan; 0 where there is none.
    pub memory_bytes: u64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Point {
    /// Median seconds of a step, where it was measured.
    pub fn seconds(&self) -> Option<f64> {
        match self.outcome {
            Outcome::Seconds(s) => Some(s),
            Outcome::LeftOut(_) => None,
        }
    }
}

/// One thing varied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// `batch`, `width` or `depth`.
    pub name: String,
    /// Its points.
    pub points: Vec<Point>,
    /// e of seconds ~ x^e by least squares on logarithms, where there are two points.
    pub exponent: Option<f64>,
    /// What ends it.
    pub limit: String,
}

/// All axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Adapter.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    /// As in a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What one thing at a time was changed of.
    pub base: Named,
    /// The largest batch of the base configuration that the adapter holds, and what stops the next.
    pub largest_batch: String,
    /// Batch, width, depth.
    pub axes: Vec<Axis>,
}

/// e of y ~ x^e by least squares on logarithms.
pub fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<_> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = logs.len() as f64;
    let mean = |f: fn(&(f64, f64)) -> f64| logs.iter().map(f).sum::<f64>() / n;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = logs.iter().map(|(x, _)| (x - mx).powi(2)).sum();
    let shared: f64 = logs.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    (spread > 0.0).then(|| shared / spread)
}

/// The plan of a configuration on an adapter, checked against its limits; nothing is allocated.
fn plan(gpu: &Gpu, config: &Config) -> Result<Plan> {
    let setup = Setup::new(config.clone())?;
    let plan = setup.plan(gpu, RungChoice { forced: config.rungs.clone(), ..Default::default() })?;
    plan.check(&gpu.limits, config.batch_size)?;
    Ok(plan)
}

/// An error and its way out on one line.
fn one_line(e: &Error) -> String {
    e.to_string().replace("\n  ", "; ")
}

/// What keeps the base configuration's batch from growing further.
fn largest_batch(gpu: &Gpu, config: &Config) -> Result<String> {
    match plan(gpu, &Config { batch_size: LARGEST_BATCH, ..config.clone() }) {
        Ok(_) => Ok(format!("{LARGEST_BATCH}, the most that --batch-size takes")),
        Err(e @ Error::AdapterTooSmall { .. }) => Ok(one_line(&e)),
        Err(e) => Err(e),
    }
}

/// Seconds of a step after a first one, within the cap.
fn time(gpu: Gpu, config: Config, cap: f64) -> Result<f64> {
    let started = Instant::now();
    let mut subject = Subject::new(gpu, config)?;
    let mut all = Vec::new();
    while all.len() < STEPS && (all.is_empty() || started.elapsed().as_secs_f64() + all[0] < cap) {
        all.push(subject.steps(1)?);
    }
    Ok(median(all))
}

/// One point; `last` holds operations and seconds of the axis's point before.
fn point(adapter: Option<&str>, x: u32, config: Config, last: Option<(f64, f64)>, cap: f64) -> Result<Point> {
    let gpu = gpu::open(adapter)?;
    let batch = config.batch_size;
    let left_out = |flops, memory_bytes, why| Point { x, batch, flops, memory_bytes, outcome: Outcome::LeftOut(why) };
    let plan = match plan(&gpu, &config) {
        Ok(plan) => plan,
        Err(e @ Error::AdapterTooSmall { .. }) => {
            return Ok(left_out(0.0, 0, format!("memory: {}", one_line(&e))));
        }
        Err(e) => return Err(e),
    };
    let vars = Vars { n: batch, ..Vars::default() };
    let (flops, bytes) = (plan.flops(Engine::TRAIN, &vars), plan.bytes());
    // A first step and one to time.
    let expected = last.map_or(0.0, |(f, s)| 2.0 * s * flops / f);
    if expected > cap {
        let why = format!("time: two steps would take some {expected:.1} s, --cap is {cap} s");
        return Ok(left_out(flops, bytes, why));
    }
    drop(plan);
    match time(gpu, config, cap) {
        Ok(seconds) => Ok(Point { x, batch, flops, memory_bytes: bytes, outcome: Outcome::Seconds(seconds) }),
        Err(e @ Error::OutOfMemory { .. }) => Ok(left_out(flops, bytes, format!("memory: {}", one_line(&e)))),
        Err(e @ (Error::Gpu { .. } | Error::DeviceLost { .. })) => {
            let why = format!("driver, at {:.2} GB of buffers: {}", bytes as f64 / 1e9, one_line(&e));
            Ok(left_out(flops, bytes, why))
        }
        Err(e) => Err(e),
    }
}

fn axis(
    name: &str,
    xs: &[u32],
    args: &ScalingArgs,
    change: impl Fn(u32, &mut Config),
    say: &mut impl FnMut(String) -> Result<()>,
) -> Result<Axis> {
    say(format!("{name:>6} {:>10} {:>10} {:>10} {:>9} {:>9}", "s a step", "images/s", "GFLOP", "GFLOP/s", "MB"))?;
    let mut points: Vec<Point> = Vec::new();
    for x in xs {
        let mut config = args.workload.config()?;
        change(*x, &mut config);
        let last = points.iter().rev().find_map(|p| Some((p.flops, p.seconds()?)));
        let p = point(args.workload.adapter.as_deref(), *x, config, last, args.cap)?;
        let (gflop, mb) = (p.flops / 1e9, p.memory_bytes as f64 / 1e6);
        say(match &p.outcome {
            Outcome::Seconds(s) => {
                let rate = f64::from(p.batch) / s;
                format!("{x:>6} {s:>10.4} {rate:>10.1} {gflop:>10.2} {:>9.1} {mb:>9.1}", gflop / s)
            }
            Outcome::LeftOut(why) => format!("{x:>6} {:>10} {why}", "-"),
        })?;
        points.push(p);
    }
    let measured: Vec<_> = points.iter().filter_map(|p| Some((f64::from(p.x), p.seconds()?))).collect();
    let exponent = exponent(&measured);
    let stopped = points.iter().find_map(|p| match &p.outcome {
        Outcome::LeftOut(why) => Some(format!("{name} {} is left out for {why}", p.x)),
        Outcome::Seconds(_) => None,
    });
    let limit = stopped.unwrap_or_else(|| format!("nothing: all points to {} were measured", xs[xs.len() - 1]));
    if let Some(e) = exponent {
        say(format!("seconds ~ {name}^{e:.2} over {} points; limited by {limit}\n", measured.len()))?;
    }
    Ok(Axis { name: name.into(), points, exponent, limit })
}

/// Measures all three axes, saying each point when it is there.
///
/// # Errors
/// As [`Subject::new`]; points that fit neither memory nor the cap are no errors.
pub fn run(args: &ScalingArgs, mut say: impl FnMut(String) -> Result<()>) -> Result<Scaling> {
    if !(args.cap > 0.0 && args.cap.is_finite()) {
        return Err(Error::usage(format!("--cap is {}", args.cap), "it must be a number of seconds above 0"));
    }
    let gpu = gpu::open(args.workload.adapter.as_deref())?;
    let base = args.workload.named()?;
    let config = args.workload.config()?;
    say(format!("{base} on {}", gpu::describe(&gpu.info)))?;
    let largest_batch = largest_batch(&gpu, &config)?;
    say(format!("largest batch: {largest_batch}\n"))?;
    let axes = vec![
        axis("batch", BATCHES, args, |x, c| c.batch_size = x, &mut say)?,
        axis("width", WIDTHS, args, |x, c| c.width = x, &mut say)?,
        axis("depth", DEPTHS, args, |x, c| c.model = format!("resnet{x}"), &mut say)?,
    ];
    let adapter = gpu.info.name.trim().into();
    Ok(Scaling { adapter, driver: driver(&gpu), commit: commit(), base, largest_batch, axes })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::model::Shortcut;

    pub fn scaling() -> Scaling {
        let point = |x: u32, outcome| Point { x, batch: x, flops: 1e9, memory_bytes: 1 << 20, outcome };
        let seconds = |x: u32| point(x, Outcome::Seconds(0.01 * f64::from(x)));
        let axis = |name: &str, points: Vec<Point>| Axis {
            name: name.into(),
            points,
            exponent: Some(1.0),
            limit: "nothing".into(),
        };
        Scaling {
            adapter: "a <card>".into(),
            driver: "its driver".into(),
            commit: None,
            base: Named {
                model: "resnet20".into(),
                width: 1,
                shortcut: Shortcut::Pad,
                method: "fp32".into(),
                batch: 128,
                image: 32,
            },
            largest_batch: "64".into(),
            axes: vec![
                axis("batch", vec![seconds(8), seconds(16), point(32, Outcome::LeftOut("memory: x".into()))]),
                axis("width", vec![seconds(1)]),
                axis("depth", vec![point(8, Outcome::LeftOut("time: y".into()))]),
            ],
        }
    }

    #[test]
    fn exponents_by_least_squares() {
        let law = |e: f64| [1.0, 2.0, 5.0, 9.0].map(|x: f64| (x, 3.0 * x.powf(e)));
        for e in [-1.0, 0.0, 0.5, 1.0, 2.0] {
            assert!((exponent(&law(e)).unwrap() - e).abs() < 1e-12);
        }
        // ln y = 0, 0, 3 at ln x = 0, 1, 2: the slope is 1.5.
        let bent: Vec<_> = [(0.0f64, 0.0f64), (1.0, 0.0), (2.0, 3.0)].map(|(x, y)| (x.exp(), y.exp())).to_vec();
        assert!((exponent(&bent).unwrap() - 1.5).abs() < 1e-12);
        assert_eq!(exponent(&[]), None);
        assert_eq!(exponent(&[(2.0, 1.0)]), None);
    }

    #[test]
    fn json_round_trip() {
        let wanted = scaling();
        let json = serde_json::to_string(&wanted).unwrap();
        assert_eq!(serde_json::from_str::<Scaling>(&json).unwrap(), wanted);
        assert!(json.contains("\"seconds\":0.08") && json.contains("\"left_out\":\"memory: x\""), "{json}");
    }
}
