//! The second pass of the weight gradient.

use crate::kernels::kernel::{read, write};
use crate::kernels::{Args, Binding, Case, Const, Cost, Fill, Kernel, Source, Tolerance, groups_for};

crate::params! {
    /// A stack of partial sums.
    pub struct SumPartialsParams {
        /// Partial sums to add.
        parts: u32,
        /// vec4 in each.
        len4: u32,
        /// First vec4 of the result.
        offset: u32,
    }
}

/// Adds partial sums in order.
pub struct SumPartials;

impl Kernel for SumPartials {
    type Params = SumPartialsParams;
    fn source(&self) -> Source {
        crate::wgsl!("conv/sum_partials"; "grid")
    }
    fn bindings(&self) -> &'static [Binding] {
        const { &[read("part"), write("total")] }
    }
    fn consts(&self, _: &SumPartialsParams) -> Vec<Const> {
        Vec::new()
    }
    fn groups(&self, p: &SumPartialsParams) -> u64 {
        groups_for(u64::from(p.len4))
    }
    fn lens(&self, p: &SumPartialsParams) -> Vec<usize> {
        vec![4 * (p.parts * p.len4) as usize, 4 * (p.offset + p.len4) as usize]
    }
    fn twin(&self, p: &SumPartialsParams, a: &mut Args) {
        let (part, mut total) = (a.f(0), a.out(1));
        let len = 4 * p.len4 as usize;
        for i in 0..len {
            let terms = || part[i..].iter().step_by(len).take(p.parts as usize);
            total.set(4 * p.offset as usize + i, terms().sum(), terms().map(|t| t.abs()).sum());
        }
    }
    fn tolerance(&self, p: &SumPartialsParams) -> Tolerance {
        Tolerance::Budget { c: 2.0, terms: p.parts.into() }
    }
    fn cases(&self) -> Vec<Case<SumPartialsParams>> {
        let case = |(parts, len4, offset): (u32, u32, u32)| {
            let p = SumPartialsParams { parts, len4, offset };
            Case::new(format!("{parts} parts of {len4} vec4 at {offset}"), p, vec![Fill::Normal(1.0), Fill::Out])
        };
        [(1, 1, 0), (2, 63, 5), (7, 64, 0), (3, 65, 1), (64, 2304, 0)].map(case).to_vec()
    }
    fn cost(&self, p: &SumPartialsParams) -> Cost {
        let part = f64::from(4 * p.len4);
        Cost { flops: part * f64::from(p.parts - 1), bytes: 4.0 * part * f64::from(p.parts + 1) }
    }
    fn subgroup(&self, _: &SumPartialsParams) -> Option<u32> {
        None
    }
}
