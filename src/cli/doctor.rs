//! `s3gpu doctor`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::error::{Error, Result};
use crate::gpu::shader::expand;
use crate::gpu::{Pipelines, describe};
use crate::kernels::{AnyKernel, Const, doctor, registry};

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
    /// Only kernels whose name contains this
    #[arg(long)]
    kernel: Option<String>,
    /// Print a kernel's shader as the adapter compiles it, in every variant of its cases
    #[arg(long, value_name = "KERNEL")]
    dump_shader: Option<String>,
    /// Write every shader that runs everywhere, in every variant, to a folder
    #[arg(long, value_name = "DIR")]
    dump_shaders: Option<PathBuf>,
}

/// Mismatches of a case that are printed; the rest is counted.
const SHOWN: usize = 8;

pub(super) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    if let Some(dir) = &args.dump_shaders {
        return dump_all(dir);
    }
    if let Some(name) = &args.dump_shader {
        return dump_one(name);
    }
    let wanted = |k: &&dyn AnyKernel| args.kernel.as_ref().is_none_or(|part| k.name().contains(part));
    let kernels: Vec<_> = registry().into_iter().filter(|k| wanted(k)).collect();
    if kernels.is_empty() {
        return Err(unknown(args.kernel.as_deref().unwrap_or_default()));
    }
    let gpu = super::open_gpu(args.adapter.as_deref())?;
    say!("s3gpu {} on {}", env!("CARGO_PKG_VERSION"), describe(&gpu.info))?;
    say!("{:32} {:>5}  {:>6}  outcome", "kernel", "cases", "error")?;
    let mut pipelines = Pipelines::default();
    let (mut failed, mut left_out) = (0, 0);
    for kernel in &kernels {
        let report = match doctor::examine(&gpu, &mut pipelines, *kernel) {
            Ok(report) => report,
            Err(Error::Gpu { what }) => {
                failed += 1;
                say!("{:32} {:>5}  {:>6}  refused: {what}", kernel.name(), "", "")?;
                continue;
            }
            Err(other) => return Err(other),
        };
        if report.cases == 0 {
            left_out += 1;
            say!("{:32} {:>5}  {:>6}  left out: it needs subgroups of one size", kernel.name(), "", "")?;
            continue;
        }
        let outcome = if report.failures.is_empty() { "ok" } else { "FAILED" };
        say!("{:32} {:>5}  {:>5.0}%  {outcome}", report.kernel, report.cases, 100.0 * report.worst)?;
        failed += usize::from(!report.failures.is_empty());
        for (case, bad) in &report.failures {
            say!("    {case}: {} elements", bad.len())?;
            for m in bad.iter().take(SHOWN) {
                say!("      {}[{}] = {:e}, not {:e} ± {:e}", m.binding, m.index, m.got, m.want, m.allowed)?;
            }
        }
    }
    say!("error: the largest share of the allowed error that an element used; 0 % is exact")?;
    let note = if left_out == 0 { String::new() } else { format!(", {left_out} left out") };
    say!("{} kernels right, {failed} wrong{note}", kernels.len() - failed - left_out)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn unknown(name: &str) -> Error {
    let known = registry().iter().map(|k| k.name()).collect::<Vec<_>>().join(", ");
    Error::usage(format!("no kernel is called `{name}`"), format!("kernels: {known}"))
}

fn variants(kernel: &dyn AnyKernel) -> BTreeSet<Vec<Const>> {
    kernel.cases().iter().map(|c| kernel.consts(&c.params)).collect()
}

fn dump_one(name: &str) -> Result<ExitCode> {
    let kernel = registry().into_iter().find(|k| k.name() == name).ok_or_else(|| unknown(name))?;
    for consts in variants(kernel) {
        say!("// {name} {consts:?}\n{}", expand(&kernel.source(), &consts))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn dump_all(dir: &Path) -> Result<ExitCode> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
    let mut count = 0;
    // Shaders with subgroups stay native: browsers demand a directive for them that naga refuses.
    for kernel in registry().into_iter().filter(|k| !k.needs_subgroups()) {
        for consts in variants(kernel) {
            let variant: String = consts.iter().map(|(name, v)| format!(".{name}{v}")).collect();
            let path = dir.join(format!("{}{variant}.wgsl", kernel.name()));
            std::fs::write(&path, expand(&kernel.source(), &consts)).map_err(Error::io(&path, "write"))?;
            count += 1;
        }
    }
    say!("{count} shaders in {}", dir.display())?;
    Ok(ExitCode::SUCCESS)
}
