//! Runs a plan on the GPU: everything allocated and compiled before the first step, then one encoder and one submit a step.

use std::sync::Arc;
use std::time::Instant;

use super::plan::Plan;
use super::program::Vars;
use crate::error::Result;
use crate::gpu::{Gpu, Pipeline, Pipelines, Startup, UNIFORM_STRIDE, download, fold, try_upload};
use crate::kernels::check::{Mismatch, compare};

/// Operations in one submission. A weak GPU does some 10^11 a second, and operating systems kill work that lasts two.
const FLOPS_PER_SUBMIT: f64 = 5e10;

struct Dispatch {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
}

struct Section {
    dispatches: Vec<Dispatch>,
    uniforms: wgpu::Buffer,
    /// Submissions: ends of ranges of dispatches.
    cuts: Vec<usize>,
}

/// A plan on a device.
pub struct Executor {
    /// The device.
    pub gpu: Gpu,
    /// The plan.
    pub plan: Plan,
    buffers: Vec<wgpu::Buffer>,
    sections: Vec<Section>,
    staging: Vec<u8>,
    grids: Vec<u64>,
    /// How long each part of the start took.
    pub startup: Startup,
}

impl Executor {
    /// Allocates and compiles; `batch` is the plan's batch.
    ///
    /// # Errors
    /// [`crate::Error::AdapterTooSmall`], [`crate::Error::OutOfMemory`], or [`crate::Error::Gpu`] where the adapter refuses a kernel.
    pub fn new(gpu: Gpu, plan: Plan, batch: u32) -> Result<Self> {
        plan.check(&gpu.limits, batch)?;
        let mut startup = Startup { adapter: gpu.opened_in.as_secs_f64(), ..Default::default() };
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
        let (mut buffers, mut held) = (Vec::with_capacity(plan.buffers.len()), 0);
        for b in &plan.buffers {
            let buffer = try_upload(&gpu, &b.name, b.words as usize, b.contents.as_deref());
            buffers.push(buffer.ok_or_else(|| plan.out_of_memory(batch, held))?);
            held += 4 * b.words;
        }
        gpu.check(|| "the plan's buffers:".into())?;
        startup.buffers = lap();
        let vars = Vars { n: batch, ..Vars::default() };
        let mut pipelines = Pipelines::kept(&gpu, &mut startup.notes);
        let steps = plan.sections.iter().flatten();
        pipelines.prepare(&gpu, &steps.map(|s| (s.kernel, (s.params)(&vars))).collect::<Vec<_>>())?;
        startup.kept = pipelines.keep(&mut startup.notes);
        (startup.variants, startup.pipelines) = (pipelines.len(), lap());
        let mut sections = Vec::new();
        for steps in &plan.sections {
            let desc = wgpu::BufferDescriptor {
                label: Some("parameters of a section"),
                size: UNIFORM_STRIDE * steps.len().max(1) as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            };
            let uniforms = gpu.device.create_buffer(&desc);
            let (mut dispatches, mut cuts, mut load) = (Vec::new(), Vec::new(), 0.0);
            for step in steps {
                let params = (step.params)(&vars);
                let pipeline = pipelines.get(&gpu, step.kernel, &params)?;
                let storage: Vec<_> = step.args.iter().map(|a| &buffers[*a]).collect();
                let group = pipeline.bind(&gpu, step.kernel, &uniforms, &storage);
                load += step.kernel.cost(&params).flops;
                dispatches.push(Dispatch { pipeline, group });
                if load > FLOPS_PER_SUBMIT {
                    cuts.push(dispatches.len());
                    load = 0.0;
                }
            }
            if cuts.last() != Some(&dispatches.len()) {
                cuts.push(dispatches.len());
            }
            sections.push(Section { dispatches, uniforms, cuts });
        }
        gpu.check(|| "the plan's bind groups:".into())?;
        startup.groups = lap();
        Ok(Self { gpu, plan, buffers, sections, staging: Vec::new(), grids: Vec::new(), startup })
    }

    /// Kernel variants compiled.
    pub fn variants(&self) -> usize {
        self.startup.variants
    }

    /// Writes words to the start of a buffer, before the next submission.
    pub fn write(&self, buffer: usize, words: &[u32]) {
        self.gpu.queue.write_buffer(&self.buffers[buffer], 0, bytemuck::cast_slice(words));
    }

    /// Reads a whole buffer after all work so far.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn read(&self, buffer: usize) -> Result<Vec<u32>> {
        download(&self.gpu, &self.buffers[buffer], self.plan.buffers[buffer].words as usize)
    }

    /// Encodes and submits one pass over a section.
    pub fn submit(&mut self, section: usize, vars: &Vars) -> wgpu::SubmissionIndex {
        self.set_params(section, vars);
        let mut start = 0;
        let mut submission = None;
        for end in self.sections[section].cuts.clone() {
            submission = Some(self.encode(section, start..end));
            start = end;
        }
        submission.expect("a section has a submission")
    }

    /// Submits one step of a section `times` times over, for the checks and the benches.
    pub fn submit_step(&mut self, section: usize, step: usize, times: usize, vars: &Vars) -> wgpu::SubmissionIndex {
        self.set_params(section, vars);
        self.encode(section, std::iter::repeat_n(step, times))
    }

    /// Writes the parameters of all the section's steps, and notes their grids.
    pub fn set_params(&mut self, section: usize, vars: &Vars) {
        self.staging.clear();
        self.grids.clear();
        for (i, step) in self.plan.sections[section].iter().enumerate() {
            let params = (step.params)(vars);
            self.grids.push(step.kernel.groups(&params));
            self.staging.extend_from_slice(&params);
            self.staging.resize((i + 1) * UNIFORM_STRIDE as usize, 0);
        }
        self.gpu.queue.write_buffer(&self.sections[section].uniforms, 0, &self.staging);
    }

    /// Records one step of the section whose parameters [`Executor::set_params`] wrote last; an empty grid records nothing.
    pub fn dispatch(&self, section: usize, step: usize, pass: &mut wgpu::ComputePass) {
        if self.grids[step] == 0 {
            return;
        }
        let d = &self.sections[section].dispatches[step];
        let [x, y] = fold(self.grids[step]);
        pass.set_pipeline(&d.pipeline.pipeline);
        pass.set_bind_group(0, &d.group, &[step as u32 * UNIFORM_STRIDE as u32]);
        pass.dispatch_workgroups(x, y, 1);
    }

    fn encode(&self, section: usize, steps: impl Iterator<Item = usize>) -> wgpu::SubmissionIndex {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            steps.for_each(|step| self.dispatch(section, step, &mut pass));
        }
        self.gpu.queue.submit([encoder.finish()])
    }

    /// Runs a section one step at a time and holds each against its twin, on the values that the GPU itself computed before.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn submit_checked(&mut self, section: usize, vars: &Vars) -> Result<Vec<(String, Vec<Mismatch>)>> {
        let mut failures = Vec::new();
        for i in 0..self.plan.sections[section].len() {
            let args = self.plan.sections[section][i].args.clone();
            let before = args.iter().map(|a| self.read(*a)).collect::<Result<Vec<_>>>()?;
            self.submit_step(section, i, 1, vars);
            let after = args.iter().map(|a| self.read(*a)).collect::<Result<Vec<_>>>()?;
            let step = &self.plan.sections[section][i];
            let (bad, _) = compare(step.kernel, &(step.params)(vars), &before, &after);
            if !bad.is_empty() {
                failures.push((format!("{} {} (step {i})", step.kernel.name(), step.label), bad));
            }
        }
        Ok(failures)
    }
}
