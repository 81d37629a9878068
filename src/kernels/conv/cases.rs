//! The shapes that every rung must get right.

use super::{ADD, ConvParams, Family, GATE, Rung};
use crate::kernels::{Case, Fill};

/// (images, [h, w, cin], cout, [k, stride, pad]): sizes around the register tiles, odd channels, strides, kernel sizes, paddings.
const SHAPES: &[(u32, [u32; 3], u32, [u32; 3])] = &[
    (2, [8, 8, 16], 16, [3, 1, 1]),
    (1, [9, 9, 8], 12, [3, 1, 1]),
    (3, [7, 15, 3], 8, [3, 1, 1]),
    (2, [16, 17, 16], 32, [3, 2, 1]),
    (2, [9, 8, 4], 20, [3, 2, 1]),
    (2, [8, 8, 16], 32, [1, 2, 0]),
    (1, [7, 9, 12], 4, [1, 1, 0]),
    (1, [18, 17, 3], 8, [7, 2, 3]),
    (1, [9, 9, 4], 4, [7, 1, 3]),
    (1, [1, 1, 4], 4, [3, 1, 1]),
    (1, [5, 5, 5], 6, [3, 1, 0]),
    (2, [6, 6, 4], 4, [3, 1, 2]),
    (1, [5, 6, 4], 8, [5, 1, 2]),
    (1, [11, 10, 4], 4, [3, 3, 1]),
    (1, [24, 24, 4], 4, [9, 1, 4]),
    (5, [4, 4, 64], 64, [3, 1, 1]),
    (3, [2, 257, 4], 4, [3, 1, 1]),
    // Around the gemm rungs' tiles (16, 32, 64 columns; 64 to 256 rows; 8 along the sum), each side of a border, full and ragged.
    (1, [7, 9, 20], 12, [3, 1, 1]),
    (1, [5, 13, 12], 20, [3, 1, 1]),
    (1, [1, 257, 36], 20, [1, 1, 0]),
    (2, [13, 10, 5], 60, [3, 2, 1]),
    (1, [3, 43, 124], 120, [1, 1, 0]),
    (1, [4, 4, 20], 68, [3, 1, 1]),
    (1, [9, 4, 130], 130, [2, 2, 0]),
];

/// More for the subgroup rungs, which need more channels than many of the above have: each stride and kernel size that they unroll
/// differently, rows of one and of many tiles, and as many output channels as fill subgroups of 32 and 64 lanes.
const SUBGROUP_SHAPES: &[(u32, [u32; 3], u32, [u32; 3])] = &[
    (1, [9, 8, 12], 12, [7, 2, 3]),
    (1, [6, 7, 20], 20, [5, 1, 2]),
    (1, [11, 10, 12], 16, [3, 3, 1]),
    (1, [6, 6, 12], 12, [3, 1, 2]),
    (1, [5, 5, 12], 12, [2, 1, 0]),
    (1, [5, 1, 12], 16, [3, 1, 1]),
    (3, [5, 14, 12], 12, [3, 1, 1]),
    (2, [3, 32, 12], 20, [3, 1, 1]),
    (1, [2, 130, 12], 12, [3, 1, 1]),
    (1, [4, 5, 8], 128, [3, 2, 1]),
    (1, [3, 3, 8], 256, [1, 1, 0]),
];

/// The shapes for subgroups of this size.
pub(super) fn all(rung: &Rung, subgroup: u32) -> Vec<Case<ConvParams>> {
    let case = |&(n, input, cout, conv): &(u32, [u32; 3], u32, [u32; 3])| {
        let p = ConvParams {
            offset: 3,
            chunk: 2,
            subgroup,
            packed: rung.packed.into(),
            ..ConvParams::new(n, input, cout, conv)
        };
        let ([h, w, c], [k, stride, pad]) = (input, conv);
        let lanes = if subgroup > 0 { format!(", subgroups of {subgroup}") } else { String::new() };
        let name = format!("{n}x{h}x{w}x{c} to {cout}, {k}x{k} stride {stride} pad {pad}{lanes}");
        let weights = if rung.packed { Fill::Packed } else { Fill::Normal(1.0) };
        let mut fills = vec![Fill::Normal(1.0), weights, Fill::Out];
        if rung.family != Family::BackwardInput {
            return vec![Case::new(name, p, fills)];
        }
        fills.splice(2..2, [Fill::Normal(1.0), Fill::Rectified(1.0)]);
        let kinds = [(0, ""), (ADD, ", skip"), (GATE, ", gate"), (ADD | GATE, ", skip and gate")];
        let with = |(epilogue, what)| Case::new(format!("{name}{what}"), ConvParams { epilogue, ..p }, fills.clone());
        let mut all = kinds.map(with).to_vec();
        if k == 1 {
            fills[3] = Fill::Nans;
            all.push(Case::new(format!("{name}, gated by NaN"), ConvParams { epilogue: GATE, ..p }, fills));
        }
        all
    };
    let more: &[_] = if subgroup > 0 { SUBGROUP_SHAPES } else { &[] };
    SHAPES.iter().chain(more).flat_map(case).collect()
}
