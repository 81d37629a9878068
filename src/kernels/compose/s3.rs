//! S3 (NeurIPS 2021): W = sgn(sign) · \[sparse > 0\] · 2^{s_T}, and its straight-through backward.

use super::{example, example_words, one_case, segments, table};
use crate::kernels::{Case, Fill, Tolerance, read, read_u32, write};

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

/// s_{t}: the recursion s_t = [shift_t > 0] · (s_{t−1} + 1) over the first `upto` gates.
fn shift_exponent(gates: &[bool], upto: usize) -> i32 {
    gates[..upto].iter().fold(0, |s, open| if *open { s + 1 } else { 0 })
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
}

crate::kernel! {
    /// Composes the weights of all S3 layers.
    pub S3Compose(p: S3Params) {
        source: crate::wgsl!("compose/s3_compose"; "grid", "num", "segment", "s3"),
        bindings: [read_u32("table"), read("params"), write("weight"), write("weight_t")],
        consts: [("T", p.shifts)],
        groups: p.groups.into(),
        lens: [p.groups, example_words(p.latents())[0], example_words(p.latents())[1], example_words(p.latents())[1]],
        tolerance: Tolerance::Exact,
        cost: (64 * (p.shifts + 3) * p.groups, 64 * (p.latents() + 2) * p.groups),
        cases: cases(&[Fill::Out, Fill::Out]),
        twin(a): {
            let (layers, params) = (segments(a.u(0), p.groups), a.f(1));
            let (mut weight, mut weight_t) = (a.out(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let w = Weight::load(params, s, i, p.shifts);
                let [at, at_t] = s.indices(i);
                let value = w.sign * w.kept() * w.power();
                weight.exact(at, value);
                weight_t.exact(at_t, value);
            }
        }
    }
}

crate::kernel! {
    /// Straight-through gradients of all S3 latents, the regularizer's part included.
    pub S3Backward(p: S3Params) {
        source: crate::wgsl!("compose/s3_backward"; "grid", "num", "segment", "s3"),
        bindings: [read_u32("table"), read("params"), read("dweight"), write("grads")],
        consts: [("T", p.shifts)],
        groups: p.groups.into(),
        lens: [p.groups, example_words(p.latents())[0], example_words(p.latents())[1], example_words(p.latents())[0]],
        tolerance: Tolerance::Budget { c: 3.0, terms: 0 }, // ln 2 and two products
        cost: (64 * (4 * p.shifts + 6) * p.groups, 64 * (2 * p.latents() + 1) * p.groups),
        cases: cases(&[Fill::Normal(1.0), Fill::Out]),
        twin(a): {
            let (layers, params, dweight, mut grads) = (segments(a.u(0), p.groups), a.f(1), a.f(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let w = Weight::load(params, s, i, p.shifts);
                let g = dweight[s.indices(i)[0]];
                let at = |k: u32| (s.base + k * s.stride + i) as usize;
                grads.exact(at(0), g * w.kept() * w.power());
                let regularizer = if w.sparse < 0.0 { f64::from(p.alpha) } else { 0.0 };
                let through = g * w.sign * w.power();
                grads.set(at(1), through - regularizer, through.abs() + regularizer);
                let ds = through * w.kept() * std::f64::consts::LN_2;
                for t in 0..p.shifts as usize {
                    let open = w.gates[t + 1..].iter().all(|g| *g);
                    let step = f64::from(shift_exponent(&w.gates, t) + 1);
                    grads.exact(at(2 + t as u32), if open { ds * step } else { 0.0 });
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
    /// Σ max(−sparse, 0) in partial sums of 64 weights.
    pub S3Regularizer(p: S3RegularizerParams) {
        source: crate::wgsl!("compose/s3_regularizer"; "grid", "segment", "reduce"),
        bindings: [read_u32("table"), read("params"), write("part")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(2)[0], p.out + p.groups],
        tolerance: Tolerance::Budget { c: 1.0, terms: 64 },
        cost: (64 * p.groups, 64 * p.groups),
        cases: vec![one_case("three layers", S3RegularizerParams { groups: table(&example(2)).1, out: 5 }, 2, &[Fill::Out])],
        twin(a): {
            let (layers, params, mut part) = (segments(a.u(0), p.groups), a.f(1), a.out(2));
            let mut g = p.out as usize;
            for s in layers {
                let sparse = &params[(s.base + s.stride) as usize..][..s.count() as usize];
                for group in sparse.chunks(64) {
                    part.exact(g, group.iter().map(|v| (-v).max(0.0)).sum());
                    g += 1;
                }
            }
        }
    }
}
