//! The shapes, levels and constants that every integer rung must get right.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::pack::{Weights, channels, terms};
use super::{IntConvParams, IntRung};
use crate::kernels::{Case, Fill};

/// (images, [h, w, cin], cout, [k, stride, pad]): around the register tiles, odd channels, strides, kernel sizes, paddings.
const SHAPES: &[(u32, [u32; 3], u32, [u32; 3])] = &[
    (2, [8, 8, 16], 16, [3, 1, 1]),
    (1, [9, 9, 8], 12, [3, 1, 1]),
    (3, [7, 15, 3], 8, [3, 1, 1]),
    (2, [16, 17, 16], 32, [3, 2, 1]),
    (2, [8, 8, 16], 32, [1, 2, 0]),
    (1, [18, 17, 3], 6, [7, 2, 3]),
    (1, [1, 1, 4], 4, [3, 1, 1]),
    (1, [5, 5, 5], 6, [3, 1, 0]),
    (1, [6, 6, 4], 20, [3, 1, 2]),
    (2, [4, 4, 64], 64, [3, 1, 1]),
    (3, [2, 65, 4], 4, [3, 1, 1]),
    (2, [5, 18, 12], 36, [5, 1, 2]),
];

/// Magnitudes: of S3 at 3 bits, ternary, an int8 stem, DeepShift at 4 bits, one whose levels no int8 holds.
const LEVELS: &[(&str, &[i32])] = &[
    ("0 to 4", &[0, 1, 2, 4]),
    ("ternary", &[0, 1]),
    ("int8", &[0, 3, 5, 27, 45, 85, 100, 127]),
    ("two digits", &[0, 1, 3, 5, 7]),
    ("powers to 64", &[1, 2, 4, 8, 16, 32, 64]),
    ("powers to 4096", &[0, 1, 64, 4096]),
];

/// Weights with these magnitudes and multipliers of `digits` digits whose results neither all saturate nor all vanish.
fn case(
    rung: &IntRung,
    &(n, input, cout, conv): &(u32, [u32; 3], u32, [u32; 3]),
    (what, levels): (&str, &[i32]),
    [signed_x, signed_y]: [bool; 2],
    preshift: u32,
    subgroup: u32,
) -> Option<Case<IntConvParams>> {
    let ([h, w, cin], [k, stride, pad]) = (input, conv);
    let sign = |signed| if signed { "int8" } else { "uint8" };
    let lanes = if subgroup > 0 { format!(", subgroups of {subgroup}") } else { String::new() };
    let name = format!(
        "{n}x{h}x{w}x{cin} to {cout}, {k}x{k} stride {stride} pad {pad}, {what}, {} to {}, pre-shift {preshift}{lanes}",
        sign(signed_x),
        sign(signed_y)
    );
    let mut rng = ChaCha8Rng::from_seed(Sha256::digest(&name).into());
    let (taps, cin_, cout_) = ((k * k) as usize, cin as usize, cout as usize);
    let weight = |rng: &mut ChaCha8Rng| {
        let size = levels[rng.random_range(0..levels.len())];
        if rng.random() { -size } else { size }
    };
    let values: Vec<i32> = (0..cout_ * taps * cin_).map(|_| weight(&mut rng)).collect();
    let weights = Weights { values, cout: cout_, taps, cin: cin_ };
    let params = IntConvParams {
        preshift,
        signed_x: signed_x.into(),
        signed_y: signed_y.into(),
        subgroup,
        ..IntConvParams::new(n, input, cout, conv)
    };
    let prepared = rung.prepare(&weights, &params)?;
    // A dead channel, and otherwise any multiplier below 2^8: up to five digits.
    let multiplier: Vec<i32> = (0..cout_).map(|c| if c == 2 { 0 } else { rng.random_range(-255..256) }).collect();
    let typical = |c: usize| {
        let row = &weights.values[c * taps * cin_..][..taps * cin_];
        let power: f64 = row.iter().map(|w| f64::from(*w) * f64::from(*w)).sum();
        (90.0 * power.sqrt() / f64::from(1 << preshift) * f64::from(multiplier[c].abs())).max(1.0)
    };
    let shift: Vec<u32> = (0..cout_).map(|c| (typical(c) / 80.0).log2().round().clamp(1.0, 20.0) as u32).collect();
    let bias: Vec<i32> = (0..cout_).map(|c| rng.random_range(-64..64) << shift[c]).collect();
    let (planes, flush) = (prepared.planes, prepared.flush);
    let params = IntConvParams { planes, flush, terms: terms(&multiplier), ..params };
    let channels = channels(&multiplier, &bias, &shift, &prepared.start);
    let fills = vec![Fill::Words, Fill::Table(prepared.words), Fill::Table(channels), Fill::Out];
    Some(Case::new(name, params, fills))
}

/// All shapes at the first levels, and all levels, kinds and a pre-shift at a few shapes; those that the rung can hold.
pub(super) fn all(rung: &IntRung, subgroup: u32) -> Vec<Case<IntConvParams>> {
    let one = |shape, levels, kinds, preshift| case(rung, shape, levels, kinds, preshift, subgroup);
    let mut all: Vec<_> = SHAPES.iter().filter_map(|s| one(s, LEVELS[0], [false, false], 0)).collect();
    for levels in LEVELS {
        for (i, kinds) in [[true, false], [false, true], [true, true]].into_iter().enumerate() {
            all.extend(one(&SHAPES[1 + i], *levels, kinds, i as u32));
        }
    }
    all
}
