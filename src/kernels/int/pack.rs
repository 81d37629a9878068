//! How a convolution's constants lie in its buffers, and the proof behind sums of 16 bits.

use crate::int::digits::{Digit, digits};

/// Words of [`channels`] for every four output channels.
pub const CHANNEL_WORDS: usize = 20;
/// Largest |sum| below 0 and above that 16 bits hold.
pub(crate) const HALF_LOW: i64 = 1 << 15;
pub(crate) const HALF_HIGH: i64 = HALF_LOW - 1;

/// A digit as a byte: shift in bits 0 to 4, bit 6 set, bit 7 the sign.
fn code(digit: &Digit) -> u8 {
    0x40 | digit.shift as u8 | u8::from(digit.negative) << 7
}

/// A constant's digits, the lowest first, then zeros.
fn codes(value: i32) -> [u8; 8] {
    let mut all = [0; 8];
    all.iter_mut().zip(digits(value).iter()).for_each(|(to, d)| *to = code(d));
    all
}

/// Four digits of an int8 as a word: the classifier's weights.
pub fn int8_digits(value: i8) -> u32 {
    let [a, b, c, d, ..] = codes(value.into());
    u32::from_le_bytes([a, b, c, d])
}

/// int8 numbers, four to a word.
pub fn bytes(values: &[i8]) -> Vec<u32> {
    let word = |four: &[i8]| {
        let mut bytes = [0; 4];
        bytes.iter_mut().zip(four).for_each(|(to, v)| *to = *v as u8);
        u32::from_le_bytes(bytes)
    };
    values.chunks(4).map(word).collect()
}

/// A layer's weights as numbers.
#[derive(Clone, Debug)]
pub struct Weights {
    /// [Cout, k·k, Cin].
    pub values: Vec<i32>,
    /// Output channels.
    pub cout: usize,
    /// k·k.
    pub taps: usize,
    /// Input channels.
    pub cin: usize,
}

impl Weights {
    /// The weight, 0 for filler channels.
    pub(crate) fn at(&self, co: usize, tap: usize, ci: usize) -> i32 {
        let inside = co < self.cout && ci < self.cin;
        if inside { self.values[(co * self.taps + tap) * self.cin + ci] } else { 0 }
    }

    /// [k·k, cin4, cout4, planes] vec4, lanes output channels, bytes input channels.
    fn pack(&self, planes: usize, byte: impl Fn(i32, usize) -> u8) -> Vec<u32> {
        let (cin4, cout4) = (self.cin.div_ceil(4), self.cout.div_ceil(4));
        let mut words = Vec::with_capacity(4 * self.taps * cin4 * cout4 * planes);
        for tap in 0..self.taps {
            for (ci4, co4) in (0..cin4).flat_map(|ci| (0..cout4).map(move |co| (ci, co))) {
                for (plane, lane) in (0..planes).flat_map(|p| (0..4).map(move |l| (p, l))) {
                    let one = |j: usize| byte(self.at(4 * co4 + lane, tap, 4 * ci4 + j), plane);
                    words.push(u32::from_le_bytes([one(0), one(1), one(2), one(3)]));
                }
            }
        }
        words
    }

    /// As int8, where all fit.
    pub fn int8(&self) -> Option<Vec<u32>> {
        let fits = self.values.iter().all(|v| i8::try_from(*v).is_ok());
        fits.then(|| self.pack(1, |v, _| v as u8))
    }

    /// Most digits of a weight, at least 1.
    fn planes(&self) -> usize {
        self.values.iter().map(|v| digits(*v).len()).max().unwrap_or(0).max(1)
    }

    /// As digit codes, and how many a weight has.
    pub fn digits(&self) -> (u32, Vec<u32>) {
        let planes = self.planes();
        (planes as u32, self.pack(planes, |v, plane| codes(v)[plane]))
    }

    /// As words [k·k, cin4, cout4 / 4, 4 ci] of vec4, lanes output channels: all four vec4 of a block of 16 channels, or two of w0 +
    /// (w1 << 16) with w1 four channels on.
    pub fn halves(&self, two: bool) -> Vec<u32> {
        let (cin4, blocks, step) = (self.cin.div_ceil(4), self.cout.div_ceil(16), if two { 2 } else { 1 });
        let mut words = Vec::with_capacity(64 / step * self.taps * cin4 * blocks);
        for (tap, ci4) in (0..self.taps).flat_map(|tap| (0..cin4).map(move |ci| (tap, ci))) {
            for (block, ci) in (0..blocks).flat_map(|block| (0..4).map(move |j| (block, 4 * ci4 + j))) {
                for (vec, lane) in (0..4).step_by(step).flat_map(|v| (0..4).map(move |l| (v, l))) {
                    let co = 16 * block + 4 * vec + lane;
                    let high = if two { self.at(co + 4, tap, ci) << 16 } else { 0 };
                    words.push(self.at(co, tap, ci).wrapping_add(high) as u32);
                }
            }
        }
        words
    }

    /// Digit codes as words [k·k, cin4, cout / 16, planes, 16 co], bytes input channels, and how many digits a weight has.
    pub fn block_digits(&self) -> (u32, Vec<u32>) {
        let planes = self.planes();
        let (cin4, blocks) = (self.cin.div_ceil(4), self.cout.div_ceil(16));
        let mut words = Vec::with_capacity(16 * self.taps * cin4 * blocks * planes);
        for (tap, ci4) in (0..self.taps).flat_map(|tap| (0..cin4).map(move |ci| (tap, ci))) {
            for (block, plane) in (0..blocks).flat_map(|block| (0..planes).map(move |p| (block, p))) {
                for co in 16 * block..16 * (block + 1) {
                    let code = |j: usize| codes(self.at(co, tap, 4 * ci4 + j))[plane];
                    words.push(u32::from_le_bytes([0, 1, 2, 3].map(code)));
                }
            }
        }
        (planes as u32, words)
    }

    /// Σ w of each output channel.
    pub fn sums(&self) -> Vec<i32> {
        self.values
            .chunks_exact(self.taps * self.cin)
            .map(|w| w.iter().fold(0, |a: i32, w| a.wrapping_add(*w)))
            .collect()
    }

    /// The largest number of steps whose products with uint8 inputs a 16-bit sum holds in every output channel and in every run that
    /// starts at a multiple of it; none where not even one is held. A step is the vec4 of `block` neighbouring taps (a divisor of k);
    /// steps count through [k·k / block, cin4].
    ///
    /// Inputs are 0 to 255, so that a sum is never above 255 times the positive weights nor below 255 times the negative ones; this
    /// holds for its partial sums too.
    pub fn flush(&self, block: usize) -> Option<u32> {
        let cin4 = self.cin.div_ceil(4);
        let steps = self.taps / block * cin4;
        let holds = |run: usize| {
            (0..self.cout).all(|co| {
                (0..steps).step_by(run).all(|first| {
                    let steps = first..(first + run).min(steps);
                    let taps = steps.flat_map(|s| (0..block).map(move |t| (s / cin4 * block + t, s % cin4)));
                    let weights = taps.flat_map(|(tap, ci4)| (0..4).map(move |j| self.at(co, tap, 4 * ci4 + j)));
                    let add = |[up, down]: [i64; 2], w: i64| [up + w.max(0), down - w.min(0)];
                    let [up, down] = weights.map(i64::from).fold([0, 0], add);
                    255 * up <= HALF_HIGH && 255 * down <= HALF_LOW
                })
            })
        };
        let mut runs: Vec<_> = (1..=steps).map(|count| steps.div_ceil(count)).collect();
        runs.dedup();
        runs.into_iter().find(|run| holds(*run)).map(|run| run as u32)
    }
}

/// What follows the sums, five vec4 for every four output channels: four digits of M_c, one more, B_c + 2^(n_c − 1), n_c, and `start`.
///
/// The numbers of filler channels make their outputs 0.
pub fn channels(multiplier: &[i32], bias: &[i32], shift: &[u32], start: &[i32]) -> Vec<u32> {
    let count = multiplier.len();
    let mut words = Vec::with_capacity(CHANNEL_WORDS * count.div_ceil(4));
    for first in (0..count).step_by(4) {
        let lanes = |of: &dyn Fn(usize) -> u32| [0, 1, 2, 3].map(|l| if first + l < count { of(first + l) } else { 0 });
        words.extend(lanes(&|c| {
            let [a, b, c, d, ..] = codes(multiplier[c]);
            u32::from_le_bytes([a, b, c, d])
        }));
        words.extend(lanes(&|c| codes(multiplier[c])[4].into()));
        words.extend(lanes(&|c| bias[c].wrapping_add(1 << (shift[c] - 1)) as u32));
        words.extend(lanes(&|c| shift[c]));
        words.extend(lanes(&|c| start[c] as u32));
    }
    words
}

/// Most digits of a multiplier.
pub fn terms(multiplier: &[i32]) -> u32 {
    multiplier.iter().map(|m| digits(*m).len() as u32).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(values: Vec<i32>) -> Weights {
        Weights { cout: 1, taps: 1, cin: values.len(), values }
    }

    #[test]
    fn runs_end_before_a_sum_can_overflow() {
        // Σ+ = 128: 255·128 = 32,640 fits; one more does not.
        assert_eq!(weights(vec![32; 4]).flush(1), Some(1));
        assert_eq!(weights(vec![32, 32, 32, 33]).flush(1), None);
        assert_eq!(weights([[16; 8], [16; 8]].concat()).flush(1), Some(2));
        // Positive and negative weights count apart.
        assert_eq!(weights([[32; 4], [-32; 4]].concat()).flush(1), Some(2));
        assert_eq!(weights([[32; 4], [-32; 4], [1; 4]].concat()).flush(1), Some(2));
        // Five vec4 in runs of two fit, of three do not.
        assert_eq!(weights(vec![15; 20]).flush(1), Some(2));
        // The worst inputs reach the bound and stay within.
        let worst = |w: &[i32]| w.iter().map(|w| 255 * w).sum::<i32>();
        assert!(i16::try_from(worst(&[32; 4])).is_ok() && i16::try_from(worst(&[32, 32, 32, 33])).is_err());
    }

    #[test]
    fn digits_come_back() {
        for value in -128..=127i8 {
            let found = int8_digits(value).to_le_bytes().map(super::super::digit);
            assert_eq!(found.iter().sum::<i64>(), i64::from(value));
        }
        for value in -255..=255 {
            assert_eq!(codes(value)[..5].iter().map(|c| super::super::digit(*c)).sum::<i64>(), i64::from(value));
            assert_eq!(codes(value)[5..], [0; 3]);
        }
    }
}
