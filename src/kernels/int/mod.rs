//! The integer network's kernels: exact, within what any GPU and the browser have, the same bits everywhere.
//!
//! Activations are int8 or uint8, NHWC, four channels a word with the low byte first; filler channels are 0. A convolution ends in
//! its requantization ([`pack::channels`]). All rungs of the convolution have one twin; each says whether it multiplies.

mod cases;
pub mod conv;
pub mod ops;
pub mod pack;

pub use conv::{
    CONV_DIGITS, CONV_DOT, CONV_PAIRS, CONV_PAIRS_SHIFT, CONV_SUBGROUP, CONV_SUBGROUP_SHIFT, IntConvParams, IntRung,
    RUNGS,
};

/// Byte `i` of some words as a number.
pub(crate) fn byte(words: &[u32], i: usize, signed: bool) -> i32 {
    let byte = words[i / 4].to_le_bytes()[i % 4];
    if signed { i32::from(byte as i8) } else { i32::from(byte) }
}

/// Stores a number as byte `i`, clamped to its kind's range.
fn set_byte(words: &mut [u32], i: usize, value: i64, signed: bool) {
    let [low, high] = if signed { [-128, 127] } else { [0, 255] };
    let byte = value.clamp(low, high) as u8;
    let mut bytes = words[i / 4].to_le_bytes();
    bytes[i % 4] = byte;
    words[i / 4] = u32::from_le_bytes(bytes);
}

/// What a digit code (see `shaders/common/digits.wgsl`) stands for.
fn digit(code: u8) -> i64 {
    let size = i64::from(code >> 6 & 1) << (code & 31);
    if code & 128 != 0 { -size } else { size }
}

/// (x + half) >> shift, half up.
fn round_shift(x: i64, shift: u32) -> i64 {
    if shift == 0 { x } else { (x + (1 << (shift - 1))) >> shift }
}
