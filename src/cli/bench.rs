//! `s3gpu bench`.

use std::process::ExitCode;

use clap::Subcommand;

use super::bench_data::BenchDataArgs;
use crate::bench::compare::compare;
use crate::bench::guard::{self, GuardArgs};
use crate::bench::inference::{self, InferenceArgs};
use crate::bench::report::Report;
use crate::bench::scaling::{self, ScalingArgs};
use crate::bench::{MeasureArgs, measure, plot};
use crate::error::Result;
use crate::files::write_atomic;
use crate::gpu::describe;

#[derive(Subcommand)]
pub(super) enum BenchCommand {
    /// Time every distinct dispatch of a training step, beside the adapter's ceilings
    Kernels(MeasureArgs),
    /// Time a training step and a forward pass in whole, and by kernel
    Step(MeasureArgs),
    /// Time a step against batch, width and depth, each varied alone
    Scaling(ScalingArgs),
    /// Time an integer network's forward pass: each convolution rung, the processor, and the float network beside them
    Inference(InferenceArgs),
    /// Hold a step's time, as a ratio to fixed kernels, against the stored ratio; fails beyond 20 %
    Guard(GuardArgs),
    /// Time decoding by one thread and by all, and a step on real images beside one on a batch that stays the same
    Data(BenchDataArgs),
}

pub(super) fn run(command: &BenchCommand) -> Result<ExitCode> {
    match command {
        BenchCommand::Kernels(args) => measured(args, Report::parts_table),
        BenchCommand::Step(args) => measured(args, Report::kernels_table),
        BenchCommand::Scaling(args) => scaled(args),
        BenchCommand::Data(args) => super::bench_data::run(args),
        BenchCommand::Inference(args) => inferred(args),
        BenchCommand::Guard(args) => {
            let gpu = super::open_gpu(args.workload.adapter.as_deref())?;
            let passed = guard::run(gpu, args, |line| say!("{line}"))?;
            Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn measured(args: &MeasureArgs, table: fn(&Report) -> String) -> Result<ExitCode> {
    // Read first: a wrong file should not cost a measurement.
    let old = args.compare.as_deref().map(Report::read).transpose()?;
    let gpu = super::open_gpu(args.workload.adapter.as_deref())?;
    say!("{} on {}", args.workload.named()?, describe(&gpu.info))?;
    let report = measure(gpu, args)?;
    say!("{}\n{}", report.summary(), table(&report))?;
    if let Some(path) = &args.profile {
        say!("trace of {} dispatches in {}", report.dispatches, path.display())?;
    }
    if let Some(old) = &old {
        say!("{}", compare(old, &report))?;
    }
    if args.json {
        say!("{}", serde_json::to_string(&report).expect("finite numbers"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn inferred(args: &InferenceArgs) -> Result<ExitCode> {
    let report = inference::run(args)?;
    say!("{}\n{}", inference::title(&args.model, &report), report.table())?;
    if args.json {
        say!("{}", serde_json::to_string(&report).expect("finite numbers"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn scaled(args: &ScalingArgs) -> Result<ExitCode> {
    let scaling = scaling::run(args, |line| say!("{line}"))?;
    if let Some(path) = &args.out {
        let svg = plot::render(&scaling, path)?;
        write_atomic(path, |out| out.write_all(svg.as_bytes()))?;
        say!("plot in {}", path.display())?;
    }
    if args.json {
        say!("{}", serde_json::to_string(&scaling).expect("finite numbers"))?;
    }
    Ok(ExitCode::SUCCESS)
}
