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

crate::params! {
    /// The end of a classifier whose weights are a convolution's.
    pub struct LogitsParams {
        /// Images.
        n: u32,
        /// Words from one image of x to the next: classes rounded up to a multiple of 4.
        stride: u32,
        /// Outputs.
        classes: u32,
        /// First word of the bias in the parameter and gradient slabs.
        bias: u32,
        /// A power of two.
        scale: f32,
    }
}

impl LogitsParams {
    fn slab(&self) -> u32 {
        self.bias + self.classes
    }
    fn words(&self) -> f64 {
        f64::from(self.n) * f64::from(self.stride + self.classes) + f64::from(self.classes)
    }
}

fn logits_cases(fills: fn() -> Vec<Fill>) -> Vec<Case<LogitsParams>> {
    [(1, 1), (3, 5), (64, 10), (65, 100), (2, 1000)]
        .map(|(n, classes)| {
            let p = LogitsParams { n, stride: u32::next_multiple_of(classes, 4), classes, bias: 8, scale: 0.125 };
            Case::new(format!("{n} images, {classes} classes"), p, fills())
        })
        .to_vec()
}

crate::kernel! {
    /// Scale and bias.
    pub LogitsForward(p: LogitsParams) {
        source: crate::wgsl!("linear/logits_forward"; "grid"),
        bindings: [read("x"), read("params"), write("y")],
        consts: [],
        groups: groups_for(u64::from(p.n * p.classes)),
        lens: [p.n * p.stride, p.slab(), p.n * p.classes],
        tolerance: Tolerance::Budget { c: 1.0, terms: 2 },
        cost: (2 * p.n * p.classes, p.words()),
        cases: logits_cases(|| vec![Fill::Normal(8.0), Fill::Normal(1.0), Fill::Out]),
        twin(a): {
            let (x, params, mut y) = (a.f(0), a.f(1), a.out(2));
            for (n, k) in (0..p.n).flat_map(|n| (0..p.classes).map(move |k| (n, k))) {
                let scaled = f64::from(p.scale) * x[(n * p.stride + k) as usize];
                let (sum, mag) = dot([scaled, params[(p.bias + k) as usize]].into_iter());
                y.set((n * p.classes + k) as usize, sum, mag);
            }
        }
    }
}

crate::kernel! {
    /// Gradients of the input and of the bias.
    pub LogitsBackward(p: LogitsParams) {
        source: crate::wgsl!("linear/logits_backward"; "grid"),
        bindings: [read("dy"), write("dx"), write("grads")],
        consts: [],
        groups: groups_for(u64::from(p.n * p.stride + p.classes)),
        lens: [p.n * p.classes, p.n * p.stride, p.slab()],
        tolerance: Tolerance::Budget { c: 4.0, terms: p.n.into() },
        cost: (2 * p.n * p.classes, p.words()),
        cases: logits_cases(|| vec![Fill::Normal(1.0), Fill::Out, Fill::Out]),
        twin(a): {
            let (dy, mut dx, mut grads) = (a.f(0), a.out(1), a.out(2));
            for (n, k) in (0..p.n).flat_map(|n| (0..p.stride).map(move |k| (n, k))) {
                let value = if k < p.classes { f64::from(p.scale) * dy[(n * p.classes + k) as usize] } else { 0.0 };
                dx.exact((n * p.stride + k) as usize, value);
            }
            for k in 0..p.classes {
                let (sum, mag) = dot((0..p.n).map(|n| dy[(n * p.classes + k) as usize]));
                grads.set((p.bias + k) as usize, sum, mag);
            }
        }
    }
}
