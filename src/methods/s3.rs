//! S3: sign, sparsity and shift latents (S3: Sign-Sparse-Shift Reparametrization, NeurIPS 2021).
//!
//! s_0 = 0, s_t = \[shift_t > 0\] · (s_{t−1} + 1), W = sgn(sign) · \[sparse > 0\] · 2^{s_T} with T = 2^(bits − 1) − 2.

use rand_chacha::ChaCha8Rng;

use super::convert::{Fit, gated};
use super::levels::Levels;
use super::{Bound, Converted, LatentInit, Method, WeightShape, normal};
use crate::graph::{Call, Vars};
use crate::kernels::compose::s3::{
    S3Backward, S3Compose, S3Params, S3Regularizer, S3RegularizerParams, S3Update, S3UpdateParams,
};
use crate::kernels::optim::SgdParams;

/// Sign-sparse-shift reparametrization.
pub(super) struct S3;

/// T: shift latents at a bit width.
fn shifts(bits: u32) -> u32 {
    (1 << (bits - 1)) - 2
}

impl Method for S3 {
    fn name(&self) -> &'static str {
        "s3"
    }
    fn bits(&self) -> &'static [u32] {
        &[2, 3, 4]
    }
    fn default_bits(&self) -> u32 {
        3
    }
    fn latents(&self, bits: u32) -> Vec<String> {
        let shift = (1..=shifts(bits)).map(|t| format!("shift{t}"));
        ["sign".to_string(), "sparse".to_string()].into_iter().chain(shift).collect()
    }
    fn scales_latent_rate(&self) -> bool {
        true
    }
    fn init(&self, bits: u32, shape: WeightShape, how: LatentInit, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
        let mut latents: Vec<_> =
            self.latents(bits).iter().map(|_| normal(shape.count(), shape.init_std(), rng)).collect();
        if how == LatentInit::Dense {
            latents[1].iter_mut().for_each(|v| *v = v.abs());
            latents[2..].iter_mut().flatten().for_each(|v| *v = -v.abs());
        }
        latents
    }
    fn foreign_names(&self, bits: u32) -> Vec<String> {
        // The authors' 3-bit files count the shifts backwards: weight_shift2 is s_1's gate.
        match bits {
            3 => ["weight", "weight_val", "weight_shift2", "weight_shift"].map(String::from).to_vec(),
            _ => self.latents(bits),
        }
    }
    fn convert(&self, bits: u32, shape: WeightShape, weight: &[f32]) -> Converted {
        let fit = Fit::new(weight, &Levels::s3(bits));
        let gate = shape.init_std() as f32;
        let sparse = fit.levels.iter().map(|l| if l.is_some() { gate } else { -gate }).collect();
        let latents = [weight.to_vec(), sparse].into_iter().chain(gated(&fit.levels, shifts(bits), gate)).collect();
        Converted { latents, factor: fit.factor }
    }
    fn weight(&self, _: u32, _: WeightShape, latents: &[&[f32]]) -> Vec<f32> {
        let weight = |i: usize| {
            let shift = latents[2..].iter().fold(0, |s, gate| if gate[i] > 0.0 { s + 1 } else { 0 });
            let sign = if latents[0][i] >= 0.0 { 1.0 } else { -1.0 };
            if latents[1][i] > 0.0 { sign * (1u32 << shift) as f32 } else { 0.0 }
        };
        (0..latents[0].len()).map(weight).collect()
    }
    fn compose(&self, bits: u32, b: &Bound) -> Vec<Call> {
        let params = S3Params { groups: b.groups, shifts: shifts(bits), alpha: 0.0 };
        vec![Call::fixed(&S3Compose, &[b.table, b.params, b.weight, b.weight_t], params)]
    }
    fn backward(&self, bits: u32, b: &Bound, alpha: f32) -> Call {
        let params = S3Params { groups: b.groups, shifts: shifts(bits), alpha };
        Call::fixed(&S3Backward, &[b.table, b.params, b.dweight, b.grads], params)
    }
    fn update(&self, bits: u32, b: &Bound, alpha: f32, sgd: SgdParams) -> Option<Call> {
        let SgdParams { nesterov, latent_rate, momentum, decay, .. } = sgd;
        let (groups, shifts, out) = (b.groups, shifts(bits), b.regularizer_at);
        let base = S3UpdateParams { groups, shifts, alpha, out, nesterov, rate: 0.0, plain_rate: 0.0, momentum, decay };
        let args = [b.table, b.dweight, b.params, b.momenta, b.regularizer];
        Some(Call::new(&S3Update, &args, move |v: &Vars| S3UpdateParams {
            rate: v.rate * latent_rate,
            plain_rate: v.rate,
            ..base
        }))
    }
    fn regularizer(&self, b: &Bound) -> Option<Call> {
        let params = S3RegularizerParams { groups: b.groups, out: b.regularizer_at };
        Some(Call::fixed(&S3Regularizer, &[b.table, b.params, b.regularizer], params))
    }
    fn powers_of_two(&self) -> bool {
        true
    }
    fn levels(&self, bits: u32, _: &[f32]) -> Option<Levels> {
        Some(Levels::s3(bits))
    }
}
