//! BWN (XNOR-Net, 2016) and BinaryConnect (2015): W = α · sgn(weight) with α = mean|weight| of an output channel, or 1; the gradient
//! passes where |weight| ≤ 1.

use super::fp32::ComposeParams;
use super::{
    SHARE, example_aux, example_of_one, example_of_parts, example_words, latents, latents_of_parts, parts, segments,
    table,
};
use crate::kernels::{Case, Fill, Tolerance, read, read_u32, write};

crate::params! {
    /// The channels' scales.
    pub struct BwnScalesParams {
        /// Workgroups in the segment table of the composition.
        groups: u32,
        /// Layers in it.
        segments: u32,
        /// [`parts`] of its layers.
        parts: u32,
        /// 1: every scale is 1.
        unit: u32,
    }
}

crate::kernel! {
    /// α of each output channel of each BWN layer.
    pub BwnScales(p: BwnScalesParams) {
        source: crate::wgsl!("compose/bwn_scales"; "grid", "segment"),
        bindings: [read_u32("table"), read("params"), write("scales")],
        consts: [],
        groups: u64::from(p.segments) * u64::from(p.parts),
        lens: [p.groups, example_words(1)[0], example_aux()],
        tolerance: Tolerance::Budget { c: 3.0, terms: 64 },
        cost: (SHARE * p.groups, SHARE * p.groups),
        cases: {
            let layers = example_of_parts();
            let (words, groups) = table(&layers);
            let case = |name, parts, unit| {
                let fills = vec![Fill::Table(words.clone()), latents_of_parts(), Fill::Out];
                Case::new(name, BwnScalesParams { groups, segments: layers.len() as u32, parts, unit }, fills)
            };
            vec![
                case("a workgroup a layer", 1, 0),
                case("several, one in two rounds", parts(&layers), 0),
                case("more than there are channels for", 9, 0),
                case("without scale", 1, 1),
            ]
        },
        twin(a): {
            let (layers, params, mut scales) = (segments(a.u(0), p.groups), a.f(1), a.out(2));
            for (s, co) in layers.iter().filter(|s| !s.plain).flat_map(|s| (0..s.cout).map(move |co| (s, co))) {
                let rows = s.taps * s.cin;
                let sum: f64 = (0..rows).map(|row| params[(s.base + row * s.cout + co) as usize].abs()).sum();
                scales.exact((s.aux + co) as usize, if p.unit == 1 { 1.0 } else { sum / f64::from(rows) });
            }
        }
    }
}

crate::kernel! {
    /// Composes the weights of all BWN layers.
    pub BwnCompose(p: ComposeParams) {
        source: crate::wgsl!("compose/bwn_compose"; "grid", "segment"),
        bindings: [read_u32("table"), read("params"), read("scales"), write("weight"), write("weight_t")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(1)[0], example_aux(), example_words(1)[1], example_words(1)[1]],
        tolerance: Tolerance::Exact,
        cost: (SHARE * p.groups, SHARE * 3 * p.groups),
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
                let scale = scales[(s.aux + i % s.cout) as usize];
                let value = match s.plain {
                    true => latent,
                    // Also for −0, whose sign the comparison does not see.
                    false => if latent >= 0.0 { scale } else { -scale },
                };
                let [at, at_t] = s.indices(i);
                weight.exact(at, value);
                weight_t.exact(at_t, value);
            }
        }
    }
}

crate::kernel! {
    /// The gradient of BWN's latents.
    pub BwnBackward(p: ComposeParams) {
        source: crate::wgsl!("compose/bwn_backward"; "grid", "segment"),
        bindings: [read_u32("table"), read("params"), read("dweight"), write("grads")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(1)[0], example_words(1)[1], example_words(1)[0]],
        tolerance: Tolerance::Exact,
        cost: (SHARE * p.groups, SHARE * 3 * p.groups),
        cases: {
            let (words, groups) = table(&example_of_one());
            let latent = |i: usize| [1.0, -1.0, 1f32.next_up(), 0.3, -1.5, 0.0][i % 6];
            let slab = Fill::Floats((0..example_words(1)[0]).map(latent).collect());
            let fills = vec![Fill::Table(words), slab, Fill::Normal(1.0), Fill::Out];
            vec![Case::new("three layers and a plain one", ComposeParams { groups }, fills)]
        },
        twin(a): {
            let (layers, params, dweight, mut grads) = (segments(a.u(0), p.groups), a.f(1), a.f(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let at = (s.base + i) as usize;
                let kept = s.plain || params[at].abs() <= 1.0;
                grads.exact(at, if kept { dweight[s.indices(i)[0]] } else { 0.0 });
            }
        }
    }
}
