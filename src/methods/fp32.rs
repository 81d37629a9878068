//! fp32: the latent is the weight.

use super::levels::Levels;
use super::{Bound, Converted, Method, WeightShape};
use crate::graph::Call;
use crate::kernels::compose::fp32::{ComposeParams, Fp32Backward, Fp32Compose};

/// Plain single-precision weights.
pub(super) struct Fp32;

impl Method for Fp32 {
    fn name(&self) -> &'static str {
        "fp32"
    }
    fn bits(&self) -> &'static [u32] {
        &[]
    }
    fn default_bits(&self) -> u32 {
        0
    }
    fn convert(&self, _: u32, _: WeightShape, weight: &[f32]) -> Converted {
        Converted { latents: vec![weight.to_vec()], factor: 1.0 }
    }
    fn weight(&self, _: u32, _: WeightShape, latents: &[&[f32]]) -> Vec<f32> {
        latents[0].to_vec()
    }
    fn compose(&self, _: u32, b: &Bound) -> Vec<Call> {
        vec![copy(b)]
    }
    fn backward(&self, _: u32, b: &Bound, _: f32) -> Call {
        straight_through(b)
    }
    fn powers_of_two(&self) -> bool {
        false
    }
    fn levels(&self, _: u32, _: &[f32]) -> Option<Levels> {
        None
    }
}

/// W = weight.
pub(super) fn copy(b: &Bound) -> Call {
    Call::fixed(&Fp32Compose, &[b.table, b.params, b.weight, b.weight_t], ComposeParams { groups: b.groups })
}

/// dL/dweight = dL/dW: the straight-through estimator of every method whose one latent is `weight`.
pub(super) fn straight_through(b: &Bound) -> Call {
    Call::fixed(&Fp32Backward, &[b.table, b.dweight, b.grads], ComposeParams { groups: b.groups })
}
