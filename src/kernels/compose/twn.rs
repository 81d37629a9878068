//! TWN (2016): W = α · sign(weight) · \[|weight| > Δ\] with Δ = 0.7 · mean|weight| and α = mean |weight| over |weight| > Δ of a layer.

use super::fp32::ComposeParams;
use super::{SHARE, ScaleParams, example_aux, example_of_one, example_words, latents, segments, table};
use crate::kernels::{Case, Fill, Tolerance, read, read_u32, write};

crate::kernel! {
    /// Δ and α of each TWN layer.
    pub TwnScales(p: ScaleParams) {
        source: crate::wgsl!("compose/twn_scales"; "grid", "segment", "reduce"),
        bindings: [read_u32("table"), read("params"), write("scales")],
        consts: [],
        groups: p.segments.into(),
        lens: [p.groups, example_words(1)[0], example_aux()],
        // The mean and its factor; blocks keep the sums short.
        tolerance: Tolerance::Budget { c: 4.0, terms: 64 },
        cost: (SHARE * 4 * p.groups, SHARE * 2 * p.groups),
        cases: super::scale_cases(),
        twin(a): {
            let (layers, params, mut scales) = (segments(a.u(0), p.groups), a.f(1), a.out(2));
            for s in layers.iter().filter(|s| !s.plain) {
                let sizes: Vec<f64> = params[s.base as usize..][..s.count() as usize].iter().map(|w| w.abs()).collect();
                let threshold = 0.7 * sizes.iter().sum::<f64>() / f64::from(s.count());
                let above: Vec<f64> = sizes.into_iter().filter(|w| *w > threshold).collect();
                let mean = if above.is_empty() { 0.0 } else { above.iter().sum::<f64>() / above.len() as f64 };
                scales.exact(s.aux as usize, threshold);
                scales.exact(s.aux as usize + 1, if p.unit == 1 { 1.0 } else { mean });
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
