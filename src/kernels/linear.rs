//! The fully connected classifier.

use super::{Case, Fill, Tolerance, groups_for, read, write};

crate::params! {
    /// A classifier; its weight is [classes, features] as in PyTorch's files.
    pub struct LinearParams {
        /// Images.
        n: u32,
        /// Inputs that exist.
        features: u32,
        /// Words from one image of x to the next: features rounded up to a multiple of 4.
        stride: u32,
        /// Outputs.
        classes: u32,
        /// First word of the weight in the parameter and gradient slabs.
        weight: u32,
        /// First word of the bias there.
        bias: u32,
    }
}

impl LinearParams {
    fn weights(&self) -> u32 {
        self.classes * self.features
    }
    fn slab(&self) -> u32 {
        (self.weight + self.weights()).max(self.bias + self.classes)
    }
    fn flops(&self) -> f64 {
        2.0 * f64::from(self.n) * f64::from(self.weights())
    }
    fn words(&self) -> f64 {
        f64::from(self.n) * f64::from(self.stride + self.classes) + f64::from(self.weights())
    }
}

fn cases() -> Vec<Case<LinearParams>> {
    [(1, 1, 1), (3, 5, 2), (64, 64, 10), (65, 30, 100)]
        .map(|(n, features, classes)| {
            let (stride, weight) = (u32::next_multiple_of(features, 4), 4);
            let p = LinearParams { n, features, stride, classes, weight, bias: weight + classes * features };
            let fills = vec![Fill::Normal(1.0), Fill::Normal(1.0), Fill::Out];
            Case::new(format!("{n} images, {features} features, {classes} classes"), p, fills)
        })
        .to_vec()
}

/// A dot product and the sum of its terms' magnitudes.
fn dot(terms: impl Iterator<Item = f64>) -> (f64, f64) {
    terms.fold((0.0, 0.0), |(sum, mag), t| (sum + t, mag + t.abs()))
}

crate::kernel! {
    /// Logits.
    pub LinearForward(p: LinearParams) {
        source: crate::wgsl!("linear/linear_forward"; "grid"),
        bindings: [read("x"), read("params"), write("y")],
        consts: [],
        groups: groups_for(u64::from(p.n * p.classes)),
        lens: [p.n * p.stride, p.slab(), p.n * p.classes],
        tolerance: Tolerance::Budget { c: 4.0, terms: p.features.into() },
        cost: (p.flops(), p.words()),
        cases: cases(),
        twin(a): {
            let (x, params, mut y) = (a.f(0), a.f(1), a.out(2));
            for (n, k) in (0..p.n).flat_map(|n| (0..p.classes).map(move |k| (n, k))) {
                let row = &params[(p.weight + k * p.features) as usize..][..p.features as usize];
                let terms = x[(n * p.stride) as usize..].iter().zip(row).map(|(x, w)| x * w);
                let (sum, mag) = dot(terms.chain([params[(p.bias + k) as usize]]));
                y.set((n * p.classes + k) as usize, sum, mag);
            }
        }
    }
}

crate::kernel! {
    /// Gradient of the classifier's input.
    pub LinearBackwardInput(p: LinearParams) {
        source: crate::wgsl!("linear/linear_backward_input"; "grid"),
        bindings: [read("dy"), read("params"), write("dx")],
        consts: [],
        groups: groups_for(u64::from(p.n * p.stride)),
        lens: [p.n * p.classes, p.slab(), p.n * p.stride],
        tolerance: Tolerance::Budget { c: 4.0, terms: p.classes.into() },
        cost: (p.flops(), p.words()),
        cases: cases(),
        twin(a): {
            let (dy, params, mut dx) = (a.f(0), a.f(1), a.out(2));
            for (n, c) in (0..p.n).flat_map(|n| (0..p.stride).map(move |c| (n, c))) {
                let classes = if c < p.features { p.classes } else { 0 };
                let weight = |k: u32| params[(p.weight + k * p.features + c) as usize];
                let (sum, mag) = dot((0..classes).map(|k| dy[(n * p.classes + k) as usize] * weight(k)));
                dx.set((n * p.stride + c) as usize, sum, mag);
            }
        }
    }
}

crate::kernel! {
    /// Gradients of weight and bias.
    pub LinearBackwardWeight(p: LinearParams) {
        source: crate::wgsl!("linear/linear_backward_weight"; "grid"),
        bindings: [read("x"), read("dy"), write("grads")],
        consts: [],
        groups: groups_for(u64::from(p.classes * (p.features + 1))),
        lens: [p.n * p.stride, p.n * p.classes, p.slab()],
        tolerance: Tolerance::Budget { c: 4.0, terms: p.n.into() },
        cost: (p.flops(), p.words()),
        cases: cases(),
        twin(a): {
            let (x, dy, mut grads) = (a.f(0), a.f(1), a.out(2));
            for k in 0..p.classes {
                let g = |n: u32| dy[(n * p.classes + k) as usize];
                for c in 0..p.features {
                    let (sum, mag) = dot((0..p.n).map(|n| g(n) * x[(n * p.stride + c) as usize]));
                    grads.set((p.weight + k * p.features + c) as usize, sum, mag);
                }
                let (sum, mag) = dot((0..p.n).map(g));
                grads.set((p.bias + k) as usize, sum, mag);
            }
        }
    }
}
