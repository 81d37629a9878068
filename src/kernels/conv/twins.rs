//! The f64 twins of the three directions.

use std::borrow::Cow;

use super::{ADD, ConvParams, GATE};
use crate::kernels::compose::value_of;
use crate::kernels::{Arg, Args, Data};

/// Calls `f(input pixel, output pixel, tap)` for every pixel pair of an image range that a tap connects.
fn pairs(p: &ConvParams, images: std::ops::Range<u32>, mut f: impl FnMut(usize, usize, usize)) {
    let inside = |o: u32, k: u32, size: u32| (o * p.stride + k).checked_sub(p.pad).filter(|i| *i < size);
    for image in images {
        for (oy, ky) in (0..p.oh).flat_map(|oy| (0..p.k).map(move |ky| (oy, ky))) {
            let Some(iy) = inside(oy, ky, p.h) else { continue };
            for (ox, kx) in (0..p.ow).flat_map(|ox| (0..p.k).map(move |kx| (ox, kx))) {
                let Some(ix) = inside(ox, kx, p.w) else { continue };
                let pixel = |y, x, height, width| ((image * height + y) * width + x) as usize;
                f(pixel(iy, ix, p.h, p.w), pixel(oy, ox, p.oh, p.ow), (ky * p.k + kx) as usize);
            }
        }
    }
}

/// The weights, whichever form they are in.
fn weights<'a>(a: &Args<'a>) -> Cow<'a, [f64]> {
    match &a.0[1] {
        Arg::In(Data::U32(words)) => {
            words.iter().flat_map(|w| w.to_be_bytes()).map(|b| f64::from(value_of(b))).collect()
        }
        _ => a.f(1).into(),
    }
}

/// `to[t] += Σ_s from[s] · weight[s, t]` for each pixel pair, and Σ|terms|; the forward and the input gradient differ only in their roles.
fn through_weights(a: &Args, p: &ConvParams, len: usize, [from4, to4]: [u32; 2], forward: bool) -> [Vec<f64>; 2] {
    let (source, weight) = (a.f(0), weights(a));
    let (from, to) = (4 * from4 as usize, 4 * to4 as usize);
    let (mut sum, mut mag) = (vec![0.0; len], vec![0.0; len]);
    pairs(p, 0..p.n, |input, output, tap| {
        let (s, t) = if forward { (input, output) } else { (output, input) };
        let matrix = &weight[4 * p.offset as usize + tap * from * to..][..from * to];
        let (sums, mags) = (&mut sum[t * to..][..to], &mut mag[t * to..][..to]);
        for (x, row) in source[s * from..][..from].iter().zip(matrix.chunks_exact(to)) {
            if *x == 0.0 {
                continue;
            }
            for ((w, s), m) in row.iter().zip(sums.iter_mut()).zip(mags.iter_mut()) {
                *s += x * w;
                *m += (x * w).abs();
            }
        }
    });
    [sum, mag]
}

pub(super) fn forward(p: &ConvParams, a: &mut Args) {
    let [sum, mag] = through_weights(a, p, p.output(), [p.cin4, p.cout4], true);
    let mut out = a.out(2);
    sum.into_iter().zip(mag).enumerate().for_each(|(i, (s, m))| out.set(i, s, m));
}

pub(super) fn backward_input(p: &ConvParams, a: &mut Args) {
    let [sum, mag] = through_weights(a, p, p.input(), [p.cout4, p.cin4], false);
    let (skip, gate, mut out) = (a.f(2), a.f(3), a.out(4));
    for (i, (s, m)) in sum.into_iter().zip(mag).enumerate() {
        let skip = if p.epilogue & ADD != 0 { skip[i] } else { 0.0 };
        let open = p.epilogue & GATE == 0 || gate[i] > 0.0;
        out.set(i, if open { s + skip } else { 0.0 }, m + skip.abs());
    }
}

pub(super) fn backward_weight(p: &ConvParams, a: &mut Args) {
    let (x, dy) = (a.f(0), a.f(1));
    let (cin, cout) = (4 * p.cin4 as usize, 4 * p.cout4 as usize);
    let mut out = a.out(2);
    for chunk in 0..p.chunks() {
        let (mut sum, mut mag) = (vec![0.0; p.weights()], vec![0.0; p.weights()]);
        pairs(p, chunk * p.chunk..((chunk + 1) * p.chunk).min(p.n), |input, output, tap| {
            let g = &dy[output * cout..][..cout];
            for (ci, x) in x[input * cin..][..cin].iter().enumerate().filter(|(_, x)| **x != 0.0) {
                let at = (tap * cin + ci) * cout;
                for ((g, s), m) in g.iter().zip(&mut sum[at..][..cout]).zip(&mut mag[at..][..cout]) {
                    *s += x * g;
                    *m += (x * g).abs();
                }
            }
        });
        for (i, (s, m)) in sum.into_iter().zip(mag).enumerate() {
            out.set(chunk as usize * p.weights() + i, s, m);
        }
    }
}
