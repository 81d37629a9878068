//! Tuning: which convolution rung is fastest for each shape of a plan, on this adapter.
//!
//! A candidate runs its cases first, and one that fails them is out. Candidates of a shape take turns, so that what else the machine
//! does hits all of them; medians count. The built-in choice stays unless another is more than [`MARGIN`] faster.

mod table;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub use table::{Choice, Table};

use crate::error::Result;
use crate::gpu::{Gpu, Pipelines, Single, describe, upload};
use crate::graph::lower::{RungChoice, lower};
use crate::graph::{Program, Vars};
use crate::kernels::check::fill_case;
use crate::kernels::conv::{ConvParams, Family, choice, pick};
use crate::kernels::{AnyCase, AnyKernel, doctor};
use crate::train::setup::Setup;

/// How much faster than the built-in choice another must be.
pub const MARGIN: f64 = 0.05;
/// Turns of a shape's candidates.
const TURNS: std::ops::RangeInclusive<usize> = 3..=15;
/// Seconds of dispatches that a turn lasts.
const TURN: f64 = 0.02;
/// A candidate that takes so many times as long as the fastest gets no turns.
const HOPELESS: f64 = 3.0;
/// Seconds beyond which a first dispatch is not repeated to see how long it takes without compiling.
const SLOW: f64 = 1.0;

/// A shape's outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Family and shape.
    pub key: String,
    /// Dispatches of it in a training step.
    pub times: usize,
    /// What is taken without measuring.
    pub builtin: &'static str,
    /// What was measured; none where time was up before.
    pub choice: Option<Choice>,
}

/// The rungs for a run's plan: measured under the time cap where one is given, and kept; else those kept before.
///
/// `tell` hears lines for the user.
///
/// # Errors
/// As [`crate::graph::lower()`] and [`Gpu::wait`].
pub fn rungs(
    setup: &Setup,
    gpu: &Gpu,
    cap: Option<Duration>,
    tell: &mut dyn FnMut(&str),
) -> Result<BTreeMap<String, String>> {
    let (mut table, note) = Table::load(gpu);
    note.iter().for_each(|n| tell(&format!("note: {n}")));
    let Some(cap) = cap else { return Ok(table.rungs()) };
    let options = setup.options(RungChoice::default()).on(gpu);
    let lowered = lower(&setup.graph, &options)?;
    tell(&format!("tuning for at most {} s", cap.as_secs()));
    measure(gpu, &lowered.train, options.batch, cap, &mut |m| {
        line(&m).iter().for_each(|l| tell(l));
        if let Some(choice) = m.choice {
            table.choices.insert(m.key, choice);
        }
    })?;
    match &gpu.cache {
        None => tell("note: there is no cache folder to keep these choices in: they are this run's only"),
        Some(folder) => match table.save(folder) {
            Ok(()) => tell(&format!("kept in {}", folder.path(&Table::file_name(&describe(&gpu.info))).display())),
            Err(e) => tell(&format!("note: {e}\n  these choices are this run's only")),
        },
    }
    Ok(table.rungs())
}

/// An outcome as lines of a table.
fn line(m: &Measured) -> Vec<String> {
    let head = format!("{} ({} a step)", m.key, m.times);
    let Some(choice) = &m.choice else { return vec![format!("{head}: not measured, {} stays", m.builtin)] };
    let mut sorted: Vec<_> = choice.seconds.iter().collect();
    sorted.sort_by(|a, b| a.1.total_cmp(b.1));
    let row = |(rung, seconds): (&String, &f64)| {
        let chosen = if *rung == choice.rung { " <- taken" } else { "" };
        let builtin = if rung == m.builtin { " (built-in)" } else { "" };
        format!("  {rung:34} {:>9.3} ms{chosen}{builtin}", 1e3 * seconds)
    };
    [head].into_iter().chain(sorted.into_iter().map(row)).collect()
}

/// The faster rung, or the built-in one where the difference is within [`MARGIN`]; `None` where nothing was measured.
pub fn choose(builtin: &str, seconds: &BTreeMap<String, f64>) -> Option<String> {
    let (best, least) = seconds.iter().min_by(|a, b| a.1.total_cmp(b.1))?;
    let stays = seconds.get(builtin).is_some_and(|s| *s <= least * (1.0 + MARGIN));
    Some(if stays { builtin.into() } else { best.clone() })
}

/// The distinct convolutions of a program, those with most operations first, and how often each stands there.
fn shapes(program: &Program, batch: u32) -> Vec<(Family, ConvParams, usize)> {
    let vars = Vars { n: batch, ..Vars::default() };
    let mut found: Vec<(Family, ConvParams, usize)> = Vec::new();
    for call in &program.calls {
        let Some((family, _)) = Family::of(call.kernel.name()) else { continue };
        let p = ConvParams { offset: 0, ..bytemuck::pod_read_unaligned(&(call.params)(&vars)) };
        match found.iter_mut().find(|(f, q, _)| f.key(q) == family.key(&p)) {
            Some((_, _, times)) => *times += 1,
            None => found.push((family, p, 1)),
        }
    }
    let flops = |(f, p, times): &(Family, ConvParams, usize)| {
        let rung = choice::order(*f, p, false)[0];
        rung.cost(bytemuck::bytes_of(p)).flops * *times as f64
    };
    found.sort_by(|a, b| flops(b).total_cmp(&flops(a)));
    found
}

/// Times the rungs of each distinct convolution in a program, for `cap` in all, and hands each outcome to `told`.
///
/// # Errors
/// As [`doctor::examine`].
pub fn measure(gpu: &Gpu, program: &Program, batch: u32, cap: Duration, told: &mut dyn FnMut(Measured)) -> Result<()> {
    let end = Instant::now() + cap;
    let mut tuner = Tuner { gpu, pipelines: Pipelines::default(), sound: BTreeMap::new() };
    let shapes = shapes(program, batch);
    for (i, (family, p, times)) in shapes.iter().enumerate() {
        let builtin = pick(*family, p, gpu.is_software(), &[])?.name();
        let share = end.saturating_duration_since(Instant::now()) / (shapes.len() - i) as u32;
        let seconds = tuner.shape(*family, p, share, end)?;
        // One candidate alone decides nothing.
        let measured = seconds.len() > 1 || (!seconds.is_empty() && !seconds.contains_key(builtin));
        let choice = choose(builtin, &seconds).filter(|_| measured).map(|rung| Choice { rung, seconds });
        told(Measured { key: family.key(p), times: *times, builtin, choice });
    }
    Ok(())
}

struct Tuner<'a> {
    gpu: &'a Gpu,
    pipelines: Pipelines,
    /// Whether a kernel passes its cases here.
    sound: BTreeMap<&'static str, bool>,
}

struct Candidate {
    name: &'static str,
    single: Single,
    times: u32,
    seconds: Vec<f64>,
}

impl Tuner<'_> {
    fn is_sound(&mut self, kernel: &dyn AnyKernel) -> Result<bool> {
        if let Some(known) = self.sound.get(kernel.name()) {
            return Ok(*known);
        }
        let sound = match doctor::examine(self.gpu, &mut self.pipelines, kernel) {
            Ok(report) => report.cases > 0 && report.failures.is_empty(),
            Err(crate::Error::Gpu { .. }) => false,
            Err(other) => return Err(other),
        };
        self.sound.insert(kernel.name(), sound);
        Ok(sound)
    }

    /// Median seconds of each rung that fits, passes its cases and had its turns before `end`.
    fn shape(
        &mut self,
        family: Family,
        p: &ConvParams,
        share: Duration,
        end: Instant,
    ) -> Result<BTreeMap<String, f64>> {
        let gpu = self.gpu;
        let params = bytemuck::bytes_of(p);
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut buffers: Option<Vec<wgpu::Buffer>> = None;
        for rung in choice::order(family, p, gpu.is_software()) {
            if Instant::now() >= end {
                break;
            }
            if !rung.fits(p) || !gpu.can_run(rung, params) || !self.is_sound(rung)? {
                continue;
            }
            let buffers = buffers.get_or_insert_with(|| data(gpu, rung, params)).clone();
            let single = Single::on(gpu, &mut self.pipelines, rung, params, buffers)?;
            // Once to compile where drivers put that off, once to see; no compiler takes as long as a very slow kernel.
            let first = run(gpu, &single, 1)?;
            let once = if first > SLOW { first } else { run(gpu, &single, 1)? };
            let times = (TURN / once).clamp(1.0, 1000.0) as u32;
            candidates.push(Candidate { name: AnyKernel::name(rung), single, times, seconds: vec![once] });
        }
        let fastest = candidates.iter().map(|c| c.seconds[0]).fold(f64::INFINITY, f64::min);
        let hopeful = |c: &&mut Candidate| c.seconds[0] <= HOPELESS * fastest;
        let started = Instant::now();
        for turn in 1..=*TURNS.end() {
            for c in candidates.iter_mut().filter(hopeful) {
                let seconds = run(gpu, &c.single, c.times)? / f64::from(c.times);
                c.seconds.push(seconds);
            }
            if turn >= *TURNS.start() && (started.elapsed() > share || Instant::now() >= end) {
                break;
            }
        }
        let median = |mut c: Candidate| {
            // The look at the start only counts where it is all there is.
            let turns = if c.seconds.len() > 1 { &mut c.seconds[1..] } else { &mut c.seconds[..] };
            turns.sort_by(f64::total_cmp);
            (c.name.to_string(), turns[turns.len() / 2])
        };
        Ok(candidates.into_iter().map(median).collect())
    }
}

/// Buffers for a family's shape, filled as in the kernel's cases; all rungs of the family share them.
fn data(gpu: &Gpu, kernel: &dyn AnyKernel, params: &[u8]) -> Vec<wgpu::Buffer> {
    let fills = kernel.cases().into_iter().next().map(|c| c.fills).unwrap_or_default();
    let case = AnyCase { name: "tune".into(), params: params.to_vec(), fills };
    let names = kernel.bindings().iter().map(|b| b.name);
    fill_case(kernel, &case).iter().zip(names).map(|(c, name)| upload(gpu, name, c.len(), Some(c))).collect()
}

fn run(gpu: &Gpu, single: &Single, times: u32) -> Result<f64> {
    let started = Instant::now();
    let submission = single.submit(gpu, times);
    gpu.wait(Some(submission), || "while tuning".into())?;
    Ok(started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_choice_stays_within_the_margin() {
        let choose = |b, times: &[(&str, f64)]| {
            choose(b, &times.iter().map(|(n, s)| (n.to_string(), *s)).collect::<BTreeMap<_, _>>())
        };
        assert_eq!(choose("a", &[("a", 1.05), ("b", 1.0)]).as_deref(), Some("a"));
        assert_eq!(choose("a", &[("a", 1.051), ("b", 1.0), ("c", 1.01)]).as_deref(), Some("b"));
        assert_eq!(choose("a", &[("a", 0.9), ("b", 1.0)]).as_deref(), Some("a"));
        // A built-in rung that failed its cases was not timed.
        assert_eq!(choose("a", &[("b", 1.0), ("c", 0.99)]).as_deref(), Some("c"));
        assert_eq!(choose("a", &[]), None);
    }
}
