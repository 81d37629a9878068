//! The optimizer.

use super::{Case, Fill, Out, Tolerance, groups_for, read, update};

/// What makes a step of the gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Gradient descent with momentum.
    #[default]
    Sgd,
    /// Adam.
    Adam,
    /// Rectified Adam.
    #[value(name = "radam")]
    RAdam,
}

impl Optimizer {
    /// Whether it keeps second moments.
    pub fn has_second(self) -> bool {
        self != Self::Sgd
    }
}

crate::params! {
    /// One SGD step over a parameter slab.
    pub struct SgdParams {
        /// vec4 in the slab.
        len4: u32,
        /// First vec4 that is a latent.
        latents: u32,
        /// 1 for Nesterov momentum.
        nesterov: u32,
        /// Learning rate.
        rate: f32,
        /// Factor on the learning rate of latents.
        latent_rate: f32,
        /// Momentum.
        momentum: f32,
        /// Weight decay.
        decay: f32,
    }
}

crate::kernel! {
    /// SGD with momentum, Nesterov and weight decay in PyTorch's form, dampening 0.
    pub Sgd(p: SgdParams) {
        source: crate::wgsl!("optim/sgd"; "grid"),
        bindings: [read("grads"), update("params"), update("velocity")],
        consts: [],
        groups: groups_for(p.len4.into()),
        lens: [4 * p.len4, 4 * p.len4, 4 * p.len4],
        tolerance: Tolerance::Budget { c: 4.0, terms: 0 },
        cost: (24.0 * f64::from(p.len4), 20.0 * f64::from(p.len4)),
        cases: [(0, 0), (1, 0), (64, 64), (65, 30), (1000, 400)].into_iter().flat_map(|(len4, latents)| {
            [0, 1].map(|nesterov| {
                let p = SgdParams { len4, latents, nesterov, rate: 0.1, latent_rate: 30.0, momentum: 0.9, decay: 0.05 };
                Case::new(format!("{len4} vec4, latents from {latents}, nesterov {nesterov}"), p, vec![Fill::Normal(1.0); 3])
            })
        }).collect(),
        twin(a): {
            let (grads, mut params, mut velocity) = (a.f(0), a.out(1), a.out(2));
            let rule = SgdRule { nesterov: p.nesterov == 1, momentum: p.momentum, decay: p.decay };
            for (i, grad) in grads.iter().enumerate().take(4 * p.len4 as usize) {
                // The rate is rounded to f32 before it is used, as in the shader.
                let rate = p.rate * if i as u32 / 4 >= p.latents { p.latent_rate } else { 1.0 };
                rule.step(i, (*grad, grad.abs()), rate, &mut params, &mut velocity);
            }
        }
    }
}

crate::params! {
    /// A sum that grows by a part.
    pub struct AccumulateParams {
        /// vec4 in each.
        len4: u32,
        /// 0: the sum begins with this part.
        keep: u32,
    }
}

crate::kernel! {
    /// total = part, or total + part.
    pub Accumulate(p: AccumulateParams) {
        source: crate::wgsl!("optim/accumulate"; "grid"),
        bindings: [read("part"), update("total")],
        consts: [],
        groups: groups_for(p.len4.into()),
        lens: [4 * p.len4, 4 * p.len4],
        tolerance: Tolerance::Budget { c: 1.0, terms: 0 },
        cost: (4 * p.len4, 12 * p.len4),
        cases: [(0, 1), (1, 0), (64, 1), (65, 0), (1000, 1)].into_iter().flat_map(|(len4, keep)| {
            let p = AccumulateParams { len4, keep };
            // What a sum that begins anew held before must not come through, whatever it is.
            let before = if keep == 1 { Fill::Normal(1.0) } else { Fill::Nans };
            [Case::new(format!("{len4} vec4, keep {keep}"), p, vec![Fill::Normal(1.0), before])]
        }).collect(),
        twin(a): {
            let (part, mut total) = (a.f(0), a.out(1));
            for i in 0..4 * p.len4 as usize {
                let old = if p.keep == 1 { total.v[i] } else { 0.0 };
                total.set(i, old + part[i], old.abs() + part[i].abs());
            }
        }
    }
}

crate::params! {
    /// One step of Adam or RAdam over a parameter slab.
    pub struct AdamParams {
        /// vec4 in the slab.
        len4: u32,
        /// First vec4 that is a latent.
        latents: u32,
        /// 0: without the second moment, as RAdam's first steps are.
        adaptive: u32,
        /// Learning rate, with the bias corrections in it.
        rate: f32,
        /// Factor on the learning rate of latents.
        latent_rate: f32,
        /// Weight decay, added to the gradient.
        decay: f32,
        /// Decay of the first moment.
        beta1: f32,
        /// 1 − β1, of which f32 has more digits than of β1.
        rest1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// 1 − β2.
        rest2: f32,
        /// Added to the root of the second moment.
        eps: f32,
    }
}

/// PyTorch's defaults: β1, β2, ε.
const ADAM: [f64; 3] = [0.9, 0.999, 1e-8];

impl AdamParams {
    /// Of Adam's (Kingma and Ba, 2015) step `t`, from 1.
    pub fn adam(self, rate: f32, t: u64) -> Self {
        let [beta1, beta2, eps] = ADAM;
        let root = (1.0 - beta2.powf(t as f64)).sqrt();
        let rate = f64::from(rate) * root / (1.0 - beta1.powf(t as f64));
        self.with(1, rate, eps * root)
    }

    /// Of RAdam's (Liu and others, 2020) step `t`, from 1: plain momentum until the variance of the second moment is known.
    pub fn radam(self, rate: f32, t: u64) -> Self {
        let [beta1, beta2, eps] = ADAM;
        let (t, power) = (t as f64, beta2.powf(t as f64));
        let rate = f64::from(rate) / (1.0 - beta1.powf(t));
        let longest = 2.0 / (1.0 - beta2) - 1.0;
        let length = longest - 2.0 * t * power / (1.0 - power);
        if length <= 5.0 {
            return self.with(0, rate, eps);
        }
        let r = |l: f64| (l - 4.0) * (l - 2.0) / l;
        self.with(1, rate * (1.0 - power).sqrt() * (r(length) / r(longest)).sqrt(), eps)
    }

    fn with(self, adaptive: u32, rate: f64, eps: f64) -> Self {
        let [beta1, beta2, _] = ADAM.map(|v| v as f32);
        let [rest1, rest2, _] = ADAM.map(|v| (1.0 - v) as f32);
        Self { adaptive, rate: rate as f32, beta1, rest1, beta2, rest2, eps: eps as f32, ..self }
    }
}

crate::kernel! {
    /// Adam and RAdam in PyTorch's form, weight decay added to the gradient.
    pub Adam(p: AdamParams) {
        source: crate::wgsl!("optim/adam"; "grid"),
        bindings: [read("grads"), update("params"), update("first"), update("second")],
        consts: [],
        groups: groups_for(p.len4.into()),
        lens: [4 * p.len4, 4 * p.len4, 4 * p.len4, 4 * p.len4],
        // A root and a quotient of 2.5 ulps each beside a handful of roundings.
        tolerance: Tolerance::Budget { c: 12.0, terms: 0 },
        cost: (56.0 * f64::from(p.len4), 28.0 * f64::from(p.len4)),
        cases: [(0, 0, 1), (1, 0, 3), (65, 30, 8), (1000, 400, 1000)].into_iter().flat_map(|(len4, latents, t)| {
            let base = AdamParams { len4, latents, latent_rate: 30.0, decay: 0.05, ..Default::default() };
            let fills = vec![Fill::Normal(1.0), Fill::Normal(1.0), Fill::Normal(1.0), Fill::Uniform(0.0, 2.0)];
            let case = |name: &str, p| Case::new(format!("{len4} vec4, latents from {latents}, {name} step {t}"), p, fills.clone());
            [case("Adam", base.adam(0.01, t)), case("RAdam", base.radam(0.01, t))]
        }).collect(),
        twin(a): {
            let (grads, mut params, mut first, mut second) = (a.f(0), a.out(1), a.out(2), a.out(3));
            let [decay, beta1, beta2, eps] = [p.decay, p.beta1, p.beta2, p.eps].map(f64::from);
            for (i, grad) in grads.iter().enumerate().take(4 * p.len4 as usize) {
                let w = params.v[i];
                let g = grad + decay * w;
                let g_mag = grad.abs() + (decay * w).abs();
                let old = [first.v[i], second.v[i]];
                let rest = [p.rest1, p.rest2].map(f64::from);
                let m = beta1 * old[0] + rest[0] * g;
                let v = beta2 * old[1] + rest[1] * g * g;
                let (m_mag, v_mag) = ((beta1 * old[0]).abs() + rest[0] * g_mag, beta2 * old[1] + rest[1] * g_mag * g_mag);
                let divisor = if p.adaptive == 1 { v.sqrt() + eps } else { 1.0 };
                let rate = f64::from(p.rate * if i as u32 / 4 >= p.latents { p.latent_rate } else { 1.0 });
                first.set(i, m, m_mag);
                second.set(i, v, v_mag);
                params.set(i, w - rate * m / divisor, w.abs() + 2.0 * rate * m_mag / divisor);
            }
        }
    }
}

/// SGD's rule for one parameter, for the twins of all kernels that apply it.
pub(super) struct SgdRule {
    pub nesterov: bool,
    pub momentum: f32,
    pub decay: f32,
}

impl SgdRule {
    /// v ← momentum · v + g with g = gradient + decay · w; w ← w − rate · (g + momentum · v under Nesterov, else v).
    /// The gradient comes with its Σ|terms|.
    pub fn step(&self, i: usize, (gradient, mag): (f64, f64), rate: f32, params: &mut Out, velocity: &mut Out) {
        let (momentum, decay, rate) = (f64::from(self.momentum), f64::from(self.decay), f64::from(rate));
        let (w, old) = (params.v[i], velocity.v[i]);
        let g = gradient + decay * w;
        let v = momentum * old + g;
        let v_mag = (momentum * old).abs() + mag + (decay * w).abs();
        let d = if self.nesterov { g + momentum * v } else { v };
        velocity.set(i, v, v_mag);
        params.set(i, w - rate * d, w.abs() + 2.0 * rate.abs() * v_mag);
    }
}
