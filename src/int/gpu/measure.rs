//! Which rung is fastest for each convolution of a network, on this adapter: measured with the network's own weights, once, and kept
//! in the user's cache folder.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::code;
use super::rungs::{Adapter, Choice, Layer, builtin, multiplies, names};
use crate::error::{Error, Result};
use crate::files::cache::slug;
use crate::gpu::{Gpu, Pipelines, Single, describe};
use crate::int::Model;
use crate::int::model::{Conv, Op};
use crate::kernels::AnyKernel;
use crate::kernels::int::pack::channels;
use crate::kernels::int::{IntConvParams, IntRung};

/// Turns of each rung; the median counts.
const TURNS: usize = 5;
/// Seconds of dispatches that a turn lasts.
const TURN: f64 = 0.01;
/// A rung whose first look takes so many times as long as the fastest so far gets no turns.
const HOPELESS: f64 = 3.0;
/// Seconds that a layer as code may compile for, to be tried.
const QUICK: f64 = 1.0;
/// Images whose times tell those of larger batches.
const ENOUGH: u32 = 64;

/// A distinct convolution and how long each rung takes for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What its speed depends on.
    pub key: String,
    /// Convolutions of the network that are like it.
    pub times: usize,
    /// Seconds of one dispatch, by rung; those that cannot hold its weights are not there.
    pub seconds: BTreeMap<String, f64>,
    /// Whether time was up before every rung was seen.
    pub partial: bool,
}

/// What the cache folder keeps of a convolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub seconds: BTreeMap<String, f64>,
    /// Its rungs outlasted all the time there was: what was not seen then is not tried again.
    pub partial: bool,
}

impl Kept {
    /// What can be believed of it; none where a rung's time cannot be, or no rung was seen for no reason.
    fn sound(mut self) -> Option<Self> {
        self.seconds.retain(|name, _| names().any(|known| known == name));
        let timed = self.seconds.values().all(|s| s.is_finite() && *s > 0.0);
        (timed && (self.partial || !self.seconds.is_empty())).then_some(self)
    }
}

impl Measured {
    /// Its rungs, the fastest first, without those that multiply where `shift_only`.
    pub fn ranked(&self, shift_only: bool) -> Vec<&'static str> {
        let timed = names().filter_map(|name| self.seconds.get(name).map(|s| (name, *s)));
        let mut allowed: Vec<_> = timed.filter(|(name, _)| !shift_only || !multiplies(name)).collect();
        allowed.sort_by(|a, b| a.1.total_cmp(&b.1));
        allowed.into_iter().map(|(name, _)| name).collect()
    }

    /// The first of [`Measured::ranked`].
    pub fn fastest(&self, shift_only: bool) -> Option<&'static str> {
        self.ranked(shift_only).first().copied()
    }
}

impl Choice {
    /// The fastest of what was measured.
    pub fn fastest(measured: &[Measured], shift_only: bool) -> Self {
        let one = |m: &Measured| (m.key.clone(), m.ranked(shift_only));
        Self { shift_only, measured: measured.iter().map(one).collect(), ..Self::default() }
    }
}

/// Times every rung of each distinct convolution for a batch of this size. Once `cap` is over nothing new starts; of a convolution that
/// it cut short there is what was seen until then.
///
/// # Errors
/// [`Error::DeviceLost`]; a rung that the adapter refuses is left out.
pub fn measure(gpu: &Gpu, model: &Model, batch: u32, cap: Duration) -> Result<Vec<Measured>> {
    missing(gpu, model, batch, cap, &mut BTreeMap::new())
}

/// As [`measure`], where the cache folder does not have it, for a batch of 64 at most; what is new is kept there. The second of
/// the two is whether anything is.
///
/// # Errors
/// As [`measure`]. A cache that cannot be read or written costs time, no more.
pub fn measured(gpu: &Gpu, model: &Model, batch: u32, cap: Duration) -> Result<(Vec<Measured>, bool)> {
    let name = file(gpu);
    let bytes = gpu.cache.as_ref().and_then(|folder| folder.read(&name).ok().flatten());
    let read: BTreeMap<String, Kept> = bytes.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let mut kept = read.into_iter().filter_map(|(key, kept)| Some((key, kept.sound()?))).collect::<BTreeMap<_, _>>();
    let before = kept.len();
    let found = missing(gpu, model, batch.min(ENOUGH), cap, &mut kept)?;
    let new = kept.len() > before;
    if let (true, Some(folder), Ok(json)) = (new, &gpu.cache, serde_json::to_vec_pretty(&kept))
        && let Err(e) = folder.write(&name, &json)
    {
        tracing::warn!("{e}: these times are this run's only");
    }
    Ok((found, new))
}

/// The adapter's file in the cache folder.
pub(super) fn file(gpu: &Gpu) -> String {
    format!("infer-{}-{}.json", slug(&describe(&gpu.info)), env!("CARGO_PKG_VERSION"))
}

/// What a convolution is called there.
pub(super) fn of(batch: u32, key: &str) -> String {
    format!("batch {batch}, {key}")
}

/// Each distinct convolution's times, from `kept` where they are there; what is to be kept is added to it.
fn missing(
    gpu: &Gpu,
    model: &Model,
    batch: u32,
    cap: Duration,
    kept: &mut BTreeMap<String, Kept>,
) -> Result<Vec<Measured>> {
    let (mut pipelines, mut all) = (Pipelines::default(), Vec::<Measured>::new());
    let end = Instant::now() + cap;
    let mut begun = false;
    for node in &model.nodes {
        let Op::Conv(conv) = &node.op else { continue };
        let layer = Layer::new(conv, node, &model.nodes[node.inputs[0]], batch, Adapter::of(gpu));
        let key = layer.key();
        if let Some(found) = all.iter_mut().find(|m| m.key == key) {
            found.times += 1;
            continue;
        }
        let Kept { seconds, partial } = match kept.get(&of(batch, &key)) {
            Some(found) => found.clone(),
            None if Instant::now() >= end => continue,
            None => {
                let seen = time(gpu, &mut pipelines, (conv, &layer, &node.name), end)?;
                // One that others left too little time comes first in the next run; one that had all of it would never end.
                if !seen.partial || !begun {
                    kept.insert(of(batch, &key), seen.clone());
                }
                begun = true;
                seen
            }
        };
        all.push(Measured { key, times: 1, seconds, partial });
    }
    Ok(all)
}

struct Candidate {
    name: &'static str,
    /// Its kernels: one, but for code.
    singles: Vec<Single>,
    once: f64,
    turns: Vec<f64>,
}

impl Candidate {
    /// With a first look at how long it takes; none where time is up before that.
    fn new(gpu: &Gpu, name: &'static str, singles: Vec<Single>, end: Instant) -> Result<Option<Self>> {
        let mut candidate = Self { name, singles, once: 0.0, turns: Vec::new() };
        // Drivers compile at the first dispatch: its time says nothing.
        candidate.run(gpu, 1)?;
        if Instant::now() >= end {
            return Ok(None);
        }
        candidate.once = candidate.run(gpu, 1)?;
        Ok(Some(candidate))
    }

    fn run(&self, gpu: &Gpu, times: u32) -> Result<f64> {
        let started = Instant::now();
        let last = self.singles.iter().fold(None, |_, single| Some(single.submit(gpu, times)));
        gpu.wait(last, || "while measuring rungs".into())?;
        Ok(started.elapsed().as_secs_f64() / f64::from(times))
    }

    /// Median; the first look counts where it is all there is.
    fn seconds(mut self) -> (String, f64) {
        self.turns.sort_by(f64::total_cmp);
        (self.name.into(), self.turns.get(self.turns.len() / 2).copied().unwrap_or(self.once))
    }
}

/// A kernel with its buffers' contents; none where the adapter refuses it.
fn single(
    gpu: &Gpu,
    pipelines: &mut Pipelines,
    kernel: &dyn AnyKernel,
    p: &IntConvParams,
    contents: &[Vec<u32>],
) -> Result<Option<Single>> {
    match Single::new(gpu, pipelines, kernel, bytemuck::bytes_of(p), contents) {
        Ok(single) => Ok(Some(single)),
        Err(Error::Gpu { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Any bits are activations; the same for every rung.
fn activations(p: &IntConvParams) -> Vec<u32> {
    (0..p.input() as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect()
}

/// A rung; none where it cannot hold the weights, the adapter refuses it, or time is up.
fn candidate(
    gpu: &Gpu,
    pipelines: &mut Pipelines,
    conv: &Conv,
    layer: &Layer,
    rung: &'static IntRung,
    end: Instant,
) -> Result<Option<Candidate>> {
    let Some((p, prepared)) = layer.on(rung) else { return Ok(None) };
    let after = channels(&conv.multiplier, &conv.bias, &conv.shift, &prepared.start);
    let contents = [activations(&p), prepared.words, after, vec![0; p.output()]];
    let Some(single) = single(gpu, pipelines, rung, &p, &contents)? else { return Ok(None) };
    Candidate::new(gpu, AnyKernel::name(rung), vec![single], end)
}

/// The layer as code, where that compiles in no time.
fn as_code(
    gpu: &Gpu,
    pipelines: &mut Pipelines,
    (conv, layer, name): (&Conv, &Layer, &str),
    end: Instant,
) -> Result<Option<Candidate>> {
    if code::compile_seconds(&layer.weights) > QUICK {
        return Ok(None);
    }
    let (kernels, start) = layer.code(name);
    let p = &layer.params;
    let after = channels(&conv.multiplier, &conv.bias, &conv.shift, &start);
    let contents = [activations(p), after, vec![0; p.output()]];
    let mut singles = Vec::new();
    for kernel in kernels {
        let Some(single) = single(gpu, pipelines, kernel, p, &contents)? else { return Ok(None) };
        singles.push(single);
    }
    Candidate::new(gpu, code::NAME, singles, end)
}

/// Seconds of one dispatch, by rung. The rungs take turns, so that what else the machine does hits all of them.
fn time(
    gpu: &Gpu,
    pipelines: &mut Pipelines,
    (conv, layer, name): (&Conv, &Layer, &str),
    end: Instant,
) -> Result<Kept> {
    let mut candidates = Vec::new();
    // Where time is up, what was seen has the rung that would be taken unmeasured.
    for rung in builtin(gpu.is_software()) {
        if Instant::now() < end {
            candidates.extend(candidate(gpu, pipelines, conv, layer, rung, end)?);
        }
    }
    if Instant::now() < end {
        candidates.extend(as_code(gpu, pipelines, (conv, layer, name), end)?);
    }
    let partial = Instant::now() >= end;
    // The fastest that multiplies and the fastest that does not are both wanted.
    let fastest = |which: bool| {
        candidates.iter().filter(|c| multiplies(c.name) == which).map(|c| c.once).fold(f64::INFINITY, f64::min)
    };
    let limits = [false, true].map(|which| HOPELESS * fastest(which));
    for _ in 0..TURNS {
        for c in &mut candidates {
            if c.once <= limits[usize::from(multiplies(c.name))] && Instant::now() < end {
                let times = (TURN / c.once).clamp(1.0, 1000.0) as u32;
                let seconds = c.run(gpu, times)?;
                c.turns.push(seconds);
            }
        }
    }
    Ok(Kept { seconds: candidates.into_iter().map(Candidate::seconds).collect(), partial })
}
