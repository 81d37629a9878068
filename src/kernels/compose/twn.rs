//! TWN (2016): W = α · sign(weight) · \[|weight| > Δ\] with Δ = 0.7 · mean|weight| and α = mean |weight| over |weight| > Δ of a layer.

use super::fp32::ComposeParams;
use super::{
    PART, SHARE, Segment, example_aux, example_of_one, example_of_parts, example_words, latents, latents_of_parts,
    parts, segments, table,
};
use crate::kernels::{Case, Fill, Tolerance, read, read_u32, update, write};

crate::params! {
    /// The sums behind Δ, and with Δ those behind α.
    pub struct TwnSumsParams {
        /// Workgroups in the segment table of the composition.
        groups: u32,
        /// Layers in it.
        segments: u32,
        /// [`parts`] of its layers.
        parts: u32,
        /// 1: of weights above Δ alone.
        above: u32,
    }
}

crate::kernel! {
    /// Σ|weight| and count of each part of each TWN layer.
    pub TwnSums(p: TwnSumsParams) {
        source: crate::wgsl!("compose/twn_sums"; "grid", "segment", "reduce"),
        bindings: [read_u32("table"), read("params"), update("scales")],
        consts: [],
        groups: u64::from(p.segments) * u64::from(p.parts),
        lens: [p.groups, example_words(1)[0], example_aux()],
        tolerance: Tolerance::Budget { c: 4.0, terms: 64 }, // blocks keep the sums short
        cost: (SHARE * 2 * p.groups, SHARE * p.groups),
        cases: {
            let case = |name, layers: &[Segment], parts, above, scales| {
                let ((words, groups), segments) = (table(layers), layers.len() as u32);
                let fills = vec![Fill::Table(words), latents_of_parts(), scales];
                Case::new(name, TwnSumsParams { groups, segments, parts, above }, fills)
            };
            let (small, large) = (example_of_one(), example_of_parts());
            vec![
                case("all weights", &small, 1, 0, Fill::Out),
                case("weights above a threshold", &small, 1, 1, Fill::Uniform(0.1, 0.4)),
                case("a layer in parts", &large, parts(&large), 0, Fill::Out),
                case("a layer in parts above a threshold", &large, parts(&large), 1, Fill::Uniform(0.1, 0.4)),
            ]
        },
        twin(a): {
            let (layers, params, mut scales) = (segments(a.u(0), p.groups), a.f(1), a.out(2));
            for s in layers.iter().filter(|s| !s.plain) {
                let threshold = if p.above == 1 { scales.v[s.aux as usize] } else { -1.0 };
                let weights = &params[s.base as usize..][..s.count() as usize];
                for (part, weights) in weights.chunks(PART as usize).enumerate() {
                    let sizes: Vec<f64> = weights.iter().map(|w| w.abs()).filter(|w| *w > threshold).collect();
                    let at = s.aux as usize + TWN_SCALES as usize + 2 * part;
                    scales.exact(at, sizes.iter().sum());
                    scales.exact(at + 1, sizes.len() as f64);
                }
            }
        }
    }
}

/// Words before a layer's sums: Δ, α, two unused.
const TWN_SCALES: u32 = 4;

/// Words that a layer of so many weights needs: Δ, α and the sums behind them.
pub fn twn_words(weights: u32) -> u32 {
    (TWN_SCALES + 2 * weights.div_ceil(PART)).next_multiple_of(4)
}

crate::params! {
    /// Δ or α from their sums.
    pub struct TwnScalesParams {
        /// Workgroups in the segment table of the composition.
        groups: u32,
        /// Layers in it.
        segments: u32,
        /// 1: α from the sums of weights above Δ; 0: Δ, and α = 1.
        above: u32,
    }
}

crate::kernel! {
    /// Δ or α of each TWN layer.
    pub TwnScales(p: TwnScalesParams) {
        source: crate::wgsl!("compose/twn_scales"; "grid", "segment", "reduce"),
        bindings: [read_u32("table"), update("scales")],
        consts: [],
        groups: p.segments.into(),
        lens: [p.groups, example_aux()],
        // A mean and its factor.
        tolerance: Tolerance::Budget { c: 4.0, terms: 64 },
        cost: (2 * p.segments, 2 * p.segments),
        cases: {
            let (words, groups) = table(&example_of_parts());
            let segments = example_of_parts().len() as u32;
            let case = |name, above, scales| {
                Case::new(name, TwnScalesParams { groups, segments, above }, vec![Fill::Table(words.clone()), scales])
            };
            vec![
                case("the threshold", 0, Fill::Uniform(0.5, 90.0)),
                case("the scale", 1, Fill::Uniform(0.5, 90.0)),
                case("no weight above the threshold", 1, Fill::Floats(vec![0.0; example_aux()])),
            ]
        },
        twin(a): {
            let (layers, mut scales) = (segments(a.u(0), p.groups), a.out(1));
            for s in layers.iter().filter(|s| !s.plain) {
                let aux = s.aux as usize;
                let parts = scales.v[aux + TWN_SCALES as usize..][..2 * s.count().div_ceil(PART) as usize].chunks_exact(2);
                let (sum, count) = parts.fold((0.0, 0.0), |(sum, count), part| (sum + part[0], count + part[1]));
                if p.above == 1 {
                    scales.exact(aux + 1, if count > 0.0 { sum / count } else { 0.0 });
                } else {
                    scales.exact(aux, 0.7 * (sum / count));
                    scales.exact(aux + 1, 1.0);
                }
            }
        }
    }
}

crate::kernel! {
    /// Composes the weights of all TWN layers.
    pub TwnCompose(p: ComposeParams) {
        source: crate::wgsl!("compose/twn_compose"; "grid", "segment"),
        bindings: [read_u32("table"), read("params"), read("scales"), write("weight"), write("weight_t")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(1)[0], example_aux(), example_words(1)[1], example_words(1)[1]],
        tolerance: Tolerance::Exact,
        cost: (SHARE * 2 * p.groups, SHARE * 3 * p.groups),
        cases: {
            let (words, groups) = table(&example_of_one());
            let slab = latents(example_words(1)[0]);
            let fills = vec![Fill::Table(words), slab, Fill::Uniform(0.1, 0.4), Fill::Out, Fill::Out];
            vec![Case::new("three layers and a plain one", ComposeParams { groups }, fills)]
        },
        twin(a): {
            let (layers, params, scales) = (segments(a.u(0), p.groups), a.f(1), a.f(2));
            let (mut weight, mut weight_t) = (a.out(3), a.out(4));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let latent = params[(s.base + i) as usize];
                let kept = latent.abs() > scales[s.aux as usize];
                let value = match (s.plain, kept) {
                    (true, _) => latent,
                    (_, true) => latent.signum() * scales[s.aux as usize + 1],
                    _ => 0.0,
                };
                let [at, at_t] = s.indices(i);
                weight.exact(at, value);
                weight_t.exact(at_t, value);
            }
        }
    }
}
