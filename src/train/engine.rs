//! A network on a device: its values in, batches through, figures out.

mod observe;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::data::{Ahead, Source, View};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::layout::{GroupSize, NamedTensor};
use crate::graph::lower::{GroupBuffers, Options, RING_SLOTS, lower};
use crate::graph::{Executor, Graph, Layout, Observation, Role, Vars};
use crate::kernels::loss::RING_WORDS;
use crate::model::Values;
use crate::model::values::{MOMENTUM_PREFIX, SECOND_PREFIX};

/// Sections of the plan.
const TRAIN: usize = 0;
const COMPOSE: usize = 1;
const EVAL: usize = 2;
const UPDATE: usize = 3;
const DYNAMICS: usize = 4;

/// Submissions that may be under way: one runs, one waits, and the host prepares the next.
const IN_FLIGHT: usize = 2;

/// Sums over one or more batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Figures {
    /// Σ loss over images.
    pub loss: f64,
    /// Σ over steps of the regularizer without its factor.
    pub regularizer: f64,
    /// Images whose label came first.
    pub correct: u64,
    /// Images whose label was among the first five.
    pub top5: u64,
    /// Images.
    pub count: u64,
    /// Steps.
    pub steps: u64,
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, o: Self) {
        self.loss += o.loss;
        self.regularizer += o.regularizer;
        self.correct += o.correct;
        self.top5 += o.top5;
        self.count += o.count;
        self.steps += o.steps;
    }
}

/// One of a group's slabs.
type Slab = fn(&GroupBuffers) -> usize;

/// A network on a device.
pub struct Engine {
    /// The executor.
    pub exec: Executor,
    /// Rungs taken, by `direction:layer`.
    pub rungs: BTreeMap<String, String>,
    /// Where parameters lie.
    pub layout: Layout,
    groups: Vec<GroupBuffers>,
    state: usize,
    batch: usize,
    ring: usize,
    eval_logits: usize,
    observation: Observation,
    max_n: u32,
    classes: usize,
    accumulate: u32,
    /// Training steps done, a resumed run's earlier ones included.
    pub steps_done: u32,
    /// Slots of the ring in use, and how many of them each step or evaluation batch has.
    pending: u32,
    steps: Vec<u32>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    words: Vec<u32>,
}

impl Engine {
    /// Plans, allocates and compiles.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for an unknown rung, [`crate::Error::AdapterTooSmall`], [`crate::Error::Gpu`].
    pub fn new(gpu: Gpu, graph: &Graph, options: &Options) -> Result<Self> {
        let started = Instant::now();
        let mut lowered = lower(graph, &options.clone().on(&gpu))?;
        let plan = lowered.plan();
        let crate::graph::Ref::Tensor(logits) = lowered.eval_logits else { unreachable!("logits are a tensor") };
        let eval_logits = plan.tensors[EVAL][logits];
        let planned = started.elapsed().as_secs_f64();
        let mut exec = Executor::new(gpu, plan, options.batch)?;
        exec.startup.plan = planned;
        let (dispatches, bytes) = (exec.plan.sections[TRAIN].len(), exec.plan.bytes());
        tracing::info!(dispatches, bytes, seconds = planned, "planned");
        lowered.rungs.iter().for_each(|(layer, rung)| tracing::debug!(layer, rung, "rung"));
        Ok(Self {
            exec,
            rungs: lowered.rungs,
            layout: lowered.layout,
            groups: lowered.groups,
            state: lowered.state,
            batch: lowered.batch,
            ring: lowered.ring,
            eval_logits,
            observation: lowered.observation,
            max_n: options.batch,
            classes: graph.classes() as usize,
            accumulate: options.accumulate.max(1),
            steps_done: 0,
            pending: 0,
            steps: Vec::new(),
            in_flight: VecDeque::new(),
            words: Vec::new(),
        })
    }

    /// Largest batch, or part of one where steps accumulate.
    pub fn batch_size(&self) -> usize {
        self.max_n as usize
    }

    /// Dispatches of a training step.
    pub fn dispatches(&self) -> usize {
        let section = |s: usize| self.exec.plan.sections[s].len();
        match self.accumulate {
            1 => section(TRAIN),
            parts => section(COMPOSE) + parts as usize * section(TRAIN) + section(UPDATE),
        }
    }

    /// Slots of the ring that a training step takes.
    fn slots(&self) -> u32 {
        if self.accumulate > 1 { self.accumulate + 1 } else { 1 }
    }

    /// The plan's section of a training step.
    pub const TRAIN: usize = TRAIN;
    /// The plan's section of an evaluation batch, whose weights the last training step composed.
    pub const EVAL: usize = EVAL;

    /// Loads parameters and running values; momenta and second moments become zero, and no weight has been observed.
    pub fn load(&self, values: &Values) {
        for (i, (b, size)) in self.groups.iter().zip(&self.layout.groups).enumerate() {
            let words = size.params as usize;
            self.exec.write(b.params, &values.slab(&self.layout, Role::Param, i, words));
            [Some(b.momenta), b.second].into_iter().flatten().for_each(|slab| self.exec.write(slab, &vec![0; words]));
        }
        self.exec.write(self.state, &values.slab(&self.layout, Role::State, 0, self.layout.state as usize));
        self.forget_seen();
    }

    /// Loads momenta and second moments, by the names that [`Engine::momenta`] gives.
    ///
    /// # Errors
    /// The name of one that is missing or of another shape.
    pub fn load_momenta(&self, momenta: &Values) -> std::result::Result<(), String> {
        for (prefix, pick) in self.moments() {
            let strip = |(k, v): (&String, &_)| Some((k.strip_prefix(prefix)?.to_string(), Clone::clone(v)));
            let plain = Values(momenta.0.iter().filter_map(strip).collect());
            let params = self.layout.tensors.iter().filter(|t| t.role == Role::Param);
            let missing = |t: &&NamedTensor| plain.0.get(&t.name).is_none_or(|m| m.shape != t.shape);
            if let Some(t) = params.into_iter().find(missing) {
                return Err(format!("{prefix}{}", t.name));
            }
            for (i, (b, size)) in self.groups.iter().zip(&self.layout.groups).enumerate() {
                self.exec.write(pick(b), &plain.slab(&self.layout, Role::Param, i, size.params as usize));
            }
        }
        Ok(())
    }

    /// What the optimizer keeps for each parameter: name prefix, and where.
    fn moments(&self) -> Vec<(&'static str, Slab)> {
        let first: (_, Slab) = (MOMENTUM_PREFIX, |b| b.momenta);
        match self.groups.iter().all(|b| b.second.is_some()) {
            true => vec![first, (SECOND_PREFIX, |b| b.second.expect("asked before"))],
            false => vec![first],
        }
    }

    fn slabs(&self, pick: Slab, prefix: &str) -> Result<Values> {
        let mut values = Values::default();
        for (i, (b, _)) in self.groups.iter().zip(&self.layout.groups as &[GroupSize]).enumerate() {
            let words = self.exec.read(pick(b))?;
            values.take(&self.layout, Role::Param, i, &words, prefix);
        }
        Ok(values)
    }

    /// Parameters and running values.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn values(&self) -> Result<Values> {
        let mut values = self.slabs(|b| b.params, "")?;
        values.take(&self.layout, Role::State, 0, &self.exec.read(self.state)?, "");
        Ok(values)
    }

    /// The optimizer's momenta and second moments, under prefixed names.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn momenta(&self) -> Result<Values> {
        let mut all = Values::default();
        for (prefix, pick) in self.moments() {
            all.0.extend(self.slabs(pick, prefix)?.0);
        }
        Ok(all)
    }

    /// Gradients of the last step, the regularizer's part included, weight decay not. Those of latents that a fused update takes care of
    /// are only there under [`Options::keep_gradients`].
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn gradients(&self) -> Result<Values> {
        self.slabs(|b| b.grads, "")
    }

    /// Sends a batch: labels, image numbers, pixels.
    fn send(&mut self, source: &dyn Source, indices: &[u32], view: View) -> Result<()> {
        let words = &mut self.words;
        let n = self.max_n as usize;
        let bytes = indices.len() * source.image_len();
        words.clear();
        words.resize(2 * n + bytes.div_ceil(4), 0);
        for (i, index) in indices.iter().enumerate() {
            words[i] = source.label(*index as usize);
            words[n + i] = *index;
        }
        let pixels = bytemuck::cast_slice_mut::<u32, u8>(&mut words[2 * n..]);
        source.fill(indices, view, &mut pixels[..bytes])?;
        // The shader takes bytes from words, low byte first.
        if cfg!(target_endian = "big") {
            words[2 * n..].iter_mut().for_each(|w| *w = w.to_le());
        }
        self.exec.write(self.batch, &self.words);
        Ok(())
    }

    fn submit(&mut self, section: usize, vars: &Vars) -> Result<()> {
        let submission = self.exec.submit(section, vars);
        self.in_flight.push_back(submission);
        if self.in_flight.len() > IN_FLIGHT {
            let oldest = self.in_flight.pop_front();
            self.exec.gpu.wait(oldest, || "during training".into())?;
        }
        Ok(())
    }

    /// Whether the ring is full: [`Engine::figures`] must be called before the next step.
    pub fn is_full(&self) -> bool {
        self.pending + self.slots() > RING_SLOTS
    }

    /// Submits one training step on these records; where steps accumulate, in parts that differ by one image at most.
    ///
    /// # Errors
    /// As [`Gpu::wait`] and [`Source::fill`].
    pub fn step(&mut self, source: &dyn Source, indices: &[u32], epoch: u32, rate: f32) -> Result<()> {
        let started = Instant::now();
        let most = self.batch_size() * self.accumulate as usize;
        assert!(indices.len() <= most, "a step of {} images on a plan for {most}", indices.len());
        if self.is_full() {
            return Err(Error::usage("no room for a step's figures", "call Engine::figures once Engine::is_full"));
        }
        let base = Vars { total: indices.len() as u32, epoch, rate, step: self.steps_done, ..Vars::default() };
        self.steps_done += 1;
        let before = self.pending;
        if self.accumulate > 1 {
            self.submit(COMPOSE, &base)?;
        }
        for (part, indices) in parts(indices, self.batch_size()).enumerate() {
            self.send(source, indices, View::Train { epoch })?;
            self.submit(TRAIN, &Vars { n: indices.len() as u32, part: part as u32, slot: self.pending, ..base })?;
            self.pending += 1;
        }
        if self.accumulate > 1 {
            self.submit(UPDATE, &Vars { slot: self.pending, ..base })?;
            self.pending += 1;
        }
        self.steps.push(self.pending - before);
        if self.exec.startup.first_step.is_none() {
            self.exec.gpu.wait(self.in_flight.pop_back(), || "during the first step".into())?;
            self.exec.startup.first_step = Some(started.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Waits for the steps since the last call, and returns the figures of each.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn figures(&mut self) -> Result<Vec<Figures>> {
        if self.pending == 0 {
            return Ok(Vec::new());
        }
        let ring = self.exec.read(self.ring)?;
        let mut slots = ring.chunks_exact(RING_WORDS);
        self.pending = 0;
        self.in_flight.clear();
        let figure = |w: &[u32]| {
            let v = |i: usize| f64::from(f32::from_bits(w[i]));
            Figures {
                loss: v(0),
                regularizer: v(1),
                correct: v(2) as u64,
                top5: v(3) as u64,
                count: v(4) as u64,
                steps: 0,
            }
        };
        let steps = std::mem::take(&mut self.steps);
        let step = |parts: u32| {
            let mut sum = Figures { steps: 1, ..Figures::default() };
            slots.by_ref().take(parts as usize).for_each(|words| sum += figure(words));
            sum
        };
        Ok(steps.into_iter().map(step).collect())
    }

    /// Loss and counts over all images, in order, without augmentation. Call [`Engine::figures`] first.
    ///
    /// # Errors
    /// As [`Gpu::wait`] and [`Source::fill`].
    pub fn evaluate(&mut self, source: &dyn Source) -> Result<Figures> {
        self.evaluate_with(source, |_, _| Ok(()))
    }

    /// Like [`Engine::evaluate`], calling `each(engine, images)` after every batch.
    ///
    /// # Errors
    /// As [`Engine::evaluate`], or what `each` returns.
    pub fn evaluate_with(
        &mut self,
        source: &dyn Source,
        each: impl FnMut(&Self, usize) -> Result<()>,
    ) -> Result<Figures> {
        std::thread::scope(|scope| self.evaluate_ahead(&Ahead::new(scope, source), each))
    }

    fn evaluate_ahead(&mut self, source: &Ahead, mut each: impl FnMut(&Self, usize) -> Result<()>) -> Result<Figures> {
        if self.pending > 0 {
            let what = format!("an evaluation would mix with the unread figures of {} training batches", self.pending);
            return Err(Error::usage(what, "call Engine::figures before Engine::evaluate"));
        }
        self.submit(COMPOSE, &Vars::default())?;
        let mut total = Figures::default();
        let order: Vec<u32> = (0..source.len() as u32).collect();
        let batches = order.chunks(self.batch_size());
        source.announce(batches.clone(), View::Test);
        for indices in batches {
            self.send(source, indices, View::Test)?;
            let vars = Vars { n: indices.len() as u32, slot: self.pending, ..Vars::default() };
            self.submit(EVAL, &vars)?;
            self.pending += 1;
            self.steps.push(1);
            each(self, indices.len())?;
            if self.is_full() {
                self.figures()?.into_iter().for_each(|f| total += f);
            }
        }
        self.figures()?.into_iter().for_each(|f| total += f);
        Ok(total)
    }

    /// Logits of the last evaluation batch's first `n` images.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn logits(&self, n: usize) -> Result<Vec<f32>> {
        let words = self.exec.read(self.eval_logits)?;
        Ok(words[..n * self.classes].iter().map(|w| f32::from_bits(*w)).collect())
    }

    /// One training step run dispatch by dispatch, each held against its twin on the GPU's own inputs.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn checked_step(
        &mut self,
        source: &dyn Source,
        indices: &[u32],
        rate: f32,
    ) -> Result<Vec<(String, Vec<crate::kernels::check::Mismatch>)>> {
        let base = Vars { total: indices.len() as u32, rate, step: self.steps_done, ..Vars::default() };
        self.steps_done += 1;
        let mut failures = Vec::new();
        if self.accumulate > 1 {
            failures.extend(self.exec.submit_checked(COMPOSE, &base)?);
        }
        for (part, indices) in parts(indices, self.batch_size()).enumerate() {
            self.send(source, indices, View::Train { epoch: 0 })?;
            let vars = Vars { n: indices.len() as u32, part: part as u32, ..base };
            failures.extend(self.exec.submit_checked(TRAIN, &vars)?);
        }
        if self.accumulate > 1 {
            failures.extend(self.exec.submit_checked(UPDATE, &base)?);
        }
        Ok(failures)
    }
}

/// A step's images in as few parts as `largest` allows, which differ by one image at most.
pub fn parts(indices: &[u32], largest: usize) -> impl Iterator<Item = &[u32]> {
    let count = indices.len().div_ceil(largest);
    (0..count).map(move |part| &indices[indices.len() * part / count..indices.len() * (part + 1) / count])
}
