//! Measuring: every kernel where it stands in a real training step, and the step as a whole.
//!
//! A kernel whose cases fail is not timed. Times are medians over repeated submissions of the same dispatch on the data that a real
//! step left in its buffers; ratios between figures of one run are what counts.

mod report;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::data::{self, Manifest, Records, Splits};
use crate::error::Result;
use crate::gpu::{Gpu, Pipelines};
use crate::graph::Vars;
use crate::kernels::{Cost, doctor, registry};
use crate::model::Values;
use crate::train::{Config, Engine, setup::Setup};

pub use report::main;

/// A network in training form with a batch of drawn images on the device.
pub struct Subject {
    /// The engine.
    pub engine: Engine,
    records: Records,
    batch: u32,
}

/// One kernel with one set of parameters, as the step holds it.
#[derive(Clone, Debug)]
pub struct Part {
    /// Kernel.
    pub kernel: &'static str,
    /// The first layer that it serves with these parameters.
    pub layer: String,
    /// Dispatches of it in the step.
    pub times: usize,
    /// Median seconds of one.
    pub seconds: f64,
    /// Operations and bytes of one.
    pub cost: Cost,
}

impl Subject {
    /// Compiles the configuration's training step and runs it once.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn new(gpu: Gpu, config: Config) -> Result<Self> {
        let setup = Setup::new(config)?;
        let manifest = Manifest::find(&setup.config.dataset)?;
        let data = data::load(&manifest, None, Splits { train: true, test: false })?;
        let records = data.train.expect("the training set was asked for");
        let rungs = crate::graph::RungChoice { forced: setup.config.rungs.clone(), ..Default::default() };
        let engine = Engine::new(gpu, &setup.graph, &setup.options(rungs))?;
        engine.load(&Values::init(&setup.graph, &engine.layout, setup.config.latent_init, setup.config.seed));
        let batch = setup.config.batch_size;
        let mut subject = Self { engine, records, batch };
        subject.steps(1)?;
        Ok(subject)
    }

    /// Runs steps, waits for their figures, and returns their wall time.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn steps(&mut self, count: usize) -> Result<Duration> {
        let indices: Vec<u32> = (0..self.batch).collect();
        let started = Instant::now();
        for _ in 0..count {
            if self.engine.is_full() {
                self.engine.figures()?;
            }
            self.engine.step(&self.records, &indices, 0, 1e-3)?;
        }
        self.engine.figures()?;
        Ok(started.elapsed())
    }

    /// Median seconds that the host takes to record and submit a step while the device is idle.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn host_seconds(&mut self, count: usize) -> Result<f64> {
        let vars = Vars { n: self.batch, ..Vars::default() };
        let mut all = Vec::new();
        for _ in 0..count {
            let started = Instant::now();
            let submission = self.engine.exec.submit(Engine::TRAIN, &vars);
            all.push(started.elapsed().as_secs_f64());
            self.engine.exec.gpu.wait(Some(submission), || "during a benchmark".into())?;
        }
        all.sort_by(f64::total_cmp);
        Ok(all[all.len() / 2])
    }

    /// Bytes that the device's allocator holds, where the backend tells.
    pub fn allocated(&self) -> u64 {
        self.engine.exec.gpu.device.generate_allocator_report().map_or(0, |r| r.total_allocated_bytes)
    }

    /// Times every distinct dispatch of the training step.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn parts(&mut self) -> Result<Vec<Part>> {
        let vars = Vars { n: self.batch, rate: 1e-3, ..Vars::default() };
        let mut index: BTreeMap<(&str, Vec<u8>), usize> = BTreeMap::new();
        let mut parts: Vec<(usize, Part)> = Vec::new();
        for (i, step) in self.engine.exec.plan.sections[Engine::TRAIN].iter().enumerate() {
            let mut params = (step.params)(&vars);
            let cost = step.kernel.cost(&params);
            // Where a layer's parameters lie makes no difference to its time.
            if step.label.starts_with("layer") {
                params = step
                    .kernel
                    .groups(&params)
                    .to_le_bytes()
                    .into_iter()
                    .chain((cost.flops as u64).to_le_bytes())
                    .collect();
            }
            let at = *index.entry((step.kernel.name(), params)).or_insert(parts.len());
            match parts.get_mut(at) {
                Some((_, part)) => part.times += 1,
                None => {
                    let (kernel, layer) = (step.kernel.name(), step.label.clone());
                    parts.push((i, Part { kernel, layer, times: 1, seconds: 0.0, cost }));
                }
            }
        }
        for (i, part) in &mut parts {
            part.seconds = self.time(*i, &vars)?;
        }
        Ok(parts.into_iter().map(|(_, p)| p).collect())
    }

    /// Median seconds of one dispatch: five runs of as many dispatches as fill 40 ms.
    fn time(&mut self, step: usize, vars: &Vars) -> Result<f64> {
        let mut run = |times: usize| -> Result<f64> {
            let started = Instant::now();
            let submission = self.engine.exec.submit_step(Engine::TRAIN, step, times, vars);
            self.engine.exec.gpu.wait(Some(submission), || "during a benchmark".into())?;
            Ok(started.elapsed().as_secs_f64() / times as f64)
        };
        let once = run(1)?.min(run(1)?);
        let times = ((0.04 / once) as usize).clamp(1, 2000);
        let mut all = (0..5).map(|_| run(times)).collect::<Result<Vec<_>>>()?;
        all.sort_by(f64::total_cmp);
        Ok(all[2])
    }
}

/// Runs all kernels' cases and returns the names of those that fail: these are not to be timed.
///
/// # Errors
/// As [`doctor::examine`].
pub fn failing(gpu: &Gpu) -> Result<Vec<&'static str>> {
    let mut pipelines = Pipelines::default();
    let mut bad = Vec::new();
    for kernel in registry() {
        if !doctor::examine(gpu, &mut pipelines, kernel)?.failures.is_empty() {
            bad.push(kernel.name());
        }
    }
    Ok(bad)
}
