//! Input gradient of a convolution with the sums that the batch norm in front of it needs for its own.

use super::rungs::{BACKWARD_INPUT_GEMM, Tile};
use super::{ConvParams, cases, twins};
use crate::kernels::kernel::{read, write};
use crate::kernels::norm::BatchNormParams;
use crate::kernels::{Arg, Args, Binding, Case, Const, Cost, Data, Elem, Fill, Kernel, Output, Source, Tolerance};

/// [`BACKWARD_INPUT_GEMM`] and [`crate::kernels::norm::BnBackwardStats`] in one dispatch, over tiles of pixels of a phase.
pub struct BackwardInputStatsGemm;

impl BackwardInputStatsGemm {
    /// Pixels of a phase, of the largest one.
    fn phase(p: &ConvParams) -> u32 {
        p.n * p.h.div_ceil(p.stride) * p.w.div_ceil(p.stride)
    }
    /// Partial results: what the merge must be told.
    pub fn tiles(p: &ConvParams) -> u32 {
        p.stride * p.stride * Self::phase(p).div_ceil(Tile::backward_input(p).height())
    }
    /// The batch norm in front, over these tiles.
    pub fn norm(p: &ConvParams) -> BatchNormParams {
        BatchNormParams { tiles: Self::tiles(p), ..BatchNormParams::new(p.n * p.h * p.w, 4 * p.cin4) }
    }
    /// The pixels of tile `t`.
    fn pixels(p: &ConvParams, t: u32) -> impl Iterator<Item = usize> {
        let (p, s, height) = (*p, p.stride, Tile::backward_input(p).height());
        let (rows, columns) = (p.h.div_ceil(s), p.w.div_ceil(s));
        (t / (s * s) * height..(t / (s * s) + 1) * height).filter_map(move |pixel| {
            let image = pixel / (rows * columns);
            let (y, x) = (pixel / columns % rows * s + t % s, pixel % columns * s + t / s % s);
            (image < p.n && y < p.h && x < p.w).then_some(((image * p.h + y) * p.w + x) as usize)
        })
    }
}

impl Kernel for BackwardInputStatsGemm {
    type Params = ConvParams;
    fn source(&self) -> Source {
        crate::wgsl!("conv/conv_backward_input_stats_gemm"; "grid", "epilogue", "tile", "conv_backward_input_tile", "column_sums")
    }
    fn bindings(&self) -> &'static [Binding] {
        const {
            &[
                read("dy"),
                read("weight_t"),
                read("skip"),
                read("gate"),
                read("x"),
                read("stats"),
                write("dx"),
                write("part"),
            ]
        }
    }
    fn consts(&self, p: &ConvParams) -> Vec<Const> {
        Kernel::consts(&BACKWARD_INPUT_GEMM, p)
    }
    fn groups(&self, p: &ConvParams) -> u64 {
        Kernel::groups(&BACKWARD_INPUT_GEMM, p)
    }
    fn lens(&self, p: &ConvParams) -> Vec<usize> {
        let mut lens = Kernel::lens(&BACKWARD_INPUT_GEMM, p);
        lens.splice(4..4, [p.input(), 8 * p.cin4 as usize]);
        lens.push(Self::norm(p).partials() as usize);
        lens
    }
    /// The twin of the convolution, then the sums over its results.
    fn twin(&self, p: &ConvParams, a: &mut Args) {
        let inputs: Vec<&Data> =
            a.0.iter().filter_map(|arg| if let Arg::In(data) = arg { Some(*data) } else { None }).collect();
        let [dy, weight_t, skip, gate, x, stats] = inputs[..] else { panic!("six read-only bindings") };
        let mut gradient = Output::new(Data::zeros(Elem::F32, p.input()), true);
        let parts = [dy, weight_t, skip, gate].map(Arg::In).into_iter().chain([Arg::Out(&mut gradient)]);
        twins::backward_input(p, &mut Args(parts.collect()));
        let (values, mags, c) = (gradient.data.f32(), &gradient.mag, 4 * p.cin4 as usize);
        let (x, stats) = (x.f32(), stats.f32());
        let mut dx = a.out(6);
        values.iter().zip(mags).enumerate().for_each(|(i, (v, m))| dx.set(i, *v, *m));
        let mut part = a.out(7);
        for (t, k) in (0..Self::tiles(p) as usize).flat_map(|t| (0..c).map(move |k| (t, k))) {
            let (mut sum, mut dot) = ([0.0; 2], [0.0; 2]);
            for i in Self::pixels(p, t as u32).map(|pixel| pixel * c + k) {
                let normalized = (x[i] - stats[k]) * stats[c + k];
                // A closed gate leaves an exact zero, whose terms do not count.
                let mag = if values[i] == 0.0 { 0.0 } else { mags[i] };
                sum = [sum[0] + values[i], sum[1] + mag];
                dot = [dot[0] + values[i] * normalized, dot[1] + mag * normalized.abs()];
            }
            part.set(2 * t * c + k, sum[0], sum[1]);
            part.set((2 * t + 1) * c + k, dot[0], dot[1]);
        }
    }
    fn tolerance(&self, p: &ConvParams) -> Tolerance {
        // The convolution's, and two roundings more in a product; a tile's sums are short beside it, or add up pairwise.
        let terms = (4 * p.k * p.k * p.cout4).max(Tile::backward_input(p).height());
        Tolerance::Budget { c: 6.0, terms: terms.into() }
    }
    fn cases(&self) -> Vec<Case<ConvParams>> {
        let more = |mut case: Case<ConvParams>| {
            case.fills.splice(4..4, [Fill::Normal(1.0), Fill::Uniform(0.5, 2.0)]);
            case.fills.push(Fill::Out);
            case
        };
        cases::all(&BACKWARD_INPUT_GEMM, 0).into_iter().map(more).collect()
    }
    fn cost(&self, p: &ConvParams) -> Cost {
        let (conv, elements) = (Kernel::cost(&BACKWARD_INPUT_GEMM, p), p.input() as f64);
        let part = f64::from(Self::norm(p).partials());
        Cost { flops: conv.flops + 4.0 * elements, bytes: conv.bytes + 4.0 * (elements + part) }
    }
    fn subgroup(&self, _: &ConvParams) -> Option<u32> {
        None
    }
}
