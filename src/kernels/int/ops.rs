//! Everything of the integer network but convolutions.

use super::pack::int8_digits;
use super::{byte, digit, round_shift, set_byte};
use crate::kernels::{Case, Fill, Tolerance, groups_for, read_u32, write_u32};

crate::params! {
    /// A batch of pixels to look up.
    pub struct LookupParams {
        /// Images.
        n: u32,
        /// Height.
        h: u32,
        /// Width.
        w: u32,
        /// Channels that exist.
        c: u32,
    }
}

impl LookupParams {
    fn pixels(&self) -> u32 {
        self.n * self.h * self.w
    }
}

crate::kernel! {
    /// u8 planes to int8 activations through a table.
    pub IntLookup(p: LookupParams) {
        source: crate::wgsl!("int/int_lookup"; "grid"),
        bindings: [read_u32("pixels"), read_u32("lut"), write_u32("y")],
        consts: [],
        groups: groups_for(u64::from(p.pixels() * p.c.div_ceil(4))),
        lens: [(p.pixels() * p.c).div_ceil(4), 64 * p.c, p.pixels() * p.c.div_ceil(4)],
        tolerance: Tolerance::Exact,
        cost: (0, (p.pixels() * p.c).div_ceil(4) + p.pixels() * p.c.div_ceil(4)),
        cases: [(3, 8, 8, 3), (1, 7, 5, 1), (2, 3, 3, 4), (1, 4, 3, 6)].map(|(n, h, w, c)| {
            let name = format!("{n}x{h}x{w}x{c}");
            Case::new(name, LookupParams { n, h, w, c }, vec![Fill::Words, Fill::Words, Fill::Out])
        }).to_vec(),
        twin(a): {
            let (pixels, lut, y) = (a.u(0), a.u(1), a.out_u32(2));
            // What lies behind the batch stays as it is.
            y[..(p.pixels() * p.c.div_ceil(4)) as usize].fill(0);
            let (size, c, stride) = ((p.h * p.w) as usize, p.c as usize, 4 * p.c.div_ceil(4) as usize);
            for i in 0..p.pixels() as usize {
                for ch in 0..c {
                    let pixel = byte(pixels, (i / size * c + ch) * size + i % size, false) as usize;
                    set_byte(y, i * stride + ch, byte(lut, 256 * ch + pixel, true).into(), true);
                }
            }
        }
    }
}

crate::params! {
    /// A residual addition.
    pub struct IntAddParams {
        /// Words of four numbers.
        words: u32,
        /// Shift of the first side to the common scale.
        left: u32,
        /// Shift of the second side.
        right: u32,
        /// Shift from the common scale to the output's.
        out: u32,
        /// 1: the first side is int8, 0: uint8.
        signed_a: u32,
        /// The second side.
        signed_b: u32,
        /// The output.
        signed_y: u32,
    }
}

crate::kernel! {
    /// y = clamp(((a << left) + (b << right) + half) >> out).
    pub IntAdd(p: IntAddParams) {
        source: crate::wgsl!("int/int_add"; "grid", "bytes"),
        bindings: [read_u32("a"), read_u32("b"), write_u32("y")],
        consts: [],
        groups: groups_for(p.words.into()),
        lens: [p.words, p.words, p.words],
        tolerance: Tolerance::Exact,
        cost: (12.0 * f64::from(p.words), 3 * p.words),
        cases: [([0, 0, 0], [0, 0, 0]), ([0, 2, 1], [1, 0, 0]), ([3, 0, 4], [0, 1, 1]), ([1, 2, 0], [1, 1, 1]), ([20, 22, 22], [1, 1, 0])]
            .map(|([left, right, out], [signed_a, signed_b, signed_y])| {
                let p = IntAddParams { words: 301, left, right, out, signed_a, signed_b, signed_y };
                Case::new(format!("{p:?}"), p, vec![Fill::Words, Fill::Words, Fill::Out])
            })
            .to_vec(),
        twin(a): {
            let (u, v, y) = (a.u(0), a.u(1), a.out_u32(2));
            for i in 0..4 * p.words as usize {
                let left = i64::from(byte(u, i, p.signed_a == 1)) << p.left;
                let right = i64::from(byte(v, i, p.signed_b == 1)) << p.right;
                set_byte(y, i, round_shift(left + right, p.out), p.signed_y == 1);
            }
        }
    }
}

crate::params! {
    /// The shortcut without parameters.
    pub struct IntPadShortcutParams {
        /// Images.
        n: u32,
        /// Input height.
        h: u32,
        /// Input width.
        w: u32,
        /// Words of an input pixel.
        cin4: u32,
        /// Output height.
        oh: u32,
        /// Output width.
        ow: u32,
        /// Words of an output pixel.
        cout4: u32,
        /// Input channels that exist.
        channels: u32,
        /// Zero channels in front.
        front: u32,
        /// Distance of the pixels that are kept.
        stride: u32,
    }
}

impl IntPadShortcutParams {
    /// From `n` images [h, w, channels] to `cout` channels, every `stride`-th pixel.
    pub fn new(n: u32, [h, w, channels]: [u32; 3], cout: u32, stride: u32) -> Self {
        let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
        let (cin4, cout4, front) = (channels.div_ceil(4), cout.div_ceil(4), (cout - channels) / 2);
        Self { n, h, w, cin4, oh, ow, cout4, channels, front, stride }
    }
    fn output(&self) -> u32 {
        self.n * self.oh * self.ow * self.cout4
    }
}

crate::kernel! {
    /// y[i, j, c] = x[stride·i, stride·j, c − front].
    pub IntPadShortcut(p: IntPadShortcutParams) {
        source: crate::wgsl!("int/int_pad_shortcut"; "grid"),
        bindings: [read_u32("x"), write_u32("y")],
        consts: [],
        groups: groups_for(p.output().into()),
        lens: [p.n * p.h * p.w * p.cin4, p.output()],
        tolerance: Tolerance::Exact,
        cost: (0, p.n * p.oh * p.ow * p.cin4 + p.output()),
        cases: [(2, [8, 8, 16], 32, 2), (1, [7, 9, 10], 20, 2), (3, [4, 4, 3], 5, 1), (1, [1, 1, 4], 8, 2), (1, [5, 4, 6], 14, 2)]
            .map(|(n, input, cout, stride)| {
                let name = format!("{n}x{input:?} to {cout}, stride {stride}");
                Case::new(name, IntPadShortcutParams::new(n, input, cout, stride), vec![Fill::Words, Fill::Out])
            })
            .to_vec(),
        twin(a): {
            let (x, y) = (a.u(0), a.out_u32(1));
            y[..p.output() as usize].fill(0);
            let (cin, cout) = (4 * p.cin4 as usize, 4 * p.cout4 as usize);
            for o in 0..(p.n * p.oh * p.ow) as usize {
                let (ox, oy) = (o % p.ow as usize, o / p.ow as usize % p.oh as usize);
                let row = o / (p.ow * p.oh) as usize * p.h as usize + oy * p.stride as usize;
                let from = (row * p.w as usize + ox * p.stride as usize) * cin;
                for c in 0..p.channels as usize {
                    set_byte(y, o * cout + p.front as usize + c, byte(x, from + c, false).into(), false);
                }
            }
        }
    }
}

crate::params! {
    /// A max pool over square windows of uint8.
    pub struct IntMaxPoolParams {
        /// Images.
        n: u32,
        /// Input height.
        h: u32,
        /// Input width.
        w: u32,
        /// Words of a pixel.
        c4: u32,
        /// Output height.
        oh: u32,
        /// Output width.
        ow: u32,
        /// Window.
        k: u32,
        /// Stride.
        stride: u32,
        /// Padding.
        pad: u32,
    }
}

impl IntMaxPoolParams {
    /// From `n` images [h, w, c].
    pub fn new(n: u32, [h, w, c]: [u32; 3], [k, stride, pad]: [u32; 3]) -> Self {
        let out = |size: u32| (size + 2 * pad - k) / stride + 1;
        Self { n, h, w, c4: c.div_ceil(4), oh: out(h), ow: out(w), k, stride, pad }
    }
    fn output(&self) -> u32 {
        self.n * self.oh * self.ow * self.c4
    }
}

crate::kernel! {
    /// The largest of each window.
    pub IntMaxPool(p: IntMaxPoolParams) {
        source: crate::wgsl!("int/int_max_pool"; "grid", "bytes"),
        bindings: [read_u32("x"), write_u32("y")],
        consts: [],
        groups: groups_for(p.output().into()),
        lens: [p.n * p.h * p.w * p.c4, p.output()],
        tolerance: Tolerance::Exact,
        cost: (0, p.n * p.h * p.w * p.c4 + p.output()),
        cases: [(2, [8, 8, 8], [3, 2, 1]), (1, [7, 9, 5], [3, 2, 1]), (1, [6, 6, 4], [2, 2, 0]), (1, [5, 5, 4], [3, 1, 1])]
            .map(|(n, input, window)| {
                let name = format!("{n}x{input:?}, window, stride, padding {window:?}");
                Case::new(name, IntMaxPoolParams::new(n, input, window), vec![Fill::Words, Fill::Out])
            })
            .to_vec(),
        twin(a): {
            let (x, y) = (a.u(0), a.out_u32(1));
            let c = 4 * p.c4;
            for o in 0..4 * p.output() {
                let (ch, ox, oy, image) = (o % c, o / c % p.ow, o / (c * p.ow) % p.oh, o / (c * p.ow * p.oh));
                let taps = (0..p.k * p.k).filter_map(|tap| {
                    let iy = (oy * p.stride + tap / p.k).checked_sub(p.pad).filter(|y| *y < p.h)?;
                    let ix = (ox * p.stride + tap % p.k).checked_sub(p.pad).filter(|x| *x < p.w)?;
                    Some(byte(x, (((image * p.h + iy) * p.w + ix) * c + ch) as usize, false))
                });
                set_byte(y, o as usize, taps.max().unwrap_or(0).into(), false);
            }
        }
    }
}

crate::params! {
    /// Sums over an image's pixels.
    pub struct GlobalSumParams {
        /// Images.
        n: u32,
        /// Pixels of an image.
        hw: u32,
        /// Words of a pixel.
        c4: u32,
        /// Pre-shift of the sum.
        preshift: u32,
        /// 1: int8, 0: uint8.
        signed_x: u32,
    }
}

crate::kernel! {
    /// int32 sums over pixels, rounded by the pre-shift.
    pub IntGlobalSum(p: GlobalSumParams) {
        source: crate::wgsl!("int/int_global_sum"; "grid", "bytes"),
        bindings: [read_u32("x"), write_u32("y")],
        consts: [],
        groups: groups_for(u64::from(p.n * p.c4)),
        lens: [p.n * p.hw * p.c4, 4 * p.n * p.c4],
        tolerance: Tolerance::Exact,
        cost: (4.0 * f64::from(p.n) * f64::from(p.hw * p.c4), p.n * p.hw * p.c4 + 4 * p.n * p.c4),
        cases: [(3, 64, 16, 0, 0), (1, 7, 3, 1, 1), (2, 1, 1, 0, 1), (2, 49, 5, 3, 0)].map(|(n, hw, c4, preshift, signed_x)| {
            let p = GlobalSumParams { n, hw, c4, preshift, signed_x };
            Case::new(format!("{p:?}"), p, vec![Fill::Words, Fill::Out])
        }).to_vec(),
        twin(a): {
            let (x, y) = (a.u(0), a.out_u32(1));
            let c = 4 * p.c4 as usize;
            for o in 0..p.n as usize * c {
                let at = |pixel: usize| (o / c * p.hw as usize + pixel) * c + o % c;
                let sum = (0..p.hw as usize).map(|i| i64::from(byte(x, at(i), p.signed_x == 1))).sum();
                y[o] = round_shift(sum, p.preshift) as i32 as u32;
            }
        }
    }
}

crate::params! {
    /// Logits from pooled sums.
    pub struct ClassifierParams {
        /// Images.
        n: u32,
        /// Features.
        features: u32,
        /// Words from one image's features to the next.
        stride: u32,
        /// Classes.
        classes: u32,
    }
}

crate::kernel! {
    /// int32 logits by shifts and additions.
    pub IntClassifier(p: ClassifierParams) {
        source: crate::wgsl!("int/int_classifier"; "grid", "digits"),
        bindings: [read_u32("x"), read_u32("weight"), read_u32("bias"), write_u32("logits")],
        consts: [],
        groups: groups_for(u64::from(p.n * p.classes)),
        lens: [p.n * p.stride, p.classes * p.features, p.classes, p.n * p.classes],
        tolerance: Tolerance::Exact,
        cost: (2.0 * f64::from(p.n) * f64::from(p.classes * p.features), p.n * p.stride + p.classes * p.features + p.n * p.classes),
        cases: [(3, 64, 10), (1, 5, 3), (2, 256, 1)].map(|(n, features, classes)| {
            let p = ClassifierParams { n, features, stride: features.next_multiple_of(4), classes };
            // Every int8 in turn; sums around zero and bias words of any size: arithmetic is modulo 2^32 on both sides.
            let weight = (0..classes * features).map(|i| int8_digits((i * 37 + 128) as u8 as i8)).collect();
            let x = (0..n * p.stride).map(|i| (i.wrapping_mul(2_654_435_761) as i32 >> 14) as u32).collect();
            let fills = vec![Fill::Table(x), Fill::Table(weight), Fill::Words, Fill::Out];
            Case::new(format!("{n} images, {features} features, {classes} classes"), p, fills)
        }).to_vec(),
        twin(a): {
            let (x, weight, bias, logits) = (a.u(0), a.u(1), a.u(2), a.out_u32(3));
            let (features, classes) = (p.features as usize, p.classes as usize);
            for o in 0..p.n as usize * classes {
                let (image, class) = (o / classes, o % classes);
                let term = |f: usize| {
                    let w: i64 = weight[class * features + f].to_le_bytes().iter().map(|c| digit(*c)).sum();
                    w * i64::from(x[image * p.stride as usize + f] as i32)
                };
                let sum: i64 = (0..features).map(term).sum();
                logits[o] = (sum + i64::from(bias[class] as i32)) as u32;
            }
        }
    }
}
