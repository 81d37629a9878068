//! INQ (ICLR 2017): weights stay floats until they are frozen on a level; frozen ones get no gradient, no decay and no momentum.

use super::fp32::ComposeParams;
use super::{SHARE, example_aux, example_of_one, example_words, segments, table};
use crate::kernels::{Case, Fill, Tolerance, read, read_u32, update, write};

/// Every third weight frozen.
fn frozen() -> Fill {
    Fill::Floats((0..example_aux()).map(|i| f32::from(u8::from(i.is_multiple_of(3)))).collect())
}

crate::kernel! {
    /// The gradient of the weights that are not frozen.
    pub InqBackward(p: ComposeParams) {
        source: crate::wgsl!("compose/inq_backward"; "grid", "segment"),
        bindings: [read_u32("table"), read("frozen"), read("dweight"), write("grads")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_aux(), example_words(1)[1], example_words(1)[0]],
        tolerance: Tolerance::Exact,
        cost: (SHARE * p.groups, SHARE * 3 * p.groups),
        cases: {
            let (words, groups) = table(&example_of_one());
            let fills = vec![Fill::Table(words), frozen(), Fill::Normal(1.0), Fill::Out];
            vec![Case::new("three layers and a plain one", ComposeParams { groups }, fills)]
        },
        twin(a): {
            let (layers, frozen, dweight, mut grads) = (segments(a.u(0), p.groups), a.f(1), a.f(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let kept = s.plain || frozen[(s.aux + i) as usize] == 0.0;
                grads.exact((s.base + i) as usize, if kept { dweight[s.indices(i)[0]] } else { 0.0 });
            }
        }
    }
}

crate::kernel! {
    /// Puts frozen weights back after the optimizer's step, and clears their momentum.
    pub InqHold(p: ComposeParams) {
        source: crate::wgsl!("compose/inq_hold"; "grid", "segment"),
        bindings: [read_u32("table"), read("frozen"), read("weight"), update("params"), update("velocity")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_aux(), example_words(1)[1], example_words(1)[0], example_words(1)[0]],
        tolerance: Tolerance::Exact,
        cost: (0, SHARE * 4 * p.groups),
        cases: {
            let (words, groups) = table(&example_of_one());
            let normal = Fill::Normal(1.0);
            let fills = vec![Fill::Table(words), frozen(), normal.clone(), normal.clone(), normal];
            vec![Case::new("three layers and a plain one", ComposeParams { groups }, fills)]
        },
        twin(a): {
            let (layers, frozen, weight) = (segments(a.u(0), p.groups), a.f(1), a.f(2));
            let (mut params, mut velocity) = (a.out(3), a.out(4));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                if !s.plain && frozen[(s.aux + i) as usize] != 0.0 {
                    params.exact((s.base + i) as usize, weight[s.indices(i)[0]]);
                    velocity.exact((s.base + i) as usize, 0.0);
                }
            }
        }
    }
}
