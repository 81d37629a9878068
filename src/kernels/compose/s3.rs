//! S3 (NeurIPS 2021): W = sgn(sign) · \[sparse > 0\] · 2^{s_T}, and its straight-through backward.

use super::shifts::{shift_exponent, shift_gradients};
use super::{SHARE, example, example_words, latents, one_case, segments, table};
use crate::kernels::optim::SgdRule;
use crate::kernels::{Case, Fill, Tolerance, read, read_u32, update, write};

crate::params! {
    /// Composition of S3 layers.
    pub struct S3Params {
        /// Workgroups in the segment table.
        groups: u32,
        /// Shift latents T = 2^(bits − 1) − 2; compiled into the shader.
        shifts: u32,
        /// Factor of the dense-weight regularizer.
        alpha: f32,
    }
}

impl S3Params {
    fn latents(&self) -> u32 {
        self.shifts + 2
    }
}

/// Shift latents at 2, 3 and 4 bits.
const SHIFTS: [u32; 3] = [0, 2, 6];

fn cases(rest: &[Fill]) -> Vec<Case<S3Params>> {
    let case = |shifts: u32| {
        let p = S3Params { groups: table(&example(shifts + 2)).1, shifts, alpha: 0.01 };
        one_case(&format!("{shifts} shift latents"), p, p.latents(), rest)
    };
    SHIFTS.map(case).to_vec()
}

/// The latents of one weight as the composition sees them.
struct Weight {
    /// sgn(sign), with sgn(0) = 1.
    sign: f64,
    /// The sparse latent.
    sparse: f64,
    gates: Vec<bool>,
}

impl Weight {
    fn load(params: &[f64], s: &super::Segment, i: u32, shifts: u32) -> Self {
        let latent = |k: u32| params[(s.base + k * s.stride + i) as usize];
        let sign = if latent(0) >= 0.0 { 1.0 } else { -1.0 };
        Self { sign, sparse: latent(1), gates: (0..shifts).map(|t| latent(2 + t) > 0.0).collect() }
    }
    fn kept(&self) -> f64 {
        f64::from(u8::from(self.sparse > 0.0))
    }
    fn power(&self) -> f64 {
        f64::from(shift_exponent(&self.gates, self.gates.len())).exp2()
    }
    /// The straight-through gradient of each latent from g = dL/dW, `regularizer` taken off the sparse one's; each with Σ|terms|.
    fn gradients(&self, g: f64, regularizer: f64) -> Vec<(f64, f64)> {
        let exact = |v: f64| (v, v.abs());
        let through = g * self.sign * self.power();
        let ds = through * self.kept() * std::f64::consts::LN_2;
        let first = [exact(g * self.kept() * self.power()), (through - regularizer, through.abs() + regularizer)];
        first.into_iter().chain(shift_gradients(&self.gates, ds).map(exact)).collect()
    }
}

/// The gradients of a weight's latents from g = dL/dW, the regularizer's part included; each with Σ|terms|.
fn gradients(params: &[f64], s: &super::Segment, i: u32, g: f64, shifts: u32, alpha: f32) -> Vec<(f64, f64)> {
    if s.plain {
        return vec![(g, g.abs())];
    }
    let w = Weight::load(params, s, i, shifts);
    w.gradients(g, if w.sparse < 0.0 { f64::from(alpha) } else { 0.0 })
}

crate::kernel! {
    /// Composes the weights of all S3 layers.
    pub S3Compose(p: S3Params) {
        source: crate::wgsl!("compose/s3_compose"; "grid", "num", "segment", "shift_gates"),
        bindings: [read_u32("table"), read("params"), write("weight"), write("weight_t")],
        consts: [("T", p.shifts)],
        groups: p.groups.into(),
        lens: [p.groups, example_words(p.latents())[0], example_words(p.latents())[1], example_words(p.latents())[1]],
        tolerance: Tolerance::Exact,
        cost: (SHARE * (p.shifts + 3) * p.groups, SHARE * (p.latents() + 2) * p.groups),
        cases: cases(&[Fill::Out, Fill::Out]),
        twin(a): {
            let (layers, params) = (segments(a.u(0), p.groups), a.f(1));
            let (mut weight, mut weight_t) = (a.out(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let [at, at_t] = s.indices(i);
                let shifted = |w: Weight| w.sign * w.kept() * w.power();
                let plain = s.plain.then(|| params[(s.base + i) as usize]);
                let value = plain.unwrap_or_else(|| shifted(Weight::load(params, s, i, p.shifts)));
                weight.exact(at, value);
                weight_t.exact(at_t, value);
            }
        }
    }
}

crate::kernel! {
    /// Straight-through gradients of all S3 latents, the regularizer's part included.
    pub S3Backward(p: S3Params) {
        source: crate::wgsl!("compose/s3_backward"; "grid", "num", "segment", "shift_gates"),
        bindings: [read_u32("table"), read("params"), read("dweight"), write("grads")],
        consts: [("T", p.shifts)],
        groups: p.groups.into(),
        lens: [p.groups, example_words(p.latents())[0], example_words(p.latents())[1], example_words(p.latents())[0]],
        tolerance: Tolerance::Budget { c: 3.0, terms: 0 }, // ln 2 and two products
        cost: (SHARE * (4 * p.shifts + 6) * p.groups, SHARE * (2 * p.latents() + 1) * p.groups),
        cases: cases(&[Fill::Normal(1.0), Fill::Out]),
        twin(a): {
            let (layers, params, dweight, mut grads) = (segments(a.u(0), p.groups), a.f(1), a.f(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let g = dweight[s.indices(i)[0]];
                for (k, (gradient, mag)) in gradients(params, s, i, g, p.shifts, p.alpha).into_iter().enumerate() {
                    grads.set((s.base + k as u32 * s.stride + i) as usize, gradient, mag);
                }
            }
        }
    }
}

crate::params! {
    /// The dense-weight regularizer's value.
    pub struct S3RegularizerParams {
        /// Workgroups in the segment table.
        groups: u32,
        /// First partial sum.
        out: u32,
    }
}

crate::kernel! {
    /// Σ max(−sparse, 0) in partial sums of a workgroup's weights.
    pub S3Regularizer(p: S3RegularizerParams) {
        source: crate::wgsl!("compose/s3_regularizer"; "grid", "segment", "reduce"),
        bindings: [read_u32("table"), read("params"), write("part")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(2)[0], p.out + p.groups],
        tolerance: Tolerance::Budget { c: 1.0, terms: SHARE.into() },
        cost: (SHARE * p.groups, SHARE * p.groups),
        cases: vec![one_case("three layers", S3RegularizerParams { groups: table(&example(2)).1, out: 5 }, 2, &[Fill::Out])],
        twin(a): {
            let (layers, params, mut part) = (segments(a.u(0), p.groups), a.f(1), a.out(2));
            let mut g = p.out as usize;
            for s in layers {
                let at = if s.plain { s.base } else { s.base + s.stride };
                for group in params[at as usize..][..s.count() as usize].chunks(SHARE as usize) {
                    let sum = group.iter().map(|v| (-v).max(0.0)).sum();
                    part.exact(g, if s.plain { 0.0 } else { sum });
                    g += 1;
                }
            }
        }
    }
}

crate::params! {
    /// One SGD step of S3 latents.
    pub struct S3UpdateParams {
        /// Workgroups in the segment table.
        groups: u32,
        /// Shift latents T = 2^(bits − 1) − 2; compiled into the shader.
        shifts: u32,
        /// Factor of the dense-weight regularizer.
        alpha: f32,
        /// First partial sum of the regularizer.
        out: u32,
        /// 1 for Nesterov momentum.
        nesterov: u32,
        /// The latents' learning rate.
        rate: f32,
        /// That of plain layers.
        plain_rate: f32,
        /// Momentum.
        momentum: f32,
        /// Weight decay.
        decay: f32,
    }
}

fn update_cases() -> Vec<Case<S3UpdateParams>> {
    let case = |(shifts, nesterov): (u32, u32)| {
        let groups = table(&example(shifts + 2)).1;
        let p = S3UpdateParams {
            groups,
            shifts,
            alpha: 0.01,
            out: 5,
            nesterov,
            rate: 3.0,
            plain_rate: 0.1,
            momentum: 0.9,
            decay: 0.05,
        };
        let [words, _] = example_words(shifts + 2);
        let fills = [
            Fill::Table(table(&example(shifts + 2)).0),
            Fill::Normal(1.0),
            latents(words),
            Fill::Normal(1.0),
            Fill::Out,
        ];
        Case::new(format!("{shifts} shift latents, nesterov {nesterov}"), p, fills.to_vec())
    };
    SHIFTS.into_iter().flat_map(|s| [(s, 0), (s, 1)]).map(case).collect()
}

crate::kernel! {
    /// Straight-through gradients, the regularizer's value and the optimizer's step of all S3 latents in one pass.
    pub S3Update(p: S3UpdateParams) {
        source: crate::wgsl!("compose/s3_update"; "grid", "num", "segment", "shift_gates", "sgd_step", "reduce"),
        bindings: [read_u32("table"), read("dweight"), update("params"), update("velocity"), write("part")],
        consts: [("T", p.shifts)],
        groups: p.groups.into(),
        lens: [
            p.groups, example_words(p.shifts + 2)[1], example_words(p.shifts + 2)[0], example_words(p.shifts + 2)[0],
            p.out + p.groups
        ],
        // The parts' bounds: three for the gradient, four for the step; the regularizer's sum of 256 needs less.
        tolerance: Tolerance::Budget { c: 7.0, terms: 0 },
        cost: (SHARE * (10 * p.shifts + 20) * p.groups, SHARE * (4 * (p.shifts + 2) + 1) * p.groups),
        cases: update_cases(),
        twin(a): {
            let (layers, dweight) = (segments(a.u(0), p.groups), a.f(1));
            let (mut params, mut velocity, mut part) = (a.out(2), a.out(3), a.out(4));
            let rule = SgdRule { nesterov: p.nesterov == 1, momentum: p.momentum, decay: p.decay };
            let mut group = p.out as usize;
            for s in layers {
                for share in (0..s.count()).collect::<Vec<_>>().chunks(SHARE as usize) {
                    let mut penalty = 0.0;
                    for &i in share {
                        if !s.plain {
                            penalty += (-Weight::load(params.v, &s, i, p.shifts).sparse).max(0.0);
                        }
                        let rate = if s.plain { p.plain_rate } else { p.rate };
                        let g = dweight[s.indices(i)[0]];
                        for (k, gradient) in gradients(params.v, &s, i, g, p.shifts, p.alpha).into_iter().enumerate() {
                            let at = (s.base + k as u32 * s.stride + i) as usize;
                            rule.step(at, gradient, rate, &mut params, &mut velocity);
                        }
                    }
                    part.exact(group, penalty);
                    group += 1;
                }
            }
        }
    }
}
