//! `s3gpu train --dry-run`: the plan, of which nothing is allocated.

use std::process::ExitCode;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::{RungChoice, Vars};
use crate::train::setup::Setup;

/// Prints buffers, dispatches, operations and bytes.
pub(super) fn dry_run(setup: &Setup, gpu: Gpu, rungs: RungChoice) -> Result<ExitCode> {
    let plan = setup.plan(&gpu, rungs)?;
    let batch = setup.config.part_size();
    let vars = Vars { n: batch, total: setup.config.batch_size, ..Vars::default() };
    say!("buffers:")?;
    for (i, b) in plan.buffers.iter().enumerate() {
        let kind = if i < plan.persistent { "" } else { "slot, largest: " };
        say!("  {i:3}  {:>11}  {kind}{}", super::bytes(4 * b.words), b.name)?;
    }
    // Sizes beyond the adapter's may be beyond a kernel's counters, too.
    plan.check(&gpu.limits, batch)?;
    let parts = setup.config.accumulate;
    let observation = "an observation of the weights".into();
    let names = match parts {
        1 => [
            "a training step".into(),
            "before an evaluation".into(),
            "an evaluation batch".into(),
            String::new(),
            observation,
        ],
        _ => [
            format!("one of {parts} parts of a training step"),
            "before a training step or an evaluation".into(),
            "an evaluation batch".into(),
            "at a training step's end".into(),
            observation,
        ],
    };
    for (name, section) in names.iter().zip(&plan.sections).filter(|(_, section)| !section.is_empty()) {
        say!("{name}: {} dispatches", section.len())?;
        for (i, step) in section.iter().enumerate() {
            let params = (step.params)(&vars);
            let cost = step.kernel.cost(&params);
            let (groups, mflop) = (step.kernel.groups(&params), cost.flops / 1e6);
            say!(
                "  {i:3}  {:30} {:20} {groups:>7} groups {mflop:>9.1} MFLOP  buffers {:?}",
                step.kernel.name(),
                step.label,
                step.args
            )?;
        }
    }
    let flops = |section| plan.flops(section, &vars);
    let step = if parts == 1 { flops(0) } else { f64::from(parts) * flops(0) + flops(1) + flops(3) };
    say!("{:.2} GFLOP a step", step / 1e9)?;
    say!(
        "{} in {} buffers, {} of them for activations and gradients",
        super::bytes(plan.bytes()),
        plan.buffers.len(),
        super::bytes(plan.slot_bytes())
    )?;
    Ok(ExitCode::SUCCESS)
}
