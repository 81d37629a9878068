//! Runs every kernel's cases on an adapter and holds them against the twins: behind `s3gpu doctor`, the tests and the benches.

use super::check::{Mismatch, compare, fill_case};
use super::{AnyCase, AnyKernel};
use crate::error::Result;
use crate::gpu::{Gpu, Pipelines, Single, download};

/// Words that stand behind every buffer and must not change.
const GUARD: [u32; 8] = [0xdead_beef; 8];

/// A kernel's outcome.
pub struct Report {
    /// The kernel.
    pub kernel: &'static str,
    /// Cases run; none where the adapter lacks the subgroups that the kernel needs.
    pub cases: usize,
    /// Largest share of the allowed error that any element used; 0 for exact kernels.
    pub worst: f64,
    /// Failures: case, and its mismatches in full.
    pub failures: Vec<(String, Vec<Mismatch>)>,
}

/// Runs one case.
///
/// # Errors
/// Where the adapter refuses the kernel or is lost.
pub fn run_case(
    gpu: &Gpu,
    pipelines: &mut Pipelines,
    kernel: &dyn AnyKernel,
    case: &AnyCase,
) -> Result<(Vec<Mismatch>, f64)> {
    let before = fill_case(kernel, case);
    let guarded: Vec<Vec<u32>> = before.iter().map(|b| b.iter().chain(&GUARD).copied().collect()).collect();
    let single = Single::new(gpu, pipelines, kernel, &case.params, &guarded)?;
    if kernel.groups(&case.params) > 0 {
        single.submit(gpu, 1);
    }
    let mut after = Vec::new();
    let mut overrun = Vec::new();
    for ((buffer, words), binding) in single.buffers.iter().zip(&guarded).zip(kernel.bindings()) {
        let mut now = download(gpu, buffer, words.len())?;
        let guard = now.split_off(words.len() - GUARD.len());
        for (i, g) in guard.into_iter().enumerate().filter(|(_, g)| *g != GUARD[0]) {
            let index = now.len() + i;
            overrun.push(Mismatch { binding: binding.name, index, got: g.into(), want: GUARD[0].into(), allowed: 0.0 });
        }
        after.push(now);
    }
    gpu.check(|| format!("kernel {}, case {}:", kernel.name(), case.name))?;
    let (mut bad, worst) = compare(kernel, &case.params, &before, &after);
    bad.extend(overrun);
    Ok((bad, worst))
}

/// Runs all cases of a kernel that the adapter has the subgroups for.
///
/// # Errors
/// As [`run_case`].
pub fn examine(gpu: &Gpu, pipelines: &mut Pipelines, kernel: &dyn AnyKernel) -> Result<Report> {
    let cases: Vec<_> = kernel.cases().into_iter().filter(|c| gpu.can_run(kernel, &c.params)).collect();
    let mut report = Report { kernel: kernel.name(), cases: cases.len(), worst: 0.0, failures: Vec::new() };
    for case in cases {
        let (bad, worst) = run_case(gpu, pipelines, kernel, &case)?;
        report.worst = report.worst.max(worst);
        if !bad.is_empty() {
            report.failures.push((case.name, bad));
        }
    }
    Ok(report)
}
