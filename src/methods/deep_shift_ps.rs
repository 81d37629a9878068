//! DeepShift-PS (CVPRW 2021): a shift and a sign latent, both rounded.
//!
//! `shift` is clamped in place into \[−(2^(bits − 1) − 2), 0\]; W = sign(round(sign)) · 2^{round(shift)}, halves to even. Its authors train
//! it by RAdam at a rate of 0.01.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::convert::Fit;
use super::levels::Levels;
use super::{Bound, Converted, LatentInit, Method, WeightShape};
use crate::graph::Call;
use crate::kernels::compose::deep_shift::{DeepShiftParams, DeepShiftPsBackward, DeepShiftPsCompose};

/// A shift and a sign.
pub(super) struct DeepShiftPs;

/// The lowest exponent is −range.
fn range(bits: u32) -> u32 {
    (1 << (bits - 1)) - 2
}

impl Method for DeepShiftPs {
    fn name(&self) -> &'static str {
        "deepshift-ps"
    }
    fn bits(&self) -> &'static [u32] {
        &[2, 3, 4, 5, 6]
    }
    fn default_bits(&self) -> u32 {
        5
    }
    fn latents(&self, _: u32) -> Vec<String> {
        ["shift", "sign"].map(String::from).to_vec()
    }
    /// shift ~ U(range), sign ~ U(−1, 1).
    fn init(&self, bits: u32, shape: WeightShape, _: LatentInit, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
        let range = range(bits) as f32;
        let mut uniform = |low: f32, width: f32| -> Vec<f32> {
            (0..shape.count()).map(|_| low + width * rng.random::<f32>()).collect()
        };
        vec![uniform(-range, range), uniform(-1.0, 2.0)]
    }
    fn convert(&self, bits: u32, _: WeightShape, weight: &[f32]) -> Converted {
        let Fit { factor, levels } = Fit::new(weight, &Levels::deep_shift_ps(bits));
        let lowest = -(range(bits) as f32);
        let shift = levels.iter().map(|l| lowest + f32::from(l.unwrap_or(0))).collect();
        let sign = levels.iter().zip(weight).map(|(l, w)| if l.is_some() { w.signum() } else { 0.0 }).collect();
        Converted { latents: vec![shift, sign], factor }
    }
    fn weight(&self, bits: u32, _: WeightShape, latents: &[&[f32]]) -> Vec<f32> {
        let lowest = -(range(bits) as f32);
        let weight = |(shift, sign): (&f32, &f32)| match sign.round_ties_even() {
            0.0 => 0.0,
            sign => sign.signum() * shift.clamp(lowest, 0.0).round_ties_even().exp2(),
        };
        latents[0].iter().zip(latents[1]).map(weight).collect()
    }
    fn compose(&self, bits: u32, b: &Bound) -> Vec<Call> {
        let params = DeepShiftParams { groups: b.groups, range: range(bits) };
        vec![Call::fixed(&DeepShiftPsCompose, &[b.table, b.params, b.weight, b.weight_t], params)]
    }
    fn backward(&self, bits: u32, b: &Bound, _: f32) -> Call {
        let params = DeepShiftParams { groups: b.groups, range: range(bits) };
        Call::fixed(&DeepShiftPsBackward, &[b.table, b.params, b.dweight, b.grads], params)
    }
    fn powers_of_two(&self) -> bool {
        true
    }
    fn levels(&self, bits: u32, _: &[f32]) -> Option<Levels> {
        Some(Levels::deep_shift_ps(bits))
    }
}
