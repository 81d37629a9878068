//! Integer convolution with its requantization: one twin, rungs that differ in how they add up.

use super::pack::{CHANNEL_WORDS, Weights};
use super::{byte, digit, round_shift, set_byte};
use crate::kernels::kernel::{read_u32, write_u32};
use crate::kernels::{Args, Binding, Case, Const, Cost, Kernel, Source, Tolerance, groups_for};

crate::params! {
    /// Shape of an integer convolution and what all its channels share.
    pub struct IntConvParams {
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
        /// Digits of a weight, or output channels in a weight word: as the rung's [`Coding`] has it.
        planes: u32,
        /// Steps whose products a 16-bit sum holds, for rungs that have such: [`Weights::flush`].
        flush: u32,
        /// Pre-shift of the sums.
        preshift: u32,
        /// Most digits of a multiplier, at most 5.
        terms: u32,
        /// 1: the input is int8, 0: uint8.
        signed_x: u32,
        /// 1: the output is int8, 0: uint8.
        signed_y: u32,
        /// Lanes of a subgroup; 0 where the adapter has none of a fixed size.
        subgroup: u32,
    }
}

impl IntConvParams {
    /// A convolution of `n` images [h, w, cin] to `cout` channels; the rung adds the rest.
    pub fn new(n: u32, [h, w, cin]: [u32; 3], cout: u32, [k, stride, pad]: [u32; 3]) -> Self {
        let out = |size: u32| (size + 2 * pad - k) / stride + 1;
        let (cin4, cout4) = (cin.div_ceil(4), cout.div_ceil(4));
        let (oh, ow) = (out(h), out(w));
        Self { n, h, w, cin4, oh, ow, cout4, k, stride, pad, planes: 1, flush: 1, ..Default::default() }
    }
    fn steps(&self) -> usize {
        [self.k, self.k, self.cin4].map(|v| v as usize).iter().product()
    }
    pub(crate) fn input(&self) -> usize {
        [self.n, self.h, self.w, self.cin4].map(|v| v as usize).iter().product()
    }
    pub(crate) fn output(&self) -> usize {
        [self.n, self.oh, self.ow, self.cout4].map(|v| v as usize).iter().product()
    }
    /// Runs of so many output pixels of a row, in all images.
    pub(crate) fn runs(&self, pixels: u32) -> u64 {
        u64::from(self.n) * u64::from(self.oh) * u64::from(self.ow.div_ceil(pixels))
    }
    fn weights(&self, rung: &IntRung) -> usize {
        let (cout4, planes) = (self.cout4 as usize, self.planes as usize);
        let vecs = match rung.coding {
            Coding::Digits | Coding::PairDigits => cout4 * planes,
            Coding::Pairs | Coding::Dot => cout4,
            Coding::Halves => 16 * cout4.div_ceil(4) / planes,
            Coding::BlockDigits => 4 * cout4.div_ceil(4) * planes,
        };
        4 * self.steps() * vecs
    }
    /// Taps of a row that subgroup rungs compute at once; one where subgroups are narrow, since such adapters (SwiftShader) compile long
    /// blocks slowly.
    fn block(&self) -> usize {
        if self.k <= 3 && self.subgroup > 4 { self.k as usize } else { 1 }
    }
}

/// How a rung's weights are written, and what its sums start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Signed binary digits.
    Digits,
    /// int8 times uint8, sums of 16 bits.
    Pairs,
    /// Signed binary digits of an int8 times uint8, sums of 16 bits.
    PairDigits,
    /// int8 times int8.
    Dot,
    /// One or two output channels in a word, times uint8; sums of 16 bits where there are two.
    Halves,
    /// As [`Coding::PairDigits`], in blocks of 16 output channels.
    BlockDigits,
}

/// One shader of the integer convolution.
pub struct IntRung {
    /// The shader.
    pub source: Source,
    /// Whether it multiplies. The network's arithmetic does not, but a kernel may where that is faster.
    pub multiplies: bool,
    /// How it wants its weights.
    pub coding: Coding,
    /// Its constants for a shape.
    pub consts: fn(&IntConvParams) -> Vec<Const>,
    /// Invocations for a shape.
    pub items: fn(&IntConvParams) -> u64,
    /// Whether it is compiled for subgroups of [`IntConvParams::subgroup`] lanes; such rungs are native.
    pub subgroups: bool,
}

/// A layer's weights as a rung wants them.
pub struct Prepared {
    /// [`IntConvParams::planes`].
    pub planes: u32,
    /// [`IntConvParams::flush`].
    pub flush: u32,
    /// The weight buffer.
    pub words: Vec<u32>,
    /// What the sums of each output channel start from.
    pub start: Vec<i32>,
}

impl IntRung {
    /// The weights for a shape and its kinds; none where the rung cannot hold them, or the adapter lacks what it needs.
    pub fn prepare(&self, weights: &Weights, p: &IntConvParams) -> Option<Prepared> {
        let sums = |factor: i32| weights.sums().iter().map(|s| factor.wrapping_mul(*s)).collect();
        let zeros = || vec![0; weights.cout];
        // x + 128 for an int8 x.
        let as_uint8 = || if p.signed_x == 1 { sums(-128) } else { zeros() };
        match self.coding {
            Coding::Digits => {
                let (planes, words) = weights.digits();
                Some(Prepared { planes, flush: 1, words, start: zeros() })
            }
            Coding::Pairs => {
                Some(Prepared { planes: 1, flush: weights.flush(1)?, words: weights.int8()?, start: as_uint8() })
            }
            Coding::PairDigits => {
                let (planes, words) = weights.digits();
                Some(Prepared { planes, flush: weights.flush(1)?, words, start: as_uint8() })
            }
            // x − 128 for a uint8 x.
            Coding::Dot => {
                let start = if p.signed_x == 1 { zeros() } else { sums(128) };
                Some(Prepared { planes: 1, flush: 1, words: weights.int8()?, start })
            }
            // Fewer than nine channels would leave most of a block of 16 idle.
            Coding::Halves | Coding::BlockDigits if p.subgroup == 0 || p.cout4 < 3 => None,
            Coding::Halves => {
                let (planes, flush) = weights.flush(p.block()).map_or((1, u32::MAX), |flush| (2, flush));
                Some(Prepared { planes, flush, words: weights.halves(planes == 2), start: as_uint8() })
            }
            Coding::BlockDigits => {
                let (planes, words) = weights.block_digits();
                Some(Prepared { planes, flush: weights.flush(p.block())?, words, start: as_uint8() })
            }
        }
    }

    /// A weight from its buffer.
    fn weight(&self, p: &IntConvParams, words: &[u32], co: usize, tap: usize, ci: usize) -> i64 {
        let (cin4, cout4, planes) = (p.cin4 as usize, p.cout4 as usize, p.planes as usize);
        let (step, lane) = (tap * cin4 + ci / 4, co % 4);
        let at = step * cout4 + co / 4;
        match self.coding {
            Coding::Digits | Coding::PairDigits => {
                let plane = |d: usize| words[4 * (at * planes + d) + lane].to_le_bytes()[ci % 4];
                (0..planes).map(|d| digit(plane(d))).sum()
            }
            Coding::Pairs | Coding::Dot => byte(words, 4 * (4 * at + lane) + ci % 4, true).into(),
            Coding::BlockDigits => {
                let at = (step * cout4.div_ceil(4) + co / 16) * planes;
                let plane = |d: usize| words[16 * (at + d) + co % 16].to_le_bytes()[ci % 4];
                (0..planes).map(|d| digit(plane(d))).sum()
            }
            Coding::Halves => {
                let (vecs, vec) = (4 / planes, co / 4 % 4);
                let word =
                    words[4 * (((step * cout4.div_ceil(4) + co / 16) * 4 + ci % 4) * vecs + vec / planes) + lane];
                let low = word as i16;
                match (planes, vec % 2) {
                    (1, _) => (word as i32).into(),
                    (_, 0) => low.into(),
                    _ => i64::from((word as i32).wrapping_sub(low.into()) >> 16),
                }
            }
        }
    }
}

fn tiles(p: &IntConvParams, pixels: u32, blocks: u32) -> u64 {
    p.runs(pixels) * u64::from(p.cout4.div_ceil(blocks))
}

/// Readable, and without multiplication: each digit of each weight shifts and adds.
pub static CONV_DIGITS: IntRung = IntRung {
    source: crate::wgsl!("int/int_conv_digits"; "grid", "bytes", "digits", "requantize"),
    multiplies: false,
    coding: Coding::Digits,
    consts: |_| Vec::new(),
    items: |p| tiles(p, 4, 1),
    subgroups: false,
};

/// Two sums in a word, multiplied.
pub static CONV_PAIRS: IntRung = IntRung {
    source: crate::wgsl!("int/int_conv_pairs"; "grid", "bytes", "digits", "requantize", "conv_pairs"),
    multiplies: true,
    coding: Coding::Pairs,
    consts: |p| vec![("BLOCKS", blocks(p))],
    items: |p| tiles(p, 8, blocks(p)),
    subgroups: false,
};

/// Two sums in a word, shifted: no multiplication.
pub static CONV_PAIRS_SHIFT: IntRung = IntRung {
    source: crate::wgsl!("int/int_conv_pairs_shift"; "grid", "bytes", "digits", "requantize", "conv_pairs"),
    multiplies: false,
    coding: Coding::PairDigits,
    consts: |p| vec![("BLOCKS", 2), ("PLANES", p.planes)],
    items: |p| tiles(p, 8, 2),
    subgroups: false,
};

/// Four products at a time.
pub static CONV_DOT: IntRung = IntRung {
    source: crate::wgsl!("int/int_conv_dot"; "grid", "bytes", "digits", "requantize"),
    multiplies: true,
    coding: Coding::Dot,
    consts: |_| Vec::new(),
    items: |p| tiles(p, 8, 2),
    subgroups: false,
};

/// Two sums in a word, multiplied, weights handed round in a subgroup; one sum in a word where the weights are too large for two.
pub static CONV_SUBGROUP: IntRung = IntRung {
    source: crate::wgsl!("int/int_conv_subgroup"; "grid", "bytes", "digits", "requantize"),
    multiplies: true,
    coding: Coding::Halves,
    consts: |p| {
        let (halves, block) = (p.planes, p.block() as u32);
        let (pixels, vecs) = (4 * halves, 4 / halves);
        let lanes = p.subgroup.clamp(1, 4 * vecs);
        vec![
            ("SUBGROUP", p.subgroup),
            ("STRIDE", p.stride),
            ("BLOCK", block),
            ("COLS", (pixels - 1) * p.stride + block),
            ("HALVES", halves),
            ("PIXELS", pixels),
            ("VECS", vecs),
            ("FETCH", lanes),
            ("LOADS", 4 * vecs / lanes),
        ]
    },
    items: |p| 64 * p.runs(4 * p.planes).div_ceil(64) * u64::from(p.cout4.div_ceil(4)),
    subgroups: true,
};

/// Two sums in a word, shifted, weights handed round in a subgroup: no multiplication.
pub static CONV_SUBGROUP_SHIFT: IntRung = IntRung {
    source: crate::wgsl!("int/int_conv_subgroup_shift"; "grid", "bytes", "digits", "requantize"),
    multiplies: false,
    coding: Coding::BlockDigits,
    consts: |p| {
        let (block, lanes) = (p.block() as u32, p.subgroup.clamp(1, 16));
        vec![
            ("SUBGROUP", p.subgroup),
            ("STRIDE", p.stride),
            ("BLOCK", block),
            ("COLS", 7 * p.stride + block),
            ("PLANES", p.planes),
            ("FETCH", lanes),
            ("LOADS", 16 / lanes),
        ]
    },
    items: |p| 64 * p.runs(8).div_ceil(64) * u64::from(p.cout4.div_ceil(4)),
    subgroups: true,
};

/// Vec4 of output channels of one invocation.
fn blocks(p: &IntConvParams) -> u32 {
    if p.cout4.is_multiple_of(4) { 4 } else { 2 }
}

/// Every rung.
pub static RUNGS: [&IntRung; 6] =
    [&CONV_DIGITS, &CONV_PAIRS_SHIFT, &CONV_PAIRS, &CONV_DOT, &CONV_SUBGROUP, &CONV_SUBGROUP_SHIFT];

/// Outputs of some channels, in 64 bits.
pub(crate) fn twin(
    p: &IntConvParams,
    [x, channels]: [&[u32]; 2],
    y: &mut [u32],
    outputs: std::ops::Range<usize>,
    weight: impl Fn(usize, usize, usize) -> i64,
) {
    let [n, h, w, oh, ow, k] = [p.n, p.h, p.w, p.oh, p.ow, p.k].map(|v| v as usize);
    let [stride, pad, cin, cout] = [p.stride, p.pad, 4 * p.cin4, 4 * p.cout4].map(|v| v as usize);
    for co in outputs {
        let taps = (0..k * k).flat_map(|tap| (0..cin).map(move |ci| (tap, ci)));
        let weights: Vec<i64> = taps.map(|(tap, ci)| weight(co, tap, ci)).collect();
        let word = |row: usize| channels[CHANNEL_WORDS * (co / 4) + 4 * row + co % 4];
        let multiplier: i64 = word(0).to_le_bytes().iter().chain([&(word(1) as u8)]).map(|code| digit(*code)).sum();
        for pixel in 0..n * oh * ow {
            let [ox, oy, image] = [pixel % ow, pixel / ow % oh, pixel / (ow * oh)];
            let mut acc = 0;
            for (tap, weights) in weights.chunks_exact(cin).enumerate() {
                let (iy, ix) = ((oy * stride + tap / k).checked_sub(pad), (ox * stride + tap % k).checked_sub(pad));
                let (Some(iy), Some(ix)) = (iy.filter(|y| *y < h), ix.filter(|x| *x < w)) else { continue };
                let first = ((image * h + iy) * w + ix) * cin;
                let value = |ci: usize| i64::from(byte(x, first + ci, p.signed_x == 1));
                acc += weights.iter().enumerate().map(|(ci, w)| w * value(ci)).sum::<i64>();
            }
            let q = (round_shift(acc, p.preshift) * multiplier + i64::from(word(2) as i32)) >> word(3);
            set_byte(y, pixel * cout + co, q, p.signed_y == 1);
        }
    }
}

impl Kernel for IntRung {
    type Params = IntConvParams;
    fn source(&self) -> Source {
        self.source
    }
    fn bindings(&self) -> &'static [Binding] {
        const { &[read_u32("x"), read_u32("weight"), read_u32("channels"), write_u32("y")] }
    }
    fn consts(&self, p: &IntConvParams) -> Vec<Const> {
        (self.consts)(p)
    }
    fn groups(&self, p: &IntConvParams) -> u64 {
        groups_for((self.items)(p))
    }
    fn lens(&self, p: &IntConvParams) -> Vec<usize> {
        vec![p.input(), p.weights(self), CHANNEL_WORDS * p.cout4 as usize, p.output()]
    }
    fn twin(&self, p: &IntConvParams, a: &mut Args) {
        let (x, weight, channels, y) = (a.u(0), a.u(1), a.u(2), a.out_u32(3));
        let weight = |co: usize, tap: usize, ci: usize| self.weight(p, weight, co, tap, ci);
        twin(p, [x, channels], y, 0..4 * p.cout4 as usize, weight);
    }
    fn tolerance(&self, _: &IntConvParams) -> Tolerance {
        Tolerance::Exact
    }
    fn cases(&self) -> Vec<Case<IntConvParams>> {
        let sizes: &[u32] = if self.subgroups { &[4, 8, 16, 32, 64] } else { &[0] };
        sizes.iter().flat_map(|size| super::cases::all(self, *size)).collect()
    }
    fn cost(&self, p: &IntConvParams) -> Cost {
        let products = p.runs(1) as f64 * (16 * p.steps()) as f64 * f64::from(p.cout4);
        Cost { flops: 2.0 * products, bytes: 4.0 * (p.input() + p.weights(self) + p.output()) as f64 }
    }
    fn subgroup(&self, p: &IntConvParams) -> Option<u32> {
        self.subgroups.then_some(p.subgroup)
    }
}
