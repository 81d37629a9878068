//! The integer network on an adapter: a plan of the kernels in [`crate::kernels::int`], batches of pixels in, int32 logits out.
//!
//! The same bits as [`super::plain`], whichever convolution rungs are taken: the choice is one of speed.

mod code;
mod lower;
mod measure;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod measure_tests;
mod rungs;

use std::collections::BTreeMap;

pub use code::NAME as CODE;
pub(crate) use lower::lower;
pub use measure::{Measured, measure, measured};
pub(crate) use rungs::Adapter;
pub use rungs::{COMPILE_BUDGET, Choice, multiplies};

use super::Model;
use crate::data::Records;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::{Executor, Plan, Vars};

/// The plan's only section.
const FORWARD: usize = 0;

/// A network on a device.
pub struct Network {
    /// The executor.
    pub exec: Executor,
    /// Rung of each convolution, by node name.
    pub rungs: BTreeMap<String, &'static str>,
    pixels: usize,
    logits: usize,
    batch: usize,
    classes: usize,
    image_len: usize,
    words: Vec<u32>,
}

impl Network {
    /// Plans, allocates and compiles a checked network for batches of up to `batch` images.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for an unknown rung, [`crate::Error::AdapterTooSmall`], [`crate::Error::OutOfMemory`],
    /// [`crate::Error::Gpu`].
    pub fn new(gpu: Gpu, model: &Model, batch: u32, choice: &Choice) -> Result<Self> {
        let lowered = lower(model, batch, choice, Adapter::of(&gpu))?;
        let plan = Plan::new(lowered.buffers, vec![lowered.program]);
        Ok(Self {
            exec: Executor::new(gpu, plan, batch)?,
            rungs: lowered.rungs,
            pixels: lowered.pixels,
            logits: lowered.logits,
            batch: batch as usize,
            classes: model.classes(),
            image_len: super::model::len(model.input()),
            words: Vec::new(),
        })
    }

    /// Largest batch.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Whether any of its kernels multiplies.
    pub fn multiplies(&self) -> bool {
        self.rungs.values().any(|name| multiplies(name))
    }

    /// Sends u8 images [C, H, W], one behind the other, at most [`Network::batch_size`] of them.
    pub fn send(&mut self, images: &[u8]) {
        debug_assert!(images.len() <= self.batch * self.image_len);
        self.words.clear();
        self.words.resize(images.len().div_ceil(4), 0);
        bytemuck::cast_slice_mut::<u32, u8>(&mut self.words)[..images.len()].copy_from_slice(images);
        // The shader takes bytes from words, low byte first.
        if cfg!(target_endian = "big") {
            self.words.iter_mut().for_each(|w| *w = w.to_le());
        }
        self.exec.write(self.pixels, &self.words);
    }

    /// Submits a pass over the first `n` images that were sent.
    pub fn submit(&mut self, n: u32) -> wgpu::SubmissionIndex {
        self.exec.submit(FORWARD, &Vars { n, ..Vars::default() })
    }

    /// Logits of u8 images [C, H, W] of any number, one image's behind the other's.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn run(&mut self, images: &[u8]) -> Result<Vec<i32>> {
        let mut logits = Vec::with_capacity(images.len() / self.image_len * self.classes);
        for batch in images.chunks(self.batch * self.image_len) {
            self.send(batch);
            let n = batch.len() / self.image_len;
            self.submit(n as u32);
            let words = self.exec.read(self.logits)?;
            logits.extend(words[..n * self.classes].iter().map(|w| *w as i32));
        }
        Ok(logits)
    }

    /// Logits of all images.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn logits(&mut self, records: &Records) -> Result<Vec<i32>> {
        self.run(&records.pixels)
    }

    /// Runs a batch one kernel at a time and holds each against its twin; returns those that differ.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn check(&mut self, images: &[u8]) -> Result<Vec<String>> {
        self.send(images);
        let vars = Vars { n: (images.len() / self.image_len) as u32, ..Vars::default() };
        Ok(self.exec.submit_checked(FORWARD, &vars)?.into_iter().map(|(name, _)| name).collect())
    }
}
