//! From u8 pixels to a normalized batch.

use super::{Case, Fill, Tolerance, groups_for, read_u32, write};

crate::params! {
    /// Normalization and augmentation of a batch.
    pub struct AugmentParams {
        /// 1/(255·std) a channel, 0 in lanes without one.
        scale: [f32; 4],
        /// −mean/std a channel, 0 in lanes without one.
        bias: [f32; 4],
        /// Images.
        n: u32,
        /// Height.
        h: u32,
        /// Width.
        w: u32,
        /// Channels, 1 to 4.
        c: u32,
        /// Black pixels around the image before the crop; 0: no crop.
        pad: u32,
        /// 1: mirror half of the images.
        flip: u32,
        /// Seed of the run.
        seed: u32,
        /// Epoch.
        epoch: u32,
        /// Images that the batch buffer has room for: its labels come first, then the image numbers, then the pixels.
        max_n: u32,
    }
}

/// PCG, RXS-M-XS on 32 bits: the permutation behind the shader's random words.
fn pcg(v: u32) -> u32 {
    let state = v.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// A random word from counters, the same as the shader's.
pub fn random_word(seed: u32, epoch: u32, sample: u32, stream: u32) -> u32 {
    pcg(stream ^ pcg(sample ^ pcg(epoch ^ pcg(seed))))
}

impl AugmentParams {
    fn pixels(&self) -> f64 {
        f64::from(self.n) * f64::from(self.h * self.w)
    }
    /// Words of the batch buffer.
    pub fn batch_words(max_n: u32, [h, w, c]: [u32; 3]) -> u32 {
        2 * max_n + (max_n * h * w * c).div_ceil(4)
    }
}

crate::kernel! {
    /// Crop, mirror and normalize a batch of u8 images.
    pub Augment(p: AugmentParams) {
        source: crate::wgsl!("data/augment"; "grid", "random"),
        bindings: [read_u32("batch"), write("x")],
        consts: [],
        groups: groups_for(u64::from(p.n * p.h * p.w)),
        lens: [AugmentParams::batch_words(p.max_n, [p.h, p.w, p.c]), 4 * p.n * p.h * p.w],
        tolerance: Tolerance::Budget { c: 3.0, terms: 0 }, // scale, bias and the fma round once each
        cost: (8.0 * p.pixels(), 4.0 * p.pixels() + p.pixels() * f64::from(p.c) / 4.0),
        cases: cases(),
        twin(a): {
            let (batch, mut x) = (a.u(0), a.out(1));
            let span = 2 * p.pad + 1;
            for i in 0..p.n * p.h * p.w {
                let (col, row, image) = (i % p.w, i / p.w % p.h, i / (p.w * p.h));
                let word = |stream| random_word(p.seed, p.epoch, batch[(p.max_n + image) as usize], stream);
                let mirror = p.flip == 1 && word(2) >> 31 == 1;
                let ix = (if mirror { p.w - 1 - col } else { col } + (((word(1) >> 16) * span) >> 16)).checked_sub(p.pad);
                let iy = (row + (((word(0) >> 16) * span) >> 16)).checked_sub(p.pad);
                for c in 0..4usize {
                    let byte = match (iy, ix) {
                        (Some(y), Some(x)) if y < p.h && x < p.w && c < p.c as usize => {
                            let at = ((image * p.c + c as u32) * p.h + y) * p.w + x;
                            (batch[(2 * p.max_n + at / 4) as usize] >> (8 * (at % 4))) & 255
                        }
                        _ => 0,
                    };
                    let (scaled, bias) = (f64::from(byte) * f64::from(p.scale[c]), f64::from(p.bias[c]));
                    x.set(4 * i as usize + c, scaled + bias, scaled.abs() + bias.abs());
                }
            }
        }
    }
}

fn cases() -> Vec<Case<AugmentParams>> {
    let (scale, bias) = ([0.0159, 0.0161, 0.0150, 0.0], [-1.99, -1.98, -1.71, 0.0]);
    let base =
        AugmentParams { scale, bias, n: 3, h: 32, w: 32, c: 3, max_n: 5, seed: 7, epoch: 2, ..Default::default() };
    [
        ("as they are", base),
        ("crop", AugmentParams { pad: 4, ..base }),
        ("crop and mirror", AugmentParams { pad: 4, flip: 1, n: 5, ..base }),
        ("odd size, one channel", AugmentParams { h: 7, w: 5, c: 1, pad: 2, flip: 1, ..base }),
        ("four channels", AugmentParams { c: 4, n: 1, max_n: 1, ..base }),
    ]
    .map(|(name, p)| Case::new(name, p, vec![Fill::Words, Fill::Out]))
    .to_vec()
}
