//! No int32 overflows: the bound of every sum in the network, from its constants alone.

use super::digits;
use super::model::{Kind, Weight};

/// The largest int32.
pub const LIMIT: u128 = i32::MAX as u128;

/// What rounding adds before a shift by `shift`.
pub fn half(shift: u32) -> u128 {
    if shift > 0 { 1 << (shift - 1) } else { 0 }
}

/// Σ over a slice of weights of Σ over their digits of 2^shift: what the largest input is multiplied by.
pub fn magnitude(weight: &Weight, range: std::ops::Range<usize>) -> u128 {
    match weight {
        Weight::Int8 { values } => values[range].iter().map(|v| u128::from(digits::magnitude((*v).into()))).sum(),
        Weight::Shift { table, codes, .. } => {
            let level = |index: u8| table[usize::from(index)].map_or(0, |s| 1u128 << s);
            codes[range].iter().map(|c| level(c.index)).sum()
        }
    }
}

/// The largest |acc| of an output channel whose weights have this [`magnitude`].
pub fn accumulator(magnitude: u128, input: Kind) -> u128 {
    magnitude * u128::from(input.max_abs())
}

/// The largest value after (acc + half) >> preshift.
pub fn shifted(largest: u128, preshift: u32) -> u128 {
    (largest + half(preshift)) >> preshift
}

/// The largest partial sum of acc' · multiplier + bias + half, for |acc'| up to `largest`.
pub fn requantized(largest: u128, multiplier: i32, bias: i32, shift: u32) -> u128 {
    largest * u128::from(digits::magnitude(multiplier)) + u128::from(bias.unsigned_abs()) + half(shift)
}

/// How far each side of an addition and its sum are shifted: exponents of both sides and of the output.
pub fn addition([a, b]: [i32; 2], out: i32) -> [u32; 3] {
    let low = a.min(b).min(out);
    [a, b, out].map(|e| e.abs_diff(low))
}

/// The largest partial sum of a residual addition.
pub fn residual(kinds: [Kind; 2], [left, right, out]: [u32; 3]) -> u128 {
    let side = |kind: Kind, shift: u32| u128::from(kind.max_abs()) << shift.min(64);
    side(kinds[0], left) + side(kinds[1], right) + half(out.min(64))
}
