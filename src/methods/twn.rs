//! TWN (2016): the conventional ternary quantizer.
//!
//! W = α · sign(weight) · \[|weight| > Δ\] with Δ = 0.7 · mean|weight| and α = mean |weight| over |weight| > Δ of a layer, or α = 1; straight
//! through.

use super::convert::Fit;
use super::levels::Levels;
use super::{Bound, Converted, Method, Scale, WeightShape, fp32};
use crate::graph::Call;
use crate::kernels::compose::fp32::ComposeParams;
use crate::kernels::compose::twn::{TwnCompose, TwnScales, TwnScalesParams, TwnSums, TwnSumsParams, twn_words};

/// Ternary weights with a threshold.
pub(super) struct Twn(pub Scale);

impl Method for Twn {
    fn name(&self) -> &'static str {
        "twn"
    }
    fn scale(&self) -> Option<Scale> {
        Some(self.0)
    }
    fn bits(&self) -> &'static [u32] {
        &[2]
    }
    fn default_bits(&self) -> u32 {
        2
    }
    /// Δ, α and the sums behind them.
    fn scales(&self, shape: WeightShape) -> u32 {
        twn_words(shape.count() as u32)
    }
    fn convert(&self, bits: u32, shape: WeightShape, weight: &[f32]) -> Converted {
        let factor = match self.0 {
            Scale::Mean => 1.0,
            Scale::None => Fit::factor(weight, &self.weight(bits, shape, &[weight])),
        };
        Converted { latents: vec![weight.to_vec()], factor }
    }
    fn weight(&self, _: u32, _: WeightShape, latents: &[&[f32]]) -> Vec<f32> {
        let sizes = || latents[0].iter().map(|w| f64::from(w.abs()));
        // Rounded as the shader's is, which adds in another order: a weight within rounding of Δ may be zero in one of them alone.
        let threshold = f64::from((0.7 * sizes().sum::<f64>() / latents[0].len().max(1) as f64) as f32);
        let (sum, count) = sizes().filter(|w| *w > threshold).fold((0.0, 0u64), |(s, n), w| (s + w, n + 1));
        let alpha = if self.0 == Scale::None { 1.0 } else { sum / count.max(1) as f64 };
        let level = |w: &f32| if f64::from(w.abs()) > threshold { w.signum() * alpha as f32 } else { 0.0 };
        latents[0].iter().map(level).collect()
    }
    fn compose(&self, _: u32, b: &Bound) -> Vec<Call> {
        let Bound { groups, segments, parts, .. } = *b;
        let scales = |above| {
            let sums = TwnSumsParams { groups, segments, parts, above };
            [
                Call::fixed(&TwnSums, &[b.table, b.params, b.scales], sums),
                Call::fixed(&TwnScales, &[b.table, b.scales], TwnScalesParams { groups, segments, above }),
            ]
        };
        let mut calls = Vec::from(scales(0));
        if self.0 == Scale::Mean {
            calls.extend(scales(1));
        }
        let args = [b.table, b.params, b.scales, b.weight, b.weight_t];
        calls.push(Call::fixed(&TwnCompose, &args, ComposeParams { groups }));
        calls
    }
    fn backward(&self, _: u32, b: &Bound, _: f32) -> Call {
        fp32::straight_through(b)
    }
    fn powers_of_two(&self) -> bool {
        self.0 == Scale::None
    }
    fn levels(&self, _: u32, _: &[f32]) -> Option<Levels> {
        Some(Levels::ternary())
    }
}
