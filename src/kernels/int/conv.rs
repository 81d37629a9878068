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
        /// Digits of a weight, for rungs that read digits.
        planes: u32,
        /// Vec4 of weights that a 16-bit sum holds, for rungs that have such: [`Weights::flush`].
        flush: u32,
        /// Pre-shift of the sums.
        preshift: u32,
        /// Most digits of a multiplier, at most 5.
        terms: u32,
        /// 1: the input is int8, 0: uint8.
        signed_x: u32,
        /// 1: the output is int8, 0: uint8.
        signed_y: u32,
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
        (self.k * self.k * self.cin4) as usize
    }
    pub(crate) fn input(&self) -> usize {
        self.n as usize * (self.h * self.w * self.cin4) as usize
    }
    pub(crate) fn output(&self) -> usize {
        self.n as usize * (self.oh * self.ow * self.cout4) as usize
    }
    fn weights(&self, rung: &IntRung) -> usize {
        let digits = matches!(rung.coding, Coding::Digits | Coding::PairDigits);
        let planes = if digits { self.planes as usize } else { 1 };
        4 * self.steps() * self.cout4 as usize * planes
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
    /// The weights for an input of this kind; none where the rung cannot hold them.
    pub fn prepare(&self, weights: &Weights, signed_x: bool) -> Option<Prepared> {
        let sums = |factor: i32| weights.sums().iter().map(|s| factor.wrapping_mul(*s)).collect();
        let zeros = || vec![0; weights.cout];
        match self.coding {
            Coding::Digits => {
                let (planes, words) = weights.digits();
                Some(Prepared { planes, flush: 1, words, start: zeros() })
            }
            // x + 128 for an int8 x.
            Coding::Pairs => {
                let start = if signed_x { sums(-128) } else { zeros() };
                Some(Prepared { planes: 1, flush: weights.flush()?, words: weights.int8()?, start })
            }
            Coding::PairDigits => {
                let (planes, words) = weights.digits();
                let start = if signed_x { sums(-128) } else { zeros() };
                Some(Prepared { planes, flush: weights.flush()?, words, start })
            }
            // x − 128 for a uint8 x.
            Coding::Dot => {
                let start = if signed_x { zeros() } else { sums(128) };
                Some(Prepared { planes: 1, flush: 1, words: weights.int8()?, start })
            }
        }
    }

    /// Weight `w` of the buffer's vec4 `at`, lane `co`.
    fn weight(&self, p: &IntConvParams, words: &[u32], at: usize, lane: usize, ci: usize) -> i64 {
        match self.coding {
            Coding::Digits | Coding::PairDigits => {
                let plane = |d: usize| words[4 * (at * p.planes as usize + d) + lane].to_le_bytes()[ci];
                (0..p.planes as usize).map(|d| digit(plane(d))).sum()
            }
            Coding::Pairs | Coding::Dot => byte(words, 4 * (4 * at + lane) + ci, true).into(),
        }
    }
}

fn tiles(p: &IntConvParams, pixels: u32, blocks: u32) -> u64 {
    u64::from(p.n * p.oh * p.ow.div_ceil(pixels)) * u64::from(p.cout4.div_ceil(blocks))
}

/// Readable, and without multiplication: each digit of each weight shifts and adds.
pub static CONV_DIGITS: IntRung = IntRung {
    source: crate::wgsl!("int/int_conv_digits"; "grid", "bytes", "digits", "requantize"),
    multiplies: false,
    coding: Coding::Digits,
    consts: |_| Vec::new(),
    items: |p| tiles(p, 4, 1),
};

/// Two sums in a word, multiplied.
pub static CONV_PAIRS: IntRung = IntRung {
    source: crate::wgsl!("int/int_conv_pairs"; "grid", "bytes", "digits", "requantize", "conv_pairs"),
    multiplies: true,
    coding: Coding::Pairs,
    consts: |p| vec![("BLOCKS", blocks(p))],
    items: |p| tiles(p, 8, blocks(p)),
};

/// Two sums in a word, shifted: no multiplication.
pub static CONV_PAIRS_SHIFT: IntRung = IntRung {
    source: crate::wgsl!("int/int_conv_pairs_shift"; "grid", "bytes", "digits", "requantize", "conv_pairs"),
    multiplies: false,
    coding: Coding::PairDigits,
    consts: |p| vec![("BLOCKS", 2), ("PLANES", p.planes)],
    items: |p| tiles(p, 8, 2),
};

/// Four products at a time.
pub static CONV_DOT: IntRung = IntRung {
    source: crate::wgsl!("int/int_conv_dot"; "grid", "bytes", "digits", "requantize"),
    multiplies: true,
    coding: Coding::Dot,
    consts: |_| Vec::new(),
    items: |p| tiles(p, 8, 2),
};

/// Vec4 of output channels of one invocation.
fn blocks(p: &IntConvParams) -> u32 {
    if p.cout4.is_multiple_of(4) { 4 } else { 2 }
}

/// Every rung.
pub static RUNGS: [&IntRung; 4] = [&CONV_DIGITS, &CONV_PAIRS_SHIFT, &CONV_PAIRS, &CONV_DOT];

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
        let (cin4, cout4) = (p.cin4 as usize, p.cout4 as usize);
        let at = |co: usize, tap: usize, ci: usize| {
            self.weight(p, weight, (tap * cin4 + ci / 4) * cout4 + co / 4, co % 4, ci % 4)
        };
        twin(p, [x, channels], y, 0..4 * cout4, at);
    }
    fn tolerance(&self, _: &IntConvParams) -> Tolerance {
        Tolerance::Exact
    }
    fn cases(&self) -> Vec<Case<IntConvParams>> {
        super::cases::all(self)
    }
    fn cost(&self, p: &IntConvParams) -> Cost {
        let products = (p.n * p.oh * p.ow) as f64 * (16 * p.steps()) as f64 * f64::from(p.cout4);
        Cost { flops: 2.0 * products, bytes: 4.0 * (p.input() + p.weights(self) + p.output()) as f64 }
    }
    fn subgroup(&self, _: &IntConvParams) -> Option<u32> {
        None
    }
}
