//! Tuning: which convolution rung is fastest for each shape of a plan, on this adapter.
//!
//! A candidate runs its cases first, and one that fails them is out. Candidates of a shape take turns, so that what else the machine
//! does hits all of them; medians count. The built-in choice stays unless another is more than [`MARGIN`] faster.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub use table::{Choice, Table};

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Pipelines, Single, describe, try_upload};
use crate::graph::{Plan, RungChoice, Step, Vars};
use crate::kernels::check::fill_case;
use crate::kernels::conv::{ConvParams, Family, Rung, choice, pick};
use crate::kernels::{AnyCase, AnyKernel, doctor};
use crate::train::Engine;
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
    /// What was measured, or why nothing was.
    pub choice: Result<Choice, &'static str>,
}

/// The rungs for a run's plan, by [`Family::key`]: measured under the time cap where one is given, and kept; else those kept before.
///
/// `tell` hears lines for the user.
///
/// # Errors
/// As [`measured`].
pub fn rungs(
    setup: &Setup,
    gpu: &Gpu,
    cap: Option<Duration>,
    tell: &mut dyn FnMut(&str),
) -> Result<BTreeMap<String, String>> {
    let (mut table, note) = Table::load(gpu);
    note.iter().for_each(|n| tell(&format!("note: {n}")));
    if let Some(cap) = cap {
        table.choices.extend(measured(setup, gpu, cap, tell)?);
        match &gpu.cache {
            None => tell("note: there is no cache folder to keep these choices in: they are this run's only"),
            Some(folder) => match table.save(folder) {
                Ok(()) => tell(&format!("kept in {}", folder.path(&Table::file_name(&describe(&gpu.info))).display())),
                Err(e) => tell(&format!("note: {e}\n  these choices are this run's only")),
            },
        }
    }
    tracing::info!(choices = table.choices.len(), measured = cap.is_some(), "rungs that were timed");
    if table.choices.is_empty() {
        return Ok(BTreeMap::new());
    }
    let plan = setup.plan(gpu, RungChoice::default())?;
    let shapes: Vec<_> = shapes(train(&plan), setup.config.part_size()).iter().map(|(f, p, _)| (*f, *p)).collect();
    Ok(table.rungs(&shapes, |rung, p| gpu.can_run(rung, bytemuck::bytes_of(p))))
}

/// What measuring chooses for a run's plan within the time cap, by [`Family::key`]; kept nowhere.
///
/// # Errors
/// [`Error::AdapterTooSmall`] for a plan that the adapter cannot hold, before anything is measured; as [`measure`].
pub fn measured(
    setup: &Setup,
    gpu: &Gpu,
    cap: Duration,
    tell: &mut dyn FnMut(&str),
) -> Result<BTreeMap<String, Choice>> {
    let (plan, batch) = (setup.plan(gpu, RungChoice::default())?, setup.config.part_size());
    plan.check(&gpu.limits, batch)?;
    tell(&format!("tuning for at most {} s", cap.as_secs()));
    let mut choices = BTreeMap::new();
    measure(gpu, train(&plan), batch, cap, &mut |m| {
        line(&m).iter().for_each(|l| tell(l));
        if let Ok(choice) = m.choice {
            choices.insert(m.key, choice);
        }
    })?;
    Ok(choices)
}

fn train(plan: &Plan) -> &[Step] {
    &plan.sections[Engine::TRAIN]
}

/// An outcome as lines of a table.
fn line(m: &Measured) -> Vec<String> {
    let head = format!("{} ({} a step)", m.key, m.times);
    let choice = match &m.choice {
        Ok(choice) => choice,
        Err(why) => return vec![format!("{head}: not measured, {why}")],
    };
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

/// The distinct convolutions of a section, those with most operations first, and how often each stands there.
fn shapes(section: &[Step], batch: u32) -> Vec<(Family, ConvParams, usize)> {
    let vars = Vars { n: batch, ..Vars::default() };
    let mut found: Vec<(Family, ConvParams, usize)> = Vec::new();
    for step in section {
        let Some((family, _)) = Family::of(step.kernel.name()) else { continue };
        let p = ConvParams { offset: 0, ..bytemuck::pod_read_unaligned(&(step.params)(&vars)) };
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

/// Times the rungs of each distinct convolution in a section, for `cap` in all, and hands each outcome to `told`.
///
/// Once time is up nothing new starts: no case, no turn. A shape whose candidates did not all have their turns by then has no outcome.
///
/// # Errors
/// [`Error::DeviceLost`]; a rung that the adapter refuses is out, no more.
pub fn measure(gpu: &Gpu, section: &[Step], batch: u32, cap: Duration, told: &mut dyn FnMut(Measured)) -> Result<()> {
    let end = Instant::now() + cap;
    let mut tuner = Tuner { gpu, end, pipelines: Pipelines::default(), sound: BTreeMap::new() };
    let shapes = shapes(section, batch);
    for (i, (family, p, times)) in shapes.iter().enumerate() {
        let builtin = pick(*family, p, gpu.is_software(), &[])?.name();
        let share = end.saturating_duration_since(Instant::now()) / (shapes.len() - i) as u32;
        let choice = match tuner.shape(*family, p, share, builtin) {
            Ok(choice) => Ok(choice),
            Err(Stop::TimeUp) => Err("time is up"),
            Err(Stop::Refused) => Err("the adapter's memory is full, or it refuses every rung"),
            Err(Stop::Failed(e)) => return Err(e),
        };
        told(Measured { key: family.key(p), times: *times, builtin, choice });
    }
    Ok(())
}

/// Why a candidate or a shape has no times.
enum Stop {
    TimeUp,
    /// By the adapter, or by its own cases.
    Refused,
    /// Nothing can go on.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        match e {
            Error::Gpu { .. } => Self::Refused,
            other => Self::Failed(other),
        }
    }
}

struct Tuner<'a> {
    gpu: &'a Gpu,
    end: Instant,
    pipelines: Pipelines,
    /// Whether a kernel passes its cases here.
    sound: BTreeMap<&'static str, bool>,
}

struct Candidate {
    name: &'static str,
    single: Single,
    times: u32,
    once: f64,
    turns: Vec<f64>,
}

impl Candidate {
    /// Median seconds; the look at the start only counts where it is all there is.
    fn seconds(&mut self) -> f64 {
        self.turns.sort_by(f64::total_cmp);
        self.turns.get(self.turns.len() / 2).copied().unwrap_or(self.once)
    }
}

impl Tuner<'_> {
    fn in_time(&self) -> Result<(), Stop> {
        if Instant::now() < self.end { Ok(()) } else { Err(Stop::TimeUp) }
    }

    fn run(&self, single: &Single, times: u32) -> Result<f64, Stop> {
        self.in_time()?;
        let started = Instant::now();
        let submission = single.submit(self.gpu, times);
        self.gpu.wait(Some(submission), || "while tuning".into())?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Refuses a rung that fails one of its cases, or has none here.
    fn examine(&mut self, rung: &Rung) -> Result<(), Stop> {
        let name = AnyKernel::name(rung);
        if let Some(sound) = self.sound.get(name) {
            return if *sound { Ok(()) } else { Err(Stop::Refused) };
        }
        let outcome = self.cases(rung);
        if let Ok(()) | Err(Stop::Refused) = outcome {
            self.sound.insert(name, outcome.is_ok());
        }
        outcome
    }

    fn cases(&mut self, rung: &Rung) -> Result<(), Stop> {
        let cases = AnyKernel::cases(rung).into_iter().filter(|c| self.gpu.can_run(rung, &c.params));
        let cases: Vec<_> = cases.collect();
        for case in &cases {
            self.in_time()?;
            if !doctor::run_case(self.gpu, &mut self.pipelines, rung, case)?.0.is_empty() {
                return Err(Stop::Refused);
            }
        }
        if cases.is_empty() { Err(Stop::Refused) } else { Ok(()) }
    }

    /// A rung that passes its cases, with a first look at how long it takes.
    fn candidate(&mut self, rung: &'static Rung, params: &[u8], buffers: &[wgpu::Buffer]) -> Result<Candidate, Stop> {
        self.examine(rung)?;
        self.in_time()?;
        let single = Single::on(self.gpu, &mut self.pipelines, rung, params, buffers.to_vec())?;
        // Once to compile where drivers put that off, once to see; no compiler takes as long as a very slow kernel.
        let first = self.run(&single, 1)?;
        let once = if first > SLOW { first } else { self.run(&single, 1)? };
        let times = (TURN / once).clamp(1.0, 1000.0) as u32;
        Ok(Candidate { name: AnyKernel::name(rung), single, times, once, turns: Vec::new() })
    }

    /// Median seconds of every rung that fits a shape and passes its cases, and the one to take.
    fn shape(&mut self, family: Family, p: &ConvParams, share: Duration, builtin: &str) -> Result<Choice, Stop> {
        self.in_time()?;
        let (gpu, params) = (self.gpu, bytemuck::bytes_of(p));
        let order = choice::order(family, p, gpu.is_software());
        let fitting: Vec<_> = order.into_iter().filter(|r| r.fits(p) && gpu.can_run(*r, params)).collect();
        // Each as the plan would run it; the buffers suit the one with the most partial sums.
        let own = |rung: &Rung| ConvParams { chunk: choice::images_per_sum(rung, p), ..*p };
        let largest = fitting.iter().map(|r| own(r)).min_by_key(|p| p.chunk).ok_or(Stop::Refused)?;
        let buffers = data(gpu, fitting[0], bytemuck::bytes_of(&largest)).ok_or(Stop::Refused)?;
        let (mut candidates, mut refused) = (Vec::new(), BTreeSet::new());
        for rung in fitting {
            match self.candidate(rung, bytemuck::bytes_of(&own(rung)), &buffers) {
                Ok(candidate) => candidates.push(candidate),
                Err(Stop::Refused) => drop(refused.insert(AnyKernel::name(rung).to_string())),
                Err(stop) => return Err(stop),
            }
        }
        let fastest = candidates.iter().map(|c| c.once).fold(f64::INFINITY, f64::min);
        let started = Instant::now();
        'turns: for turn in 1..=*TURNS.end() {
            for c in candidates.iter_mut().filter(|c| c.once <= HOPELESS * fastest) {
                match self.run(&c.single, c.times) {
                    Ok(seconds) => c.turns.push(seconds / f64::from(c.times)),
                    Err(Stop::Refused) => drop(refused.insert(c.name.to_string())),
                    // Enough is known, if just not as much as the shape's share of the time would have given.
                    Err(Stop::TimeUp) if turn > *TURNS.start() => break 'turns,
                    Err(stop) => return Err(stop),
                }
            }
            if turn >= *TURNS.start() && started.elapsed() > share {
                break;
            }
        }
        candidates.retain(|c| !refused.contains(c.name));
        let seconds = candidates.iter_mut().map(|c| (c.name.to_string(), c.seconds())).collect();
        let rung = choose(builtin, &seconds).ok_or(Stop::Refused)?;
        Ok(Choice { rung, seconds, refused })
    }
}

/// Buffers for a family's shape, filled as in the kernel's cases, which all rungs of the family share; none where memory is full.
fn data(gpu: &Gpu, kernel: &dyn AnyKernel, params: &[u8]) -> Option<Vec<wgpu::Buffer>> {
    let fills = kernel.cases().into_iter().next().map(|c| c.fills).unwrap_or_default();
    let case = AnyCase { name: "tune".into(), params: params.to_vec(), fills };
    let names = kernel.bindings().iter().map(|b| b.name);
    fill_case(kernel, &case).iter().zip(names).map(|(c, name)| try_upload(gpu, name, c.len(), Some(c))).collect()
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
