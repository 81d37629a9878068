//! Measuring: a training step in whole and by its dispatches, beside what the adapter could do at most.
//!
//! | file | what it holds |
//! |---|---|
//! | [`workload`] | the step that is measured, on the device |
//! | [`clock`] | GPU timestamps where they can be believed, else wall time |
//! | [`ceilings`] | copy bandwidth and multiply-add peak, and the floor that they set |
//! | [`report`] | everything measured, as tables and JSON |
//! | [`mod@compare`] | what moved since an older report |
//! | [`trace`] | one step as a chrome trace |
//! | [`scaling`], [`plot`] | time against batch, width and depth |
//! | [`guard`] | a step's time as a ratio to fixed kernels, against a stored one |
//! | [`inference`] | forward passes as floats and as integers, by rung |
//! | [`startup`] | the way to the first step by part, cold and warm |
//!
//! A kernel whose cases fail is not timed. Times are medians; ratios between figures of one run are what counts.

pub mod ceilings;
pub mod clock;
pub mod compare;
pub mod guard;
pub mod inference;
pub mod plot;
pub mod report;
pub mod scaling;
pub mod startup;
pub mod trace;
pub mod workload;

use std::path::PathBuf;

use clap::Args;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Pipelines};
use crate::kernels::{AnyKernel, doctor};
use crate::version::commit;
use ceilings::Reference;
use clock::Clock;
use report::{Part, Report};
use workload::{Subject, Workload};

/// Seconds that a measured round of steps lasts at least.
const ROUND: f64 = 0.1;
/// Submissions that measure the host's part.
const HOST_ROUNDS: usize = 10;

/// Flags of `s3gpu bench kernels` and `s3gpu bench step`.
#[derive(Args, Clone, Debug)]
pub struct MeasureArgs {
    /// The step.
    #[command(flatten)]
    pub workload: Workload,
    /// Measure first which rungs are fastest, for at most so many seconds, as `s3gpu train --tune` does, but for this run only
    #[arg(long, value_name = "SECONDS", conflicts_with = "rung")]
    pub tune: Option<u64>,
    /// Rounds to take the median of: a step each, or as many as fill 0.1 s
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    pub json: bool,
    /// Show what moved since the file that an earlier --json went to
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    /// Write one step as a chrome trace, an event a dispatch
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
}

/// The middle of some numbers.
fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs the kernels' cases.
///
/// # Errors
/// [`Error::Gpu`] naming those that fail: these are not to be timed.
fn trust(gpu: &Gpu, kernels: &[&'static dyn AnyKernel]) -> Result<()> {
    let mut pipelines = Pipelines::default();
    let mut bad = Vec::new();
    for kernel in kernels {
        if !doctor::examine(gpu, &mut pipelines, *kernel)?.failures.is_empty() {
            bad.push(kernel.name());
        }
    }
    match bad.is_empty() {
        true => Ok(()),
        false => Err(Error::Gpu { what: format!("to pass the cases of {}, so nothing is timed", bad.join(", ")) }),
    }
}

/// Driver and its version, on one line.
fn driver(gpu: &Gpu) -> String {
    [gpu.info.driver.trim(), gpu.info.driver_info.trim()].join(" ").trim().to_string()
}

/// Median and fastest seconds of `one`, which runs a given number of passes and returns the seconds of one.
fn rounds(count: u32, mut one: impl FnMut(usize) -> Result<f64>) -> Result<(f64, f64)> {
    let passes = ((ROUND / one(1)?) as usize).clamp(1, 1000);
    let all = (0..count).map(|_| one(passes)).collect::<Result<Vec<_>>>()?;
    let fastest = all.iter().copied().fold(f64::INFINITY, f64::min);
    Ok((median(all), fastest))
}

/// Where the rungs come from.
fn rung_order(args: &MeasureArgs) -> &'static str {
    match args.tune {
        Some(_) => "tuned in this run",
        None if args.workload.rung.is_empty() => "built-in order",
        None => "--rung, then built-in order",
    }
}

/// Measures a step: every part of the report, and a trace where one is asked for.
///
/// # Errors
/// As [`Subject::new`]; [`Error::Gpu`] where a kernel of the step fails its cases.
pub fn measure(gpu: Gpu, args: &MeasureArgs) -> Result<Report> {
    let named = args.workload.named()?;
    let mut subject = Subject::of(gpu, &args.workload, args.tune)?;
    trust(subject.gpu(), &subject.kernels())?;
    let reference = Reference::new(subject.gpu())?;
    let mut clock = Clock::new(subject.gpu(), &reference)?;
    let ceilings = reference.ceilings(subject.gpu(), &mut clock)?;
    drop(reference);
    subject.steps(2)?;
    let before = subject.allocated();
    let (seconds, fastest) = rounds(args.steps, |n| subject.steps(n))?;
    let allocated = [before, subject.allocated()];
    let (forward, _) = rounds(args.steps, |n| subject.forwards(n))?;
    let host = subject.host_seconds(HOST_ROUNDS)?;
    let mut parts = Vec::new();
    for d in subject.distinct() {
        let (seconds, floor) = (subject.time(d.step, &mut clock)?, ceilings.floor(&d.cost));
        parts.push(Part {
            kernel: d.kernel.into(),
            layer: d.layer,
            times: d.times,
            seconds,
            flops: d.cost.flops,
            bytes: d.cost.bytes,
            floor,
            share: floor / seconds,
        });
    }
    if let Some(path) = &args.profile {
        trace::write(path, &subject.traced(&mut clock)?)?;
    }
    let sum = |f: fn(&Part) -> f64| parts.iter().map(|p| p.times as f64 * f(p)).sum::<f64>();
    let (flops, bytes, floor) = (sum(|p| p.flops), sum(|p| p.bytes), sum(|p| p.floor));
    Ok(Report {
        seconds_per_step: seconds,
        seconds_fastest: fastest,
        seconds_per_forward: forward,
        images_per_s: f64::from(named.batch) / seconds,
        adapter: subject.gpu().info.name.trim().into(),
        driver: driver(subject.gpu()),
        commit: commit(),
        version: env!("CARGO_PKG_VERSION").into(),
        workload: named,
        dispatches: subject.engine.dispatches(),
        host_seconds: host,
        flops,
        bytes,
        floor,
        share: floor / seconds,
        memory_bytes: subject.engine.exec.plan.bytes(),
        allocated,
        clock: clock.describe(),
        ceilings,
        rung_order: rung_order(args).into(),
        rungs: subject.engine.rungs.clone(),
        parts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![1.0]), 1.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn fast_steps_share_a_round_and_slow_ones_do_not() {
        let mut asked = Vec::new();
        let (middle, fastest) = rounds(3, |n| {
            asked.push(n);
            Ok(0.01 * asked.len() as f64)
        })
        .expect("no device");
        assert_eq!(asked, [1, 10, 10, 10]);
        assert_eq!((middle, fastest), (0.03, 0.02));
        let mut asked = Vec::new();
        rounds(2, |n| {
            asked.push(n);
            Ok(2.0)
        })
        .expect("no device");
        assert_eq!(asked, [1, 1, 1]);
    }
}
