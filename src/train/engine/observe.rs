//! Observations of the weights: what the device counts, and what it keeps for the next one.

use super::{DYNAMICS, Engine};
use crate::error::Result;
use crate::files::tensors::Tensor;
use crate::graph::{ObservedLayer, Vars};
use crate::kernels::check::Mismatch;
use crate::kernels::dynamics::{SEEN_MAX, WORDS};
use crate::model::Values;
use crate::model::values::SEEN_PREFIX;

impl Engine {
    /// Every convolution, in the graph's order; none without [`crate::graph::Options::dynamics`].
    pub fn observed(&self) -> &[ObservedLayer] {
        &self.observation.layers
    }

    /// Compares the weights with those of the last call, and returns the counters of each [`Engine::observed`] layer: the words of
    /// [`crate::kernels::dynamics`].
    ///
    /// # Errors
    /// As [`crate::gpu::Gpu::wait`].
    pub fn observe(&mut self) -> Result<Vec<Vec<u32>>> {
        if self.observation.layers.is_empty() {
            return Ok(Vec::new());
        }
        self.clear_counters();
        self.submit(DYNAMICS, &Vars::default())?;
        let words = self.exec.read(self.observation.counters)?;
        self.in_flight.clear();
        let counters = |l: &ObservedLayer| words[l.slot * WORDS..][..WORDS].to_vec();
        Ok(self.observation.layers.iter().map(counters).collect())
    }

    /// As [`Engine::observe`], dispatch by dispatch, each held against its twin on the GPU's own inputs.
    ///
    /// # Errors
    /// As [`Engine::observe`].
    pub fn checked_observation(&mut self) -> Result<Vec<(String, Vec<Mismatch>)>> {
        self.clear_counters();
        self.exec.submit_checked(DYNAMICS, &Vars::default())
    }

    fn clear_counters(&self) {
        self.exec.write(self.observation.counters, &vec![0; self.observation.layers.len() * WORDS]);
    }

    pub(super) fn forget_seen(&self) {
        for (buffer, size) in self.observation.seen.iter().zip(&self.layout.groups) {
            self.exec.write(*buffer, &vec![0; size.weights as usize]);
        }
    }

    /// What the last observation saw of each weight, a tensor a layer under prefixed names: the words as numbers.
    ///
    /// # Errors
    /// As [`crate::gpu::Gpu::wait`].
    pub fn seen(&self) -> Result<Values> {
        let slabs = self.observation.seen.iter().map(|b| self.exec.read(*b)).collect::<Result<Vec<_>>>()?;
        let tensor = |l: &ObservedLayer| {
            let data = l.words().map(|w| slabs[l.group][w] as f32).collect();
            (format!("{SEEN_PREFIX}{}", l.name), Tensor { shape: l.dims(), data })
        };
        Ok(Values(self.observation.layers.iter().map(tensor).collect()))
    }

    /// Loads what [`Engine::seen`] gave.
    ///
    /// # Errors
    /// The name of a tensor that is missing, or is none of [`Engine::seen`]'s.
    pub fn load_seen(&self, values: &Values) -> Result<(), String> {
        let mut slabs: Vec<_> = self.layout.groups.iter().map(|g| vec![0u32; g.weights as usize]).collect();
        for layer in &self.observation.layers {
            let name = format!("{SEEN_PREFIX}{}", layer.name);
            let good = |t: &&Tensor| {
                let is_word = |v: &f32| v.fract() == 0.0 && (0.0..=SEEN_MAX as f32).contains(v);
                t.shape == layer.dims() && t.data.iter().all(is_word)
            };
            let Some(tensor) = values.0.get(&name).filter(good) else { return Err(name) };
            layer.words().zip(&tensor.data).for_each(|(at, v)| slabs[layer.group][at] = *v as u32);
        }
        self.observation.seen.iter().zip(&slabs).for_each(|(buffer, words)| self.exec.write(*buffer, words));
        Ok(())
    }
}
