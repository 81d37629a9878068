//! A window sliding over an activation, as plain offsets: what lets convolutions run over contiguous lanes.
//!
//! An activation [C, H, W] is copied with its padding into one plane a channel and, at stride s, into s² planes of every
//! s-th row and column. Then output position oy · row + ox reads, for a weight (ci, ky, kx), the element at the same
//! position plus an offset that depends on the weight alone. Positions between a row's outputs are computed and dropped.

use crate::graph::Shape;

/// Positions that are computed together; a multiple of every CPU's vector.
pub const LANES: usize = 32;

/// Where a window's elements lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sliding {
    input: Shape,
    kernel: usize,
    stride: usize,
    pad: usize,
    /// Output height and width.
    pub out: [usize; 2],
    /// Elements of a row of a plane.
    pub row: usize,
    plane: usize,
}

impl Sliding {
    /// A `kernel` × `kernel` window at `stride` over `input` with `pad` zeros around, which it must fit.
    pub fn new(input: Shape, kernel: u32, stride: u32, pad: u32) -> Self {
        let [h, w, k, s, p] = [input.h, input.w, kernel, stride, pad].map(|v| v as usize);
        let [high, wide] = [h + 2 * p, w + 2 * p];
        let row = wide.div_ceil(s);
        let out = [(high - k) / s + 1, (wide - k) / s + 1];
        Self { input, kernel: k, stride: s, pad: p, out, row, plane: row * high.div_ceil(s) }
    }

    /// Positions to compute, whole blocks of [`LANES`].
    pub fn span(&self) -> usize {
        ((self.out[0] - 1) * self.row + self.out[1]).next_multiple_of(LANES)
    }

    /// The offset of weight (ci, ky, kx).
    pub fn offset(&self, ci: usize, ky: usize, kx: usize) -> usize {
        let s = self.stride;
        let plane = (ci * s + ky % s) * s + kx % s;
        plane * self.plane + ky / s * self.row + kx / s
    }

    /// Elements of all planes, with room behind for the last block.
    pub fn elements(&self) -> usize {
        let last = self.offset(self.input.c as usize, 0, 0) + self.kernel * (self.row + 1);
        last + self.span()
    }

    /// Copies [C, H, W] into the planes; what was there may be anything of [`Sliding::elements`].
    pub fn fill<T: Copy + Default>(&self, x: &[T], planes: &mut Vec<T>) {
        planes.clear();
        planes.resize(self.elements(), T::default());
        let (s, p, w) = (self.stride, self.pad, self.input.w as usize);
        let rows = x.chunks_exact(w);
        for (i, from) in rows.enumerate() {
            let (c, y) = (i / self.input.h as usize, i % self.input.h as usize + p);
            let at = |phase: usize| ((c * s + y % s) * s + phase) * self.plane + y / s * self.row;
            if s == 1 {
                planes[at(0) + p..][..w].copy_from_slice(from);
                continue;
            }
            for phase in 0..s {
                // Columns X = x + pad of this phase, X = phase, phase + s …
                let first = (phase + s - p % s) % s;
                let to = &mut planes[at(phase)..][(first + p) / s..];
                to.iter_mut().zip(from.iter().skip(first).step_by(s)).for_each(|(to, v)| *to = *v);
            }
        }
    }

    /// Takes the outputs of one channel, [oh, ow], out of its positions.
    pub fn take<T: Copy>(&self, positions: &[T], to: &mut [T]) {
        let [_, ow] = self.out;
        for (to, from) in to.chunks_exact_mut(ow).zip(positions.chunks(self.row)) {
            to.copy_from_slice(&from[..ow]);
        }
    }
}

/// LANES elements from `at`.
pub fn block<T>(planes: &[T], at: usize) -> &[T; LANES] {
    planes[at..].first_chunk().expect("the planes have room for a whole block")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_element_is_found() {
        for (h, w, k, s, p) in [(5, 4, 3, 1, 1), (5, 4, 3, 2, 1), (6, 7, 1, 2, 0), (9, 8, 7, 2, 3), (4, 4, 3, 3, 2)] {
            let input = Shape { h, w, c: 2 };
            let sliding = Sliding::new(input, k, s, p);
            let x: Vec<i32> = (1..=(2 * h * w) as i32).collect();
            let mut planes = vec![-1; 3];
            sliding.fill(&x, &mut planes);
            let padded = |c: u32, y: u32, x_: u32| match (y.checked_sub(p), x_.checked_sub(p)) {
                (Some(y), Some(x_)) if y < h && x_ < w => x[((c * h + y) * w + x_) as usize],
                _ => 0,
            };
            let [oh, ow] = sliding.out;
            for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                for (c, ky, kx) in (0..2).flat_map(|c| (0..k).flat_map(move |a| (0..k).map(move |b| (c, a, b)))) {
                    let found = planes[oy * sliding.row + ox + sliding.offset(c as usize, ky as usize, kx as usize)];
                    assert_eq!(found, padded(c, oy as u32 * s + ky, ox as u32 * s + kx), "{input} {k} {s} {p}");
                }
            }
            let last = sliding.offset(1, k as usize - 1, k as usize - 1) + sliding.span();
            assert!(last <= planes.len());
        }
    }
}
