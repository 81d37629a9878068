//! INQ (ICLR 2017): pretrained weights are frozen on powers of two in portions, largest first, while the rest trains on.
//!
//! With s = max|W| of the pretrained layer, n1 = floor(log2(4s/3)) and n2 = n1 + 1 − 2^(bits − 2), the levels are 0 and ±2^{n2} … ±2^{n1}. The
//! largest weight is frozen first, and always at 2^{n1}, so that a layer's frozen weights tell its n1.

use super::levels::Levels;
use super::{Bound, Converted, Method, WeightShape, fp32};
use crate::graph::Call;
use crate::kernels::compose::fp32::ComposeParams;
use crate::kernels::compose::inq::{InqBackward, InqHold};

/// Incremental network quantization.
pub(super) struct Inq;

/// floor(log2(4s/3)) of a normal s > 0: the exponent of the largest level.
fn largest_exponent(s: f32) -> i32 {
    let bits = s.to_bits();
    (bits >> 23) as i32 - 127 + i32::from(bits & 0x7f_ffff >= 0x40_0000)
}

/// The level of a weight: β where (α + β)/2 ≤ |w| < 3β/2 for neighbours α < β among 0, 2^{n2} … 2^{n1}; beyond them all 2^{n1}.
fn quantize(w: f32, bits: u32, n1: i32) -> f32 {
    let n2 = n1 + 1 - (1 << (bits - 2));
    // Between powers the threshold is 3/2 of the lower one, between 0 and the first half of it.
    if w.abs() < 0.5 * (n2 as f32).exp2() {
        return 0.0;
    }
    w.signum() * (largest_exponent(w.abs()).clamp(n2, n1) as f32).exp2()
}

/// The largest magnitude, where it is above zero.
fn largest<'a>(weight: impl Iterator<Item = &'a f32>) -> Option<f32> {
    weight.map(|w| w.abs()).max_by(f32::total_cmp).filter(|s| s.is_normal())
}

impl Method for Inq {
    fn name(&self) -> &'static str {
        "inq"
    }
    fn bits(&self) -> &'static [u32] {
        &[3, 4, 5]
    }
    fn default_bits(&self) -> u32 {
        5
    }
    fn flags(&self) -> &'static [&'static str] {
        &["frozen"]
    }
    /// As they are: they are frozen in portions.
    fn convert(&self, _: u32, _: WeightShape, weight: &[f32]) -> Converted {
        Converted { latents: vec![weight.to_vec()], factor: 1.0 }
    }
    fn weight(&self, _: u32, _: WeightShape, latents: &[&[f32]]) -> Vec<f32> {
        latents[0].to_vec()
    }
    fn compose(&self, _: u32, b: &Bound) -> Vec<Call> {
        vec![fp32::copy(b)]
    }
    fn backward(&self, _: u32, b: &Bound, _: f32) -> Call {
        Call::fixed(&InqBackward, &[b.table, b.state, b.dweight, b.grads], ComposeParams { groups: b.groups })
    }
    fn hold(&self, b: &Bound) -> Option<Call> {
        let args = [b.table, b.state, b.weight, b.params, b.momenta];
        Some(Call::fixed(&InqHold, &args, ComposeParams { groups: b.groups }))
    }
    fn powers_of_two(&self) -> bool {
        false // those that are not frozen yet
    }
    fn levels(&self, bits: u32, weight: &[f32]) -> Option<Levels> {
        Some(Levels::inq(bits, largest(weight.iter()).map_or(0, largest_exponent)))
    }
    fn portions(&self) -> &'static [f64] {
        &[0.5, 0.75, 0.875, 1.0]
    }
    fn freeze(&self, bits: u32, share: f64, weight: &mut [f32], frozen: &mut [f32]) {
        let kept = weight.iter().zip(&*frozen).filter(|(_, f)| **f != 0.0).map(|(w, _)| w);
        let n1 = largest(kept).or_else(|| largest(weight.iter())).map_or(0, largest_exponent);
        let wanted = (share * weight.len() as f64).round() as usize;
        let mut free: Vec<usize> = (0..weight.len()).filter(|i| frozen[*i] == 0.0).collect();
        let more = wanted.saturating_sub(weight.len() - free.len());
        // Of equal magnitudes the first, so that a resumed run freezes the same ones.
        free.sort_by(|a, b| weight[*b].abs().total_cmp(&weight[*a].abs()).then(a.cmp(b)));
        for i in free.into_iter().take(more) {
            (weight[i], frozen[i]) = (quantize(weight[i], bits, n1), 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_go_to_the_level_of_their_interval() {
        // 5 bits, n1 = −1: levels 2^−1 … 2^−8 and 0.
        let q = |w: f32| quantize(w, 5, -1);
        assert_eq!([q(0.5), q(0.375), q(0.375f32.next_down()), q(9.0)], [0.5, 0.5, 0.25, 0.5]);
        let smallest = (-8f32).exp2();
        assert_eq!([q(-0.5 * smallest), q((0.5 * smallest).next_down()), q(0.0)], [-smallest, 0.0, 0.0]);
        assert_eq!([largest_exponent(0.75), largest_exponent(0.75f32.next_down()), largest_exponent(1.0)], [0, -1, 0]);
    }

    #[test]
    fn portions_freeze_the_largest_first_and_keep_what_is_frozen() {
        let mut weight = [0.1, -0.8, 0.3, 0.05, 0.0, -0.2, 0.6, 0.01];
        let mut frozen = [0.0; 8];
        Inq.freeze(5, 0.5, &mut weight, &mut frozen);
        assert_eq!(frozen, [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(weight, [0.1, -1.0, 0.25, 0.05, 0.0, -0.25, 0.5, 0.01]);
        // A free weight that has grown beyond the levels saturates, and the levels stay.
        weight[0] = 5.0;
        Inq.freeze(5, 0.75, &mut weight, &mut frozen);
        assert_eq!((weight[0], frozen.iter().sum::<f32>()), (1.0, 6.0));
        Inq.freeze(5, 1.0, &mut weight, &mut frozen);
        assert_eq!(frozen, [1.0; 8]);
        let levels = Inq.levels(5, &weight).unwrap();
        assert!(weight.iter().all(|w| levels.index(f64::from(w.abs()) / f64::from(levels.exponent).exp2()).is_some()));
    }

    #[test]
    fn a_layer_of_zeros_stays() {
        let (mut weight, mut frozen) = ([0.0; 4], [0.0; 4]);
        Inq.freeze(3, 1.0, &mut weight, &mut frozen);
        assert_eq!((weight, frozen), ([0.0; 4], [1.0; 4]));
    }
}
