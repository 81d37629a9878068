//! BWN (XNOR-Net, 2016), and without scale BinaryConnect (2015).
//!
//! W = α · sgn(weight) with α = mean|weight| of an output channel, or α = 1; the gradient passes where |weight| ≤ 1.

use super::convert::Fit;
use super::levels::Levels;
use super::{Bound, Converted, Method, Scale, WeightShape};
use crate::graph::Call;
use crate::kernels::compose::bwn::{BwnBackward, BwnCompose, BwnScales, BwnScalesParams};
use crate::kernels::compose::fp32::ComposeParams;

/// Binary weights.
pub(super) struct Bwn(pub Scale);

impl Method for Bwn {
    fn name(&self) -> &'static str {
        "bwn"
    }
    fn scale(&self) -> Option<Scale> {
        Some(self.0)
    }
    fn bits(&self) -> &'static [u32] {
        &[1]
    }
    fn default_bits(&self) -> u32 {
        1
    }
    /// α of each output channel.
    fn scales(&self, shape: WeightShape) -> u32 {
        shape.cout.next_multiple_of(4)
    }
    fn convert(&self, bits: u32, shape: WeightShape, weight: &[f32]) -> Converted {
        let factor = match self.0 {
            Scale::Mean => 1.0,
            Scale::None => Fit::factor(weight, &self.weight(bits, shape, &[weight])),
        };
        Converted { latents: vec![weight.to_vec()], factor }
    }
    fn weight(&self, _: u32, shape: WeightShape, latents: &[&[f32]]) -> Vec<f32> {
        let channel = |row: &[f32]| {
            let mean = row.iter().map(|w| f64::from(w.abs())).sum::<f64>() / row.len() as f64;
            let alpha = if self.0 == Scale::None { 1.0 } else { mean as f32 };
            row.iter().map(|w| if *w >= 0.0 { alpha } else { -alpha }).collect::<Vec<_>>()
        };
        latents[0].chunks(shape.row()).flat_map(channel).collect()
    }
    fn compose(&self, _: u32, b: &Bound) -> Vec<Call> {
        let Bound { groups, segments, parts, .. } = *b;
        let scales = BwnScalesParams { groups, segments, parts, unit: (self.0 == Scale::None).into() };
        vec![
            Call::fixed(&BwnScales, &[b.table, b.params, b.scales], scales),
            Call::fixed(&BwnCompose, &[b.table, b.params, b.scales, b.weight, b.weight_t], ComposeParams { groups }),
        ]
    }
    fn backward(&self, _: u32, b: &Bound, _: f32) -> Call {
        Call::fixed(&BwnBackward, &[b.table, b.params, b.dweight, b.grads], ComposeParams { groups: b.groups })
    }
    fn powers_of_two(&self) -> bool {
        self.0 == Scale::None
    }
    fn levels(&self, _: u32, _: &[f32]) -> Option<Levels> {
        Some(Levels::binary())
    }
}
