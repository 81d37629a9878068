//! fp32: the latent is the weight.

use rand_chacha::ChaCha8Rng;

use super::levels::Levels;
use super::{Bound, LatentInit, Method, WeightShape, normal};
use crate::graph::Call;
use crate::kernels::compose::fp32::{ComposeParams, Fp32Backward, Fp32Compose};
use crate::kernels::optim::SgdParams;

/// Plain single-precision weights.
pub(super) struct Fp32;

impl Method for Fp32 {
    fn name(&self) -> &'static str {
        "fp32"
    }
    fn bits(&self) -> &'static [u32] {
        &[]
    }
    fn latents(&self, _: u32) -> Vec<String> {
        vec!["weight".into()]
    }
    fn scales_latent_rate(&self) -> bool {
        false
    }
    fn init(&self, _: u32, shape: WeightShape, _: LatentInit, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
        vec![normal(shape.count(), shape.init_std(), rng)]
    }
    fn foreign_names(&self, bits: u32) -> Vec<String> {
        self.latents(bits)
    }
    fn weight(&self, _: u32, latents: &[&[f32]]) -> Vec<f32> {
        latents[0].to_vec()
    }
    fn compose(&self, _: u32, b: &Bound) -> Call {
        let params = ComposeParams { groups: b.groups };
        Call::fixed(&Fp32Compose, &[b.table, b.params, b.weight, b.weight_t], params)
    }
    fn backward(&self, _: u32, b: &Bound, _: f32) -> Call {
        Call::fixed(&Fp32Backward, &[b.table, b.dweight, b.grads], ComposeParams { groups: b.groups })
    }
    fn update(&self, _: u32, _: &Bound, _: f32, _: SgdParams) -> Option<Call> {
        None // one small layer as a rule, and the optimizer's pass over the slab is due anyway
    }
    fn regularizer(&self, _: &Bound) -> Option<Call> {
        None
    }
    fn powers_of_two(&self) -> bool {
        false
    }
    fn levels(&self, _: u32, _: &[f32]) -> Option<Levels> {
        None
    }
}
