//! fp32: W = weight.

use super::{SHARE, example, example_words, one_case, segments, table};
use crate::kernels::{Fill, Tolerance, read, read_u32, write};

crate::params! {
    /// Workgroups of a composition.
    pub struct ComposeParams {
        /// Workgroups in the segment table.
        groups: u32,
    }
}

crate::kernel! {
    /// Copies weights into the padded layouts.
    pub Fp32Compose(p: ComposeParams) {
        source: crate::wgsl!("compose/fp32_compose"; "grid", "segment"),
        bindings: [read_u32("table"), read("params"), write("weight"), write("weight_t")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(1)[0], example_words(1)[1], example_words(1)[1]],
        tolerance: Tolerance::Exact,
        cost: (0, SHARE * 3 * p.groups),
        cases: vec![one_case("three layers", ComposeParams { groups: table(&example(1)).1 }, 1, &[Fill::Out, Fill::Out])],
        twin(a): {
            let (layers, params) = (segments(a.u(0), p.groups), a.f(1));
            let (mut weight, mut weight_t) = (a.out(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let [at, at_t] = s.indices(i);
                weight.exact(at, params[(s.base + i) as usize]);
                weight_t.exact(at_t, params[(s.base + i) as usize]);
            }
        }
    }
}

crate::kernel! {
    /// Brings dL/dW into the latent's layout.
    pub Fp32Backward(p: ComposeParams) {
        source: crate::wgsl!("compose/fp32_backward"; "grid", "segment"),
        bindings: [read_u32("table"), read("dweight"), write("grads")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(1)[1], example_words(1)[0]],
        tolerance: Tolerance::Exact,
        cost: (0, SHARE * 2 * p.groups),
        cases: {
            let (words, groups) = table(&example(1));
            let fills = vec![Fill::Table(words), Fill::Normal(1.0), Fill::Out];
            vec![crate::kernels::Case::new("three layers", ComposeParams { groups }, fills)]
        },
        twin(a): {
            let (layers, dweight, mut grads) = (segments(a.u(0), p.groups), a.f(1), a.out(2));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                grads.exact((s.base + i) as usize, dweight[s.indices(i)[0]]);
            }
        }
    }
}
