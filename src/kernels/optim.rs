//! The optimizer.

use super::{Case, Fill, Out, Tolerance, groups_for, read, update};

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
