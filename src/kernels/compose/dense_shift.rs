//! DenseShift (ICCV 2023): W = sgn(sign) · 2^{s_T}, and its backward through the surrogate sgn(sign) · √(s_T + 1).

use super::shifts::{shift_exponent, shift_gradients};
use super::{SHARE, Segment, example, example_words, latents, one_case, segments, table};
use crate::kernels::optim::SgdRule;
use crate::kernels::{Case, Fill, Tolerance, read, read_u32, update, write};

crate::params! {
    /// Composition of DenseShift layers.
    pub struct DenseShiftParams {
        /// Workgroups in the segment table.
        groups: u32,
        /// Shift latents T = 2^(bits − 1) − 1; compiled into the shader.
        shifts: u32,
    }
}

impl DenseShiftParams {
    fn latents(&self) -> u32 {
        self.shifts + 1
    }
}

/// Shift latents at 2, 3 and 4 bits.
const SHIFTS: [u32; 3] = [1, 3, 7];

fn cases(rest: &[Fill]) -> Vec<Case<DenseShiftParams>> {
    let case = |shifts: u32| {
        let p = DenseShiftParams { groups: table(&example(shifts + 1)).1, shifts };
        one_case(&format!("{shifts} shift latents"), p, p.latents(), rest)
    };
    SHIFTS.map(case).to_vec()
}

/// The latents of one weight: sgn(sign), with sgn(0) = 1, and the gates.
struct Weight {
    sign: f64,
    gates: Vec<bool>,
}

impl Weight {
    fn load(params: &[f64], s: &Segment, i: u32, shifts: u32) -> Self {
        let latent = |k: u32| params[(s.base + k * s.stride + i) as usize];
        let sign = if latent(0) >= 0.0 { 1.0 } else { -1.0 };
        Self { sign, gates: (1..=shifts).map(|t| latent(t) > 0.0).collect() }
    }
    fn exponent(&self) -> i32 {
        shift_exponent(&self.gates, self.gates.len())
    }
}

/// The gradients of a weight's latents from g = dL/dW.
fn gradients(params: &[f64], s: &Segment, i: u32, g: f64, shifts: u32) -> Vec<f64> {
    if s.plain {
        return vec![g];
    }
    let w = Weight::load(params, s, i, shifts);
    let root = f64::from(w.exponent() + 1).sqrt();
    let ds = g * w.sign / (2.0 * root);
    std::iter::once(g * root).chain(shift_gradients(&w.gates, ds)).collect()
}

crate::kernel! {
    /// Composes the weights of all DenseShift layers.
    pub DenseShiftCompose(p: DenseShiftParams) {
        source: crate::wgsl!("compose/dense_shift_compose"; "grid", "num", "segment", "shift_gates"),
        bindings: [read_u32("table"), read("params"), write("weight"), write("weight_t")],
        consts: [("T", p.shifts)],
        groups: p.groups.into(),
        lens: [p.groups, example_words(p.latents())[0], example_words(p.latents())[1], example_words(p.latents())[1]],
        tolerance: Tolerance::Exact,
        cost: (SHARE * (p.shifts + 2) * p.groups, SHARE * (p.latents() + 2) * p.groups),
        cases: cases(&[Fill::Out, Fill::Out]),
        twin(a): {
            let (layers, params) = (segments(a.u(0), p.groups), a.f(1));
            let (mut weight, mut weight_t) = (a.out(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let shifted = |w: Weight| w.sign * f64::from(w.exponent()).exp2();
                let plain = s.plain.then(|| params[(s.base + i) as usize]);
                let value = plain.unwrap_or_else(|| shifted(Weight::load(params, s, i, p.shifts)));
                let [at, at_t] = s.indices(i);
                weight.exact(at, value);
                weight_t.exact(at_t, value);
            }
        }
    }
}

crate::kernel! {
    /// Gradients of all DenseShift latents.
    pub DenseShiftBackward(p: DenseShiftParams) {
        source: crate::wgsl!("compose/dense_shift_backward"; "grid", "segment", "shift_gates", "dense_shift"),
        bindings: [read_u32("table"), read("params"), read("dweight"), write("grads")],
        consts: [("T", p.shifts)],
        groups: p.groups.into(),
        lens: [p.groups, example_words(p.latents())[0], example_words(p.latents())[1], example_words(p.latents())[0]],
        // The root, a quotient (2.5 ulps are allowed) and a product.
        tolerance: Tolerance::Budget { c: 6.0, terms: 0 },
        cost: (SHARE * (4 * p.shifts + 4) * p.groups, SHARE * (2 * p.latents() + 1) * p.groups),
        cases: cases(&[Fill::Normal(1.0), Fill::Out]),
        twin(a): {
            let (layers, params, dweight, mut grads) = (segments(a.u(0), p.groups), a.f(1), a.f(2), a.out(3));
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let g = dweight[s.indices(i)[0]];
                for (k, gradient) in gradients(params, s, i, g, p.shifts).into_iter().enumerate() {
                    grads.exact((s.base + k as u32 * s.stride + i) as usize, gradient);
                }
            }
        }
    }
}

crate::params! {
    /// One SGD step of DenseShift latents.
    pub struct DenseShiftUpdateParams {
        /// Workgroups in the segment table.
        groups: u32,
        /// Shift latents T = 2^(bits − 1) − 1; compiled into the shader.
        shifts: u32,
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

fn update_cases() -> Vec<Case<DenseShiftUpdateParams>> {
    let case = |(shifts, nesterov): (u32, u32)| {
        let (words, groups) = table(&example(shifts + 1));
        let (rate, plain_rate, momentum, decay) = (3.0, 0.1, 0.9, 0.05);
        let p = DenseShiftUpdateParams { groups, shifts, nesterov, rate, plain_rate, momentum, decay };
        let slab = latents(example_words(shifts + 1)[0]);
        let fills = vec![Fill::Table(words), Fill::Normal(1.0), slab, Fill::Normal(1.0)];
        Case::new(format!("{shifts} shift latents, nesterov {nesterov}"), p, fills)
    };
    SHIFTS.into_iter().flat_map(|s| [(s, 0), (s, 1)]).map(case).collect()
}

crate::kernel! {
    /// Gradients and the optimizer's step of all DenseShift latents in one pass.
    pub DenseShiftUpdate(p: DenseShiftUpdateParams) {
        source: crate::wgsl!("compose/dense_shift_update"; "grid", "segment", "shift_gates", "dense_shift", "sgd_step"),
        bindings: [read_u32("table"), read("dweight"), update("params"), update("velocity")],
        consts: [("T", p.shifts)],
        groups: p.groups.into(),
        lens: [
            p.groups, example_words(p.shifts + 1)[1], example_words(p.shifts + 1)[0], example_words(p.shifts + 1)[0]
        ],
        // The parts' bounds: six for the gradient, four for the step.
        tolerance: Tolerance::Budget { c: 10.0, terms: 0 },
        cost: (SHARE * (10 * p.shifts + 12) * p.groups, SHARE * (4 * (p.shifts + 1) + 1) * p.groups),
        cases: update_cases(),
        twin(a): {
            let (layers, dweight) = (segments(a.u(0), p.groups), a.f(1));
            let (mut params, mut velocity) = (a.out(2), a.out(3));
            let rule = SgdRule { nesterov: p.nesterov == 1, momentum: p.momentum, decay: p.decay };
            for (s, i) in layers.iter().flat_map(|s| (0..s.count()).map(move |i| (s, i))) {
                let rate = if s.plain { p.plain_rate } else { p.rate };
                let g = dweight[s.indices(i)[0]];
                for (k, gradient) in gradients(params.v, s, i, g, p.shifts).into_iter().enumerate() {
                    let at = (s.base + k as u32 * s.stride + i) as usize;
                    rule.step(at, (gradient, gradient.abs()), rate, &mut params, &mut velocity);
                }
            }
        }
    }
}
