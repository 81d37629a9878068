//! What is measured: a network in training form with a batch of drawn images on the device.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::median;
use crate::data::{Manifest, Records};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::{RungChoice, Vars};
use crate::kernels::{AnyKernel, Cost};
use crate::methods::MethodSpec;
use crate::model::{Arch, Shortcut, Values};
use crate::train::{Config, Engine, setup::Setup};
use crate::tune;

/// Flags that name a training step.
#[derive(Args, Clone, Debug)]
pub struct Workload {
    /// Network
    #[arg(long, default_value = "resnet20")]
    pub model: String,
    /// Factor on its channel counts
    #[arg(long, default_value_t = 1)]
    pub width: u32,
    /// Shortcut of CIFAR's networks
    #[arg(long, value_enum, default_value_t = Shortcut::Pad)]
    pub shortcut: Shortcut,
    /// Images in a step
    #[arg(long, default_value_t = 128)]
    pub batch_size: u32,
    /// Height and width of an image
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub image_size: u32,
    /// Classes that the network tells apart
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub classes: u32,
    /// Training method
    #[arg(long, default_value = "s3")]
    pub method: String,
    /// Bits a weight; the method's default where it is left out
    #[arg(long)]
    pub bits: Option<u32>,
    /// Convolution rung that comes first where it fits; may be repeated
    #[arg(long, value_name = "KERNEL")]
    pub rung: Vec<String>,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    pub adapter: Option<String>,
}

/// A workload by name, as tables and files carry it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// Network.
    pub model: String,
    /// Factor on its channel counts.
    pub width: u32,
    /// Shortcut.
    pub shortcut: Shortcut,
    /// Method and bits.
    pub method: String,
    /// Images in a step.
    pub batch: u32,
    /// Height and width of an image.
    #[serde(default = "small")]
    pub image: u32,
}

/// The only size that older reports know.
fn small() -> u32 {
    32
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, width, shortcut, method, batch, image } = self;
        write!(f, "{model} x{width}, {} shortcut, {method}, batch {batch}, {image}x{image}", shortcut.name())
    }
}

impl Workload {
    /// The data set that is drawn for it.
    fn manifest(&self) -> Result<Manifest> {
        let side = self.image_size as usize;
        let classes = (0..self.classes).map(|c| c.to_string()).collect();
        Ok(Manifest { height: side, width: side, classes, ..Manifest::find("shapes")? })
    }

    /// The run that it is a step of.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for an unknown method or bit width.
    pub fn config(&self) -> Result<Config> {
        let spec = MethodSpec::find(&self.method, self.bits)?;
        let manifest = Manifest::find("shapes")?;
        Ok(Config {
            dataset: manifest.name.clone(),
            model: self.model.clone(),
            width: self.width,
            shortcut: self.shortcut,
            method: self.method.clone(),
            bits: spec.bits,
            batch_size: self.batch_size,
            rungs: self.rung.clone(),
            mean: manifest.mean,
            std: manifest.std,
            ..Config::default()
        })
    }

    /// By name.
    ///
    /// # Errors
    /// As [`Workload::config`].
    pub fn named(&self) -> Result<Named> {
        Ok(Named {
            model: self.model.clone(),
            width: self.width,
            shortcut: Arch::find(&self.model)?.shortcut(self.shortcut),
            method: MethodSpec::find(&self.method, self.bits)?.title(),
            batch: self.batch_size,
            image: self.image_size,
        })
    }
}

/// As many images as a batch: their content does not change a step's time.
fn noise(manifest: &Manifest, batch: u32) -> Records {
    let (image_len, classes) = (manifest.image_len(), manifest.classes.len() as u32);
    let mut pixels = vec![0; batch as usize * image_len];
    ChaCha8Rng::seed_from_u64(0).fill_bytes(&mut pixels);
    Records { pixels, labels: (0..batch).map(|i| i % classes).collect(), image_len }
}

/// A network in training form with a batch of drawn images on the device.
pub struct Subject {
    /// The engine.
    pub engine: Engine,
    /// Seconds to compile everything and run the first step.
    pub start: f64,
    records: Records,
    batch: u32,
}

/// A distinct dispatch of the step: one kernel with one set of parameters.
#[derive(Clone, Debug)]
pub struct Distinct {
    /// Kernel.
    pub kernel: &'static str,
    /// The first layer that it serves with these parameters.
    pub layer: String,
    /// Where it stands first.
    pub step: usize,
    /// Dispatches of it in the step.
    pub times: usize,
    /// Operations and bytes of one.
    pub cost: Cost,
}

impl Subject {
    /// Compiles a workload's training step, tuned for at most `tune` seconds where that is asked for, and runs it once.
    ///
    /// What training keeps of its own tuning is neither read nor written, so that equal commands measure equal programs.
    ///
    /// # Errors
    /// As [`Engine::new`] and [`tune::measured`].
    pub fn of(gpu: Gpu, workload: &Workload, tune: Option<u64>) -> Result<Self> {
        let mut setup = Setup::on(workload.config()?, workload.manifest()?)?;
        if let Some(seconds) = tune {
            let choices = tune::measured(&setup, &gpu, Duration::from_secs(seconds), &mut |l| eprintln!("{l}"))?;
            setup.tuned = choices.into_iter().map(|(key, choice)| (key, choice.rung)).collect();
        }
        Self::with(gpu, &setup)
    }

    /// Compiles the configuration's training step and runs it once.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn new(gpu: Gpu, config: Config) -> Result<Self> {
        Self::with(gpu, &Setup::new(config)?)
    }

    fn with(gpu: Gpu, setup: &Setup) -> Result<Self> {
        let records = noise(&setup.manifest, setup.config.batch_size);
        let rungs = RungChoice { forced: setup.config.rungs.clone(), ..Default::default() };
        let started = Instant::now();
        let engine = Engine::new(gpu, &setup.graph, &setup.options(rungs))?;
        engine.load(&Values::init(&setup.graph, &engine.layout, setup.config.latent_init, setup.config.seed));
        let batch = setup.config.batch_size;
        let mut subject = Self { engine, start: 0.0, records, batch };
        subject.steps(1)?;
        subject.start = started.elapsed().as_secs_f64();
        Ok(subject)
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.engine.exec.gpu
    }

    fn vars(&self) -> Vars {
        Vars { n: self.batch, rate: 1e-3, ..Vars::default() }
    }

    /// Runs steps as training does, waits for their figures, and returns the seconds of one.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn steps(&mut self, count: usize) -> Result<f64> {
        let indices: Vec<u32> = (0..self.batch).collect();
        let started = Instant::now();
        for _ in 0..count {
            if self.engine.is_full() {
                self.engine.figures()?;
            }
            self.engine.step(&self.records, &indices, 0, 1e-3)?;
        }
        self.engine.figures()?;
        Ok(started.elapsed().as_secs_f64() / count as f64)
    }

    /// Runs forward passes (the evaluation: pixels on the device to loss and counts), waits, and returns the seconds of one.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn forwards(&mut self, count: usize) -> Result<f64> {
        let vars = self.vars();
        let started = Instant::now();
        for _ in 0..count {
            self.engine.exec.submit(Engine::EVAL, &vars);
        }
        self.gpu().wait(None, || "during a benchmark".into())?;
        Ok(started.elapsed().as_secs_f64() / count as f64)
    }

    /// Median seconds that the host takes to record and submit a step while the device is idle.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn host_seconds(&mut self, count: usize) -> Result<f64> {
        let vars = self.vars();
        let mut all = Vec::new();
        for _ in 0..count.max(1) {
            let started = Instant::now();
            let submission = self.engine.exec.submit(Engine::TRAIN, &vars);
            all.push(started.elapsed().as_secs_f64());
            self.gpu().wait(Some(submission), || "during a benchmark".into())?;
        }
        Ok(median(all))
    }

    /// Bytes that the device's allocator holds, where the backend tells.
    pub fn allocated(&self) -> u64 {
        self.gpu().device.generate_allocator_report().map_or(0, |r| r.total_allocated_bytes)
    }

    /// The kernels of all sections.
    pub fn kernels(&self) -> Vec<&'static dyn AnyKernel> {
        let steps = self.engine.exec.plan.sections.iter().flatten();
        let found: BTreeMap<_, _> = steps.map(|s| (s.kernel.name(), s.kernel)).collect();
        found.into_values().collect()
    }

    /// The distinct dispatches of a training step, in order.
    pub fn distinct(&self) -> Vec<Distinct> {
        let vars = self.vars();
        let mut index: BTreeMap<(&str, Vec<u8>), usize> = BTreeMap::new();
        let mut all: Vec<Distinct> = Vec::new();
        for (step, s) in self.engine.exec.plan.sections[Engine::TRAIN].iter().enumerate() {
            let mut params = (s.params)(&vars);
            let cost = s.kernel.cost(&params);
            // Where a layer's parameters lie makes no difference to its time.
            if s.label.starts_with("layer") {
                let size = [s.kernel.groups(&params), cost.flops as u64, cost.bytes as u64];
                params = size.iter().flat_map(|x| x.to_le_bytes()).collect();
            }
            let at = *index.entry((s.kernel.name(), params)).or_insert(all.len());
            match all.get_mut(at) {
                Some(found) => found.times += 1,
                None => all.push(Distinct { kernel: s.kernel.name(), layer: s.label.clone(), step, times: 1, cost }),
            }
        }
        all
    }

    /// Median seconds of one dispatch of the training step, on the data that a real step left in its buffers.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn time(&mut self, step: usize, clock: &mut Clock) -> Result<f64> {
        let vars = self.vars();
        self.engine.exec.set_params(Engine::TRAIN, &vars);
        let exec = &self.engine.exec;
        clock.dispatch(&exec.gpu, |pass| exec.dispatch(Engine::TRAIN, step, pass))
    }

    /// Runs one training step dispatch by dispatch: `kernel layer`, beginning and end of each.
    ///
    /// # Errors
    /// As [`Clock::each`].
    pub fn traced(&mut self, clock: &mut Clock) -> Result<Vec<wgpu_profiler::GpuTimerQueryResult>> {
        let vars = self.vars();
        self.engine.exec.set_params(Engine::TRAIN, &vars);
        let exec = &self.engine.exec;
        let label = |s: &crate::graph::Step| format!("{} {}", s.kernel.name(), s.label);
        let labels: Vec<_> = exec.plan.sections[Engine::TRAIN].iter().map(label).collect();
        clock.each(&exec.gpu, &labels, |step, pass| exec.dispatch(Engine::TRAIN, step, pass))
    }
}
