//! Convolution with the statistics of the batch norm behind it.

use super::rungs::{FORWARD_GEMM, Tile};
use super::{ConvParams, cases, twins};
use crate::kernels::kernel::{read, write};
use crate::kernels::norm::{BatchNormParams, BnStats};
use crate::kernels::{Arg, Args, Binding, Case, Const, Cost, Data, Elem, Fill, Kernel, Output, Source, Tolerance};

/// [`FORWARD_GEMM`] and [`BnStats`] in one dispatch, over tiles of [`ForwardStatsGemm::tile`] pixels.
pub struct ForwardStatsGemm;

impl ForwardStatsGemm {
    /// Pixels in one partial result: what the merge must be told, with `tiles` = ⌈pixels / tile⌉.
    pub fn tile(p: &ConvParams) -> u32 {
        Tile::forward(p).height()
    }
    /// The batch norm behind it, over its tiles.
    pub fn norm(p: &ConvParams) -> BatchNormParams {
        BatchNormParams::new(p.n * p.oh * p.ow, 4 * p.cout4).tiled(Self::tile(p))
    }
}

impl Kernel for ForwardStatsGemm {
    type Params = ConvParams;
    fn source(&self) -> Source {
        crate::wgsl!("conv/conv_forward_stats_gemm"; "grid", "tile", "conv_forward_tile", "column_sums")
    }
    fn bindings(&self) -> &'static [Binding] {
        const { &[read("x"), read("weight"), write("y"), write("part")] }
    }
    fn consts(&self, p: &ConvParams) -> Vec<Const> {
        Tile::forward(p).consts()
    }
    fn groups(&self, p: &ConvParams) -> u64 {
        Kernel::groups(&FORWARD_GEMM, p)
    }
    fn lens(&self, p: &ConvParams) -> Vec<usize> {
        vec![p.input(), p.slab(), p.output(), Self::norm(p).partials() as usize]
    }
    /// The twin of the convolution, then that of the statistics.
    fn twin(&self, p: &ConvParams, a: &mut Args) {
        let [Arg::In(x), Arg::In(weight), ..] = a.0[..] else { panic!("x and weight are read-only") };
        let norm = Self::norm(p);
        let scratch = |len| Output::new(Data::zeros(Elem::F32, len), true);
        let (mut y, mut part) = (scratch(p.output()), scratch(norm.partials() as usize));
        twins::forward(p, &mut Args(vec![Arg::In(x), Arg::In(weight), Arg::Out(&mut y)]));
        Kernel::twin(&BnStats, &norm, &mut Args(vec![Arg::In(&y.data), Arg::Out(&mut part)]));
        let (values, moments, mut out, mut stats) = (y.data.f32(), part.data.f32(), a.out(2), a.out(3));
        for (i, (v, m)) in values.iter().zip(&y.mag).enumerate() {
            out.set(i, *v, *m);
        }
        // The statistics inherit the outputs' rounding, to first and, where all deviations vanish, to second order.
        let c = 4 * p.cout4 as usize;
        for (tile, pixels) in (0..p.output() / c).collect::<Vec<_>>().chunks(norm.tile as usize).enumerate() {
            for k in 0..c {
                let (mean, m2) = (2 * tile * c + k, (2 * tile + 1) * c + k);
                let mags = || pixels.iter().map(|i| (values[i * c + k] - moments[mean], y.mag[i * c + k]));
                let scale = mags().map(|(_, m)| m).sum::<f64>() / pixels.len() as f64;
                // An output off by δ = cεL · (m + scale), with L = log2(terms + 2), moves d² by 2|d|δ + δ². The budget brings one factor
                // cεL; δ² takes another, which 1e-5 bounds: c = 4 and L = 41 make 9.8e-6, whatever the layer.
                let spread: f64 = mags().map(|(d, m)| 2.0 * d.abs() * (m + scale) + 1e-5 * (m + scale).powi(2)).sum();
                stats.set(mean, moments[mean], part.mag[mean] + scale);
                stats.set(m2, moments[m2], part.mag[m2] + spread);
            }
        }
    }
    fn tolerance(&self, p: &ConvParams) -> Tolerance {
        // As the convolution's; a tile's sums are short beside it, or add up pairwise.
        Tolerance::Budget { c: 4.0, terms: (4 * p.k * p.k * p.cin4).max(Self::tile(p)).into() }
    }
    fn cases(&self) -> Vec<Case<ConvParams>> {
        let more = |mut case: Case<ConvParams>| {
            case.fills.push(Fill::Out);
            case
        };
        let mut all: Vec<_> = cases::all(&FORWARD_GEMM, 0).into_iter().map(more).collect();
        // Where the variance is small beside the mean.
        let p = ConvParams::new(2, [13, 10, 9], 20, [1, 1, 0]);
        let far = Fill::Uniform(0.9, 1.0);
        all.push(Case::new("far from zero", p, vec![far.clone(), far, Fill::Out, Fill::Out]));
        all
    }
    fn cost(&self, p: &ConvParams) -> Cost {
        let (conv, norm) = (p.cost(), Kernel::cost(&BnStats, &Self::norm(p)));
        // The outputs are read from registers.
        let read = 4.0 * p.output() as f64;
        Cost { flops: conv.flops + norm.flops, bytes: conv.bytes + norm.bytes - read }
    }
    fn subgroup(&self, _: &ConvParams) -> Option<u32> {
        None
    }
}
