//! DeepShift (CVPRW 2021), in both of its forms. Q: W = sign(weight) · 2^{round(log2 |weight|)}, straight through. PS: W =
//! sign(round(sign)) · 2^{round(shift)}. Both clamp a latent in place before they round it.

use super::{SHARE, Segment, example, example_of_one, example_words, one_case, segments, table};
use crate::kernels::{Case, Fill, Tolerance, read, read_u32, update, write};

crate::params! {
    /// Composition of DeepShift layers.
    pub struct DeepShiftParams {
        /// Workgroups in the segment table.
        groups: u32,
        /// The lowest exponent is −range.
        range: u32,
    }
}

/// DeepShift-Q's clamp of a latent; an exact zero stays.
fn clamped(latent: f64, range: u32) -> f64 {
    latent.abs().clamp((-f64::from(range)).exp2(), 1.0) * if latent == 0.0 { 0.0 } else { latent.signum() }
}

/// DeepShift-Q's weight of a clamped latent.
fn nearest_power(latent: f64) -> f64 {
    if latent == 0.0 { 0.0 } else { latent.signum() * latent.abs().log2().round().exp2() }
}

/// DeepShift-PS's p and σ, of clamped latents.
fn power_and_sign(shift: f64, sign: f64) -> (f64, f64) {
    let rounded = sign.round_ties_even();
    (shift.round_ties_even().exp2(), if rounded == 0.0 { 0.0 } else { rounded.signum() })
}

/// Latents on every level, beyond both ends, on the thresholds and zero.
fn q_cases() -> Vec<Case<DeepShiftParams>> {
    [1, 3, 15, 31]
        .map(|range| {
            let (words, groups) = table(&example_of_one());
            let latent = |i: usize| {
                let level = 2f32.powi((i % (range as usize + 4)) as i32 - range as i32 - 2);
                let size = match i % 5 {
                    0 => level * std::f32::consts::SQRT_2, // just above √2: up
                    1 => level * std::f32::consts::SQRT_2.next_down(),
                    2 => level * 1.25,
                    3 => level,
                    _ => {
                        if i.is_multiple_of(7) {
                            0.0
                        } else {
                            level * 1.75
                        }
                    }
                };
                if i.is_multiple_of(3) { -size } else { size }
            };
            let slab = Fill::Floats((0..example_words(1)[0]).map(latent).collect());
            let fills = vec![Fill::Table(words), slab, Fill::Out, Fill::Out];
            Case::new(format!("exponents from -{range}"), DeepShiftParams { groups, range }, fills)
        })
        .to_vec()
}

crate::kernel! {
    /// Clamps DeepShift-Q's latents and composes the weights of all layers.
    pub DeepShiftQCompose(p: DeepShiftParams) {
        source: crate::wgsl!("compose/deep_shift_q_compose"; "grid", "num", "segment"),
        bindings: [read_u32("table"), update("params"), write("weight"), write("weight_t")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(1)[0], example_words(1)[1], example_words(1)[1]],
        tolerance: Tolerance::Exact,
        cost: (SHARE * 4 * p.groups, SHARE * 4 * p.groups),
        cases: q_cases(),
        twin(a): {
            let (layers, mut params) = (segments(a.u(0), p.groups), a.out(1));
            let (mut weight, mut weight_t) = (a.out(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let latent = params.v[(s.base + i) as usize];
                let mut value = latent;
                if !s.plain {
                    let kept = clamped(latent, p.range);
                    params.exact((s.base + i) as usize, kept);
                    value = nearest_power(kept);
                }
                let [at, at_t] = s.indices(i);
                weight.exact(at, value);
                weight_t.exact(at_t, value);
            }
        }
    }
}

/// Latents within the range and beyond it, on the halves too.
fn ps_latents(range: u32) -> Fill {
    let latent = |i: usize| {
        let v = ((i * 37) % 101) as f32 / 101.0;
        match i % 4 {
            0 => v * -(range as f32 + 2.0) + 1.0,
            1 => -((i % (range as usize + 2)) as f32) + 0.5, // halves go to even
            2 => 2.0 * v - 1.0,
            _ => [0.5, -0.5, 1.5, -1.5, 0.0, -0.0][i / 4 % 6],
        }
    };
    Fill::Floats((0..example_words(2)[0]).map(latent).collect())
}

fn ps_cases(rest: &[Fill], clamped: bool) -> Vec<Case<DeepShiftParams>> {
    [0, 2, 14, 30]
        .map(|range| {
            let p = DeepShiftParams { groups: table(&example(2)).1, range };
            let mut case = one_case(&format!("exponents from -{range}"), p, 2, rest);
            case.fills[1] = ps_latents(range);
            if let (true, Fill::Floats(slab)) = (clamped, &mut case.fills[1]) {
                for s in example(2).iter().filter(|s| !s.plain) {
                    slab[s.base as usize..][..s.count() as usize]
                        .iter_mut()
                        .for_each(|v| *v = v.clamp(-(range as f32), 0.0));
                }
            }
            case
        })
        .to_vec()
}

fn ps_latent(params: &[f64], s: &Segment, i: u32) -> [f64; 2] {
    [params[(s.base + i) as usize], params[(s.base + s.stride + i) as usize]]
}

crate::kernel! {
    /// Clamps DeepShift-PS's shifts and composes the weights of all layers.
    pub DeepShiftPsCompose(p: DeepShiftParams) {
        source: crate::wgsl!("compose/deep_shift_ps_compose"; "grid", "num", "segment"),
        bindings: [read_u32("table"), update("params"), write("weight"), write("weight_t")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(2)[0], example_words(2)[1], example_words(2)[1]],
        tolerance: Tolerance::Exact,
        cost: (SHARE * 5 * p.groups, SHARE * 5 * p.groups),
        cases: ps_cases(&[Fill::Out, Fill::Out], false),
        twin(a): {
            let (layers, mut params) = (segments(a.u(0), p.groups), a.out(1));
            let (mut weight, mut weight_t) = (a.out(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let mut value = params.v[(s.base + i) as usize];
                if !s.plain {
                    params.exact((s.base + i) as usize, value.clamp(-f64::from(p.range), 0.0));
                    let [shift, sign] = ps_latent(params.v, s, i);
                    let (power, sign) = power_and_sign(shift, sign);
                    value = sign * power;
                }
                let [at, at_t] = s.indices(i);
                weight.exact(at, value);
                weight_t.exact(at_t, value);
            }
        }
    }
}

crate::kernel! {
    /// Gradients of DeepShift-PS's latents, which the composition has clamped.
    pub DeepShiftPsBackward(p: DeepShiftParams) {
        source: crate::wgsl!("compose/deep_shift_ps_backward"; "grid", "num", "segment"),
        bindings: [read_u32("table"), read("params"), read("dweight"), write("grads")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(2)[0], example_words(2)[1], example_words(2)[0]],
        tolerance: Tolerance::Budget { c: 3.0, terms: 0 }, // ln 2 and a product
        cost: (SHARE * 5 * p.groups, SHARE * 5 * p.groups),
        cases: ps_cases(&[Fill::Normal(1.0), Fill::Out], true),
        twin(a): {
            let (layers, params, dweight, mut grads) = (segments(a.u(0), p.groups), a.f(1), a.f(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let g = dweight[s.indices(i)[0]];
                let at = (s.base + i) as usize;
                if s.plain {
                    grads.exact(at, g);
                    continue;
                }
                let [shift, sign] = ps_latent(params, s, i);
                let (power, sign) = power_and_sign(shift, sign);
                grads.exact(at, g * sign * power * std::f64::consts::LN_2);
                grads.exact(at + s.stride as usize, g);
            }
        }
    }
}
