//! Which rung a shape takes before anything was measured: data, in one place.
//!
//! A rung's kind is what its name says behind its family's: `direct` of `conv_forward_direct`.

use super::{ConvParams, Family, Rung, rungs};
use crate::kernels::AnyKernel;

/// Kinds in the order in which they are tried, where a row's conditions hold. Kinds that it does not name come after them, in the
/// family's own order.
struct Row {
    /// The CPU in disguise, or a real GPU.
    software: bool,
    /// Shapes, with the subgroup size in them.
    shapes: fn(Family, &ConvParams) -> bool,
    order: &'static [&'static str],
}

/// The first row that holds decides.
const TABLE: &[Row] = &[
    // Loads cost most there, and workgroup memory is memory like any other.
    Row {
        software: true,
        shapes: |_, _| true,
        order: &["subgroup_packed", "subgroup", "direct_packed", "direct", "gemm"],
    },
    Row {
        software: false,
        shapes: |_, _| true,
        order: &["gemm", "subgroup_packed", "subgroup", "direct_packed", "direct"],
    },
];

/// A family's rungs in the order in which they are tried on a shape; the last fits every shape on every adapter.
pub fn order(family: Family, p: &ConvParams, software: bool) -> Vec<&'static Rung> {
    let row = TABLE.iter().find(|r| r.software == software && (r.shapes)(family, p));
    let order = row.map_or(&[][..], |r| r.order);
    let mut all = rungs(family).to_vec();
    all.sort_by_key(|r| order.iter().position(|k| *k == kind(r)).unwrap_or(order.len()));
    all
}

/// Invocations that keep an adapter busy with a weight gradient, by kind of rung: real GPUs want many more than two CPU cores.
const BUSY: &[(&str, u64)] = &[("gemm", 65_536), ("subgroup", 2_048)];
const BUSY_ELSE: u64 = 4_096;

/// Images in one partial sum of the weight gradient: few enough that this rung has work for all.
pub fn images_per_sum(rung: &Rung, p: &ConvParams) -> u32 {
    let busy = BUSY.iter().find(|(k, _)| *k == kind(rung)).map_or(BUSY_ELSE, |(_, busy)| *busy);
    let one_sum = (rung.items)(&ConvParams { chunk: p.n, ..*p });
    let sums = busy.div_ceil(one_sum).clamp(1, p.n.into());
    p.n.div_ceil(sums as u32)
}

fn kind(rung: &Rung) -> &'static str {
    let name = rung.name();
    name.strip_prefix(rung.family.name()).and_then(|rest| rest.strip_prefix('_')).unwrap_or(name)
}

impl Family {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Forward, Self::BackwardInput, Self::BackwardWeight];

    /// What the names of its rungs start with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "conv_forward",
            Self::BackwardInput => "conv_backward_input",
            Self::BackwardWeight => "conv_backward_weight",
        }
    }

    /// The family and rung of a kernel's name; one that takes statistics along counts as its rung.
    pub fn of(name: &str) -> Option<(Self, &'static Rung)> {
        let mut rungs = Self::ALL.into_iter().flat_map(|f| rungs(f).iter().map(move |r| (f, *r)));
        let fused = |r: &Rung| super::with_statistics(r).is_some_and(|k| k.name() == name);
        rungs.find(|(_, r)| r.name() == name || fused(r))
    }

    /// Family and shape as tuned choices are kept by: all that decides the work, so without the layer's place in its slab.
    pub fn key(self, p: &ConvParams) -> String {
        let ConvParams { n, h, w, cin4, cout4, k, stride, pad, subgroup, .. } = *p;
        let shape = format!("{n}x{h}x{w}x{} to {}, {k}x{k} stride {stride} pad {pad}", 4 * cin4, 4 * cout4);
        let packed = if p.packed > 0 { ", packed" } else { "" };
        format!("{} {shape}, subgroups of {subgroup}{packed}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_holds_every_rung_and_ends_with_one_that_always_fits() {
        let p = ConvParams::new(2, [8, 8, 16], 16, [3, 1, 1]);
        for (family, software) in Family::ALL.into_iter().flat_map(|f| [(f, true), (f, false)]) {
            let order = order(family, &p, software);
            assert_eq!(order.len(), rungs(family).len());
            let last = order.last().expect("a rung");
            assert!(last.fits(&ConvParams::new(1, [1, 1, 1], 1, [1, 1, 0])), "{}", last.name());
            assert!(
                order.iter().all(|r| kind(r) != r.name() && Family::of(r.name()).is_some_and(|(f, _)| f == family))
            );
        }
    }

    #[test]
    fn keys_tell_shapes_apart_and_not_places() {
        let p = ConvParams::new(2, [8, 8, 16], 16, [3, 1, 1]);
        assert_eq!(Family::Forward.key(&p), Family::Forward.key(&ConvParams { offset: 9, ..p }));
        let others = [
            ConvParams { n: 3, ..p },
            ConvParams { subgroup: 8, ..p },
            ConvParams { pad: 0, ..p },
            ConvParams { packed: 1, ..p },
        ];
        for other in others {
            assert_ne!(Family::Forward.key(&p), Family::Forward.key(&other));
        }
        assert_ne!(Family::Forward.key(&p), Family::BackwardInput.key(&p));
    }
}
