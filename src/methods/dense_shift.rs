//! DenseShift (ICCV 2023): sign and shift latents without a zero.
//!
//! s_0 = 0, s_t = \[shift_t > 0\] · (s_{t−1} + 1), W = sgn(sign) · 2^{s_T} with T = 2^(bits − 1) − 1; the backward pass goes through
//! sgn(sign) · √(s_T + 1) in W's place.

use rand_chacha::ChaCha8Rng;

use super::convert::{Fit, gated};
use super::levels::Levels;
use super::{Bound, Converted, LatentInit, Method, WeightShape, normal};
use crate::graph::{Call, Vars};
use crate::kernels::compose::dense_shift::{
    DenseShiftBackward, DenseShiftCompose, DenseShiftParams, DenseShiftUpdate, DenseShiftUpdateParams,
};
use crate::kernels::optim::SgdParams;

/// Sign and shift latents, zero-free.
pub(super) struct DenseShift;

/// T: shift latents at a bit width.
fn shifts(bits: u32) -> u32 {
    (1 << (bits - 1)) - 1
}

impl Method for DenseShift {
    fn name(&self) -> &'static str {
        "denseshift"
    }
    fn bits(&self) -> &'static [u32] {
        &[2, 3, 4]
    }
    fn default_bits(&self) -> u32 {
        3
    }
    fn latents(&self, bits: u32) -> Vec<String> {
        let shift = (1..=shifts(bits)).map(|t| format!("shift{t}"));
        std::iter::once("sign".to_string()).chain(shift).collect()
    }
    fn scales_latent_rate(&self) -> bool {
        true
    }
    fn init(&self, bits: u32, shape: WeightShape, how: LatentInit, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
        let mut latents: Vec<_> =
            self.latents(bits).iter().map(|_| normal(shape.count(), shape.init_std(), rng)).collect();
        if how == LatentInit::Dense {
            latents[1..].iter_mut().flatten().for_each(|v| *v = -v.abs());
        }
        latents
    }
    fn convert(&self, bits: u32, shape: WeightShape, weight: &[f32]) -> Converted {
        let fit = Fit::new(weight, &Levels::dense_shift(bits));
        let gates = gated(&fit.levels, shifts(bits), shape.init_std() as f32);
        Converted { latents: std::iter::once(weight.to_vec()).chain(gates).collect(), factor: fit.factor }
    }
    fn foreign_names(&self, bits: u32) -> Vec<String> {
        let shift = (1..=shifts(bits)).map(|t| format!("weight_t{t}"));
        std::iter::once("weight".to_string()).chain(shift).collect()
    }
    fn weight(&self, _: u32, _: WeightShape, latents: &[&[f32]]) -> Vec<f32> {
        let weight = |i: usize| {
            let shift = latents[1..].iter().fold(0, |s, gate| if gate[i] > 0.0 { s + 1 } else { 0 });
            let sign = if latents[0][i] >= 0.0 { 1.0 } else { -1.0 };
            sign * (1u32 << shift) as f32
        };
        (0..latents[0].len()).map(weight).collect()
    }
    fn compose(&self, bits: u32, b: &Bound) -> Vec<Call> {
        let params = DenseShiftParams { groups: b.groups, shifts: shifts(bits) };
        vec![Call::fixed(&DenseShiftCompose, &[b.table, b.params, b.weight, b.weight_t], params)]
    }
    fn backward(&self, bits: u32, b: &Bound, _: f32) -> Call {
        let params = DenseShiftParams { groups: b.groups, shifts: shifts(bits) };
        Call::fixed(&DenseShiftBackward, &[b.table, b.params, b.dweight, b.grads], params)
    }
    fn update(&self, bits: u32, b: &Bound, _: f32, sgd: SgdParams) -> Option<Call> {
        let SgdParams { nesterov, latent_rate, momentum, decay, .. } = sgd;
        let (groups, shifts) = (b.groups, shifts(bits));
        let base = DenseShiftUpdateParams { groups, shifts, nesterov, rate: 0.0, plain_rate: 0.0, momentum, decay };
        Some(Call::new(&DenseShiftUpdate, &[b.table, b.dweight, b.params, b.momenta], move |v: &Vars| {
            DenseShiftUpdateParams { rate: v.rate * latent_rate, plain_rate: v.rate, ..base }
        }))
    }
    fn powers_of_two(&self) -> bool {
        true
    }
    fn levels(&self, bits: u32, _: &[f32]) -> Option<Levels> {
        Some(Levels::dense_shift(bits))
    }
}
