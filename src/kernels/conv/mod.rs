//! Convolution: forward, gradient to the input, gradient to the weight, each as a family of rungs with one twin.
//!
//! A rung is a kernel of its family with the same parameters, bindings, twin and cases; it differs in its shader, its constants and
//! the shapes that it fits. [`pick`] takes the family's default for a shape, or the rung that a run recorded.

mod backward_stats;
mod cases;
pub mod choice;
mod forward_stats;
pub mod rungs;
mod sum_partials;
mod twins;

pub use backward_stats::BackwardInputStatsGemm;
pub use forward_stats::ForwardStatsGemm;
pub use sum_partials::{SumPartials, SumPartialsParams};

use super::kernel::{read, read_u32, write};
use super::{AnyKernel, Args, Binding, Case, Const, Cost, Kernel, Source, Tolerance, groups_for};
use crate::error::{Error, Result};

/// Bit of [`ConvParams::epilogue`]: the gradient that came along a residual connection is added.
pub const ADD: u32 = 1;
/// Bit of [`ConvParams::epilogue`]: the input is a ReLU's output, whose gate is applied to the sum.
pub const GATE: u32 = 2;

crate::params! {
    /// Shape of a convolution; the three families share it.
    pub struct ConvParams {
        /// Images in the batch.
        n: u32,
        /// Input height.
        h: u32,
        /// Input width.
        w: u32,
        /// Input channels / 4, rounded up.
        cin4: u32,
        /// Output height.
        oh: u32,
        /// Output width.
        ow: u32,
        /// Output channels / 4, rounded up.
        cout4: u32,
        /// Kernel size; kernels are square.
        k: u32,
        /// Stride in both directions.
        stride: u32,
        /// Padding with zeros on all four sides.
        pad: u32,
        /// First vec4 of the layer in the weight slab.
        offset: u32,
        /// Images that one partial sum of the weight gradient covers.
        chunk: u32,
        /// Lanes of a subgroup; 0 where the adapter has none of a fixed size.
        subgroup: u32,
        /// What becomes of the input gradient on its way out: bits [`ADD`], [`GATE`].
        epilogue: u32,
        /// 1 where each weight is 0 or ± 2^k and the slab is there as bytes too ([`super::compose::PackWeights`]).
        packed: u32,
    }
}

impl ConvParams {
    /// A convolution of `n` images [h, w, cin] to `cout` channels, at the start of its slab.
    pub fn new(n: u32, [h, w, cin]: [u32; 3], cout: u32, [k, stride, pad]: [u32; 3]) -> Self {
        let out = |size: u32| (size + 2 * pad - k) / stride + 1;
        let (cin4, cout4) = (cin.div_ceil(4), cout.div_ceil(4));
        Self {
            n,
            h,
            w,
            cin4,
            oh: out(h),
            ow: out(w),
            cout4,
            k,
            stride,
            pad,
            offset: 0,
            chunk: 1,
            subgroup: 0,
            epilogue: 0,
            packed: 0,
        }
    }
    /// Padded weights of the layer.
    pub fn weights(&self) -> usize {
        16 * (self.k * self.k * self.cin4 * self.cout4) as usize
    }
    /// Partial sums of the weight gradient.
    pub fn chunks(&self) -> u32 {
        self.n.div_ceil(self.chunk)
    }
    fn input(&self) -> usize {
        4 * self.n as usize * (self.h * self.w * self.cin4) as usize
    }
    fn output(&self) -> usize {
        4 * self.n as usize * (self.oh * self.ow * self.cout4) as usize
    }
    fn slab(&self) -> usize {
        4 * self.offset as usize + self.weights()
    }
    /// Operations and bytes, the same for all three directions.
    fn cost(&self) -> Cost {
        let flops = 2.0 * f64::from(self.n * self.oh * self.ow) * self.weights() as f64;
        Cost { flops, bytes: 4.0 * (self.input() + self.output() + self.weights()) as f64 }
    }
}

/// A direction of the convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// y from x and W.
    Forward,
    /// dx from dy and the transposed W.
    BackwardInput,
    /// Partial sums of dW from x and dy.
    BackwardWeight,
}

/// One shader of a family: what it compiles, how it spreads over invocations and which shapes it fits. All that a family's rungs
/// share (bindings, twin, cases, tolerance, cost) is in the one [`Kernel`] implementation below.
pub struct Rung {
    /// Whose twin and cases it has.
    pub family: Family,
    /// The shader.
    pub source: Source,
    /// Its constants for a shape.
    pub consts: fn(&ConvParams) -> Vec<Const>,
    /// Invocations for a shape.
    pub items: fn(&ConvParams) -> u64,
    /// Whether it is compiled for subgroups of [`ConvParams::subgroup`] lanes.
    pub subgroups: bool,
    /// Whether it reads its weights as bytes.
    pub packed: bool,
    /// Whether it can compute the shape.
    pub shape: fn(&ConvParams) -> bool,
}

impl Rung {
    /// Whether it can compute the shape with the subgroups and the weights that there are.
    pub fn fits(&self, p: &ConvParams) -> bool {
        (self.shape)(p) && (!self.subgroups || p.subgroup > 0) && (!self.packed || p.packed > 0)
    }
}

impl Kernel for Rung {
    type Params = ConvParams;
    fn source(&self) -> Source {
        self.source
    }
    fn bindings(&self) -> &'static [Binding] {
        match (self.family, self.packed) {
            (Family::Forward, false) => const { &[read("x"), read("weight"), write("y")] },
            (Family::Forward, true) => const { &[read("x"), read_u32("weight"), write("y")] },
            (Family::BackwardInput, false) => {
                const { &[read("dy"), read("weight_t"), read("skip"), read("gate"), write("dx")] }
            }
            (Family::BackwardInput, true) => {
                const { &[read("dy"), read_u32("weight_t"), read("skip"), read("gate"), write("dx")] }
            }
            (Family::BackwardWeight, _) => const { &[read("x"), read("dy"), write("part")] },
        }
    }
    fn consts(&self, p: &ConvParams) -> Vec<Const> {
        (self.consts)(p)
    }
    fn groups(&self, p: &ConvParams) -> u64 {
        groups_for((self.items)(p))
    }
    fn lens(&self, p: &ConvParams) -> Vec<usize> {
        let slab = if self.packed { p.slab() / 4 } else { p.slab() };
        match self.family {
            Family::Forward => vec![p.input(), slab, p.output()],
            Family::BackwardInput => {
                let used = |bit: u32| if p.epilogue & bit != 0 { p.input() } else { 0 };
                vec![p.output(), slab, used(ADD), used(GATE), p.input()]
            }
            Family::BackwardWeight => vec![p.input(), p.output(), p.chunks() as usize * p.weights()],
        }
    }
    fn twin(&self, p: &ConvParams, a: &mut Args) {
        match self.family {
            Family::Forward => twins::forward(p, a),
            Family::BackwardInput => twins::backward_input(p, a),
            Family::BackwardWeight => twins::backward_weight(p, a),
        }
    }
    fn tolerance(&self, p: &ConvParams) -> Tolerance {
        let terms = match self.family {
            Family::Forward => 4 * p.k * p.k * p.cin4,
            Family::BackwardInput => 4 * p.k * p.k * p.cout4,
            Family::BackwardWeight => p.chunk * p.oh * p.ow,
        };
        // Sums run in sequence, whose error grows faster than log2(terms) in the worst case; 4 covers the signs that occur.
        Tolerance::Budget { c: 4.0, terms: terms.into() }
    }
    fn cases(&self) -> Vec<Case<ConvParams>> {
        let sizes: &[u32] = if self.subgroups { &[4, 8, 16, 32, 64] } else { &[0] };
        sizes.iter().flat_map(|s| cases::all(self, *s)).filter(|c| self.fits(&c.params)).collect()
    }
    fn cost(&self, p: &ConvParams) -> Cost {
        // One operation and one more word for each of the two.
        let epilogue = f64::from(p.epilogue.count_ones()) * p.input() as f64;
        let Cost { flops, bytes } = p.cost();
        let saved = if self.packed { 3.0 * p.weights() as f64 } else { 0.0 };
        Cost { flops: flops + epilogue, bytes: bytes + 4.0 * epilogue - saved }
    }
    fn subgroup(&self, p: &ConvParams) -> Option<u32> {
        self.subgroups.then_some(p.subgroup)
    }
}

/// A family's rungs; the last fits every shape on every adapter.
pub fn rungs(family: Family) -> &'static [&'static Rung] {
    use rungs as r;
    match family {
        Family::Forward => {
            const {
                &[
                    &r::FORWARD_SUBGROUP_PACKED,
                    &r::FORWARD_SUBGROUP,
                    &r::FORWARD_DIRECT_PACKED,
                    &r::FORWARD_DIRECT,
                    &r::FORWARD_GEMM,
                    &r::FORWARD_NAIVE,
                ]
            }
        }
        Family::BackwardInput => {
            const {
                &[
                    &r::BACKWARD_INPUT_SUBGROUP_PACKED,
                    &r::BACKWARD_INPUT_SUBGROUP,
                    &r::BACKWARD_INPUT_DIRECT_PACKED,
                    &r::BACKWARD_INPUT_DIRECT,
                    &r::BACKWARD_INPUT_GEMM,
                    &r::BACKWARD_INPUT_NAIVE,
                ]
            }
        }
        Family::BackwardWeight => {
            const {
                &[
                    &r::BACKWARD_WEIGHT_SUBGROUP,
                    &r::BACKWARD_WEIGHT_DIRECT,
                    &r::BACKWARD_WEIGHT_GEMM,
                    &r::BACKWARD_WEIGHT_NAIVE,
                ]
            }
        }
    }
}

/// The kernel that does a rung's work and takes along what the batch norm behind it (forward) or in front of it (backward) sums, where
/// there is one.
pub fn with_statistics(rung: &Rung) -> Option<&'static dyn AnyKernel> {
    match AnyKernel::name(rung) {
        name if name == AnyKernel::name(&rungs::FORWARD_GEMM) => Some(&ForwardStatsGemm),
        name if name == AnyKernel::name(&rungs::BACKWARD_INPUT_GEMM) => Some(&BackwardInputStatsGemm),
        _ => None,
    }
}

/// The rung for a shape (and the subgroup size in it): the first that fits among `forced` names of this family, else
/// the first that fits in the built-in order for a software adapter or a real one ([`choice`]).
///
/// # Errors
/// [`Error::Usage`] where a forced name belongs to no rung at all.
pub fn pick(family: Family, p: &ConvParams, software: bool, forced: &[String]) -> Result<&'static Rung> {
    let all = || Family::ALL.into_iter().flat_map(rungs).map(|r| r.name());
    if let Some(name) = forced.iter().find(|f| !all().any(|n| n == f.as_str())) {
        let known = all().collect::<Vec<_>>().join(", ");
        return Err(Error::usage(format!("no convolution rung is called `{name}`"), format!("known rungs: {known}")));
    }
    let order = choice::order(family, p, software);
    let fitting = || order.iter().copied().filter(|r| r.fits(p));
    let wanted = forced.iter().find_map(|f| fitting().find(|k| k.name() == f));
    Ok(wanted.or_else(|| fitting().next()).expect("the last rung fits every shape"))
}
