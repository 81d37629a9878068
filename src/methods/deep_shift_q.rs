//! DeepShift-Q (CVPRW 2021): weights rounded to powers of two.
//!
//! |weight| is clamped in place into \[2^−(2^(bits − 1) − 1), 1\], an exact zero apart; W = sign(weight) · 2^{round(log2 |weight|)};
//! straight through.

use super::convert::Fit;
use super::levels::Levels;
use super::{Bound, Converted, Method, WeightShape, fp32};
use crate::graph::Call;
use crate::kernels::compose::deep_shift::{DeepShiftParams, DeepShiftQCompose};

/// Rounded to powers of two.
pub(super) struct DeepShiftQ;

/// The lowest exponent is −range.
fn range(bits: u32) -> u32 {
    (1 << (bits - 1)) - 1
}

/// round(log2 x) of a normal x > 0.
fn round_log2(x: f32) -> i32 {
    let bits = x.to_bits();
    (bits >> 23) as i32 - 127 + i32::from(bits & 0x7f_ffff > 0x35_04f3)
}

impl Method for DeepShiftQ {
    fn name(&self) -> &'static str {
        "deepshift-q"
    }
    fn bits(&self) -> &'static [u32] {
        &[2, 3, 4, 5, 6]
    }
    fn default_bits(&self) -> u32 {
        5
    }
    fn convert(&self, bits: u32, _: WeightShape, weight: &[f32]) -> Converted {
        let Fit { factor, .. } = Fit::new(weight, &Levels::deep_shift_q(bits));
        Converted { latents: vec![weight.iter().map(|w| (factor * f64::from(*w)) as f32).collect()], factor }
    }
    fn weight(&self, bits: u32, _: WeightShape, latents: &[&[f32]]) -> Vec<f32> {
        let lowest = (-(range(bits) as f32)).exp2();
        let rounded = |w: &f32| match *w == 0.0 {
            true => 0.0,
            false => w.signum() * (round_log2(w.abs().clamp(lowest, 1.0)) as f32).exp2(),
        };
        latents[0].iter().map(rounded).collect()
    }
    fn compose(&self, bits: u32, b: &Bound) -> Vec<Call> {
        let params = DeepShiftParams { groups: b.groups, range: range(bits) };
        vec![Call::fixed(&DeepShiftQCompose, &[b.table, b.params, b.weight, b.weight_t], params)]
    }
    fn backward(&self, _: u32, b: &Bound, _: f32) -> Call {
        fp32::straight_through(b)
    }
    fn powers_of_two(&self) -> bool {
        true
    }
    fn levels(&self, bits: u32, _: &[f32]) -> Option<Levels> {
        Some(Levels::deep_shift_q(bits))
    }
}
