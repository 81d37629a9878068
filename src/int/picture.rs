//! Picture files to a network's u8 pixels: decoded, resized and cropped by integer arithmetic alone.
//!
//! The picture is scaled to cover the network's size, and its centre is taken. Each axis is a triangle filter that widens as
//! the picture shrinks. With scale a/b (source over target) in units of 1/(2b) of a source pixel, output i of W sits at
//! (2i + 1 − W)·a + w·b, source pixel j of w at (2j + 1)·b, and j weighs max(0, 2·max(a, b) − distance). Sums are divided by
//! the weights' sum and rounded half up, rows first, then columns.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use crate::error::{Error, Result};
use crate::graph::Shape;

/// Longest side and most bytes of a decoded picture.
const MAX_SIDE: u32 = 16_384;
const MAX_BYTES: u64 = 256 << 20;
/// Most bytes of a file.
const MAX_FILE: u64 = 64 << 20;

/// For every output of one axis, its first source pixel and the weights from there on.
fn filter(size: u32, target: u32, [a, b]: [i64; 2]) -> Vec<(usize, Vec<i64>)> {
    let (size, target, reach) = (i64::from(size), i64::from(target), 2 * a.max(b));
    let weights = |i: i64| {
        let at = (2 * i + 1 - target) * a + size * b;
        let weight = |j: i64| (reach - ((2 * j + 1) * b - at).abs()).max(0);
        let first = ((at - reach) / (2 * b)).clamp(0, size - 1);
        let end = ((at + reach) / (2 * b) + 1).clamp(first + 1, size);
        (first as usize, (first..end).map(weight).collect())
    };
    (0..target).map(weights).collect()
}

/// Σ weight · value over Σ weight, half up. The weights' sum is above 0: a target's centre lies within the source.
fn mean(weights: &[i64], values: impl Iterator<Item = u8>) -> u8 {
    let sum: i64 = weights.iter().sum();
    let weighted: i64 = weights.iter().zip(values).map(|(w, v)| w * i64::from(v)).sum();
    ((2 * weighted + sum) / (2 * sum)) as u8
}

/// One plane [h, w] at the size of `to`.
fn resize(plane: &[u8], [h, w]: [u32; 2], to: [u32; 2]) -> Vec<u8> {
    // Cover: the axis that has to shrink less decides.
    let wide = u64::from(w) * u64::from(to[0]) >= u64::from(h) * u64::from(to[1]);
    let scale = if wide { [h, to[0]] } else { [w, to[1]] }.map(i64::from);
    let columns = filter(w, to[1], scale);
    let row = |row: &[u8]| -> Vec<u8> {
        columns.iter().map(|(first, weights)| mean(weights, row[*first..].iter().copied())).collect()
    };
    let rows: Vec<Vec<u8>> = plane.chunks_exact(w as usize).map(row).collect();
    let mut out = Vec::with_capacity((to[0] * to[1]) as usize);
    for (first, weights) in filter(h, to[0], scale) {
        out.extend((0..to[1] as usize).map(|x| mean(&weights, rows[first..].iter().map(|row| row[x]))));
    }
    out
}

/// Interleaved bytes [h, w, C] as planes [C, H, W] of the network's shape.
pub fn fit(pixels: &[u8], [h, w]: [u32; 2], shape: Shape) -> Vec<u8> {
    let c = shape.c as usize;
    let plane = |channel: usize| pixels[channel..].iter().step_by(c).copied().collect::<Vec<_>>();
    (0..c).flat_map(|channel| resize(&plane(channel), [h, w], [shape.h, shape.w])).collect()
}

/// A JPEG, PNG or WebP file as a network's pixels [C, H, W]: upright, alpha dropped, grey where C is 1.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] for a file that is too large or cannot be decoded, or a network that takes no pictures.
pub fn read(path: &Path, shape: Shape) -> Result<Vec<u8>> {
    let hint = "name a JPEG, PNG or WebP file";
    let found = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
    if !found.is_file() || found.len() > MAX_FILE {
        return Err(Error::data(path, format!("not a file of at most {MAX_FILE} bytes"), hint));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let image = decode(&bytes).map_err(|e| Error::data(path, format!("cannot be decoded: {e}"), hint))?;
    let size = [image.height(), image.width()];
    match shape.c {
        1 => Ok(fit(image.to_luma8().as_raw(), size, shape)),
        3 => Ok(fit(image.to_rgb8().as_raw(), size, shape)),
        c => Err(Error::data(path, format!("the network takes images of {c} channels"), "it cannot be shown pictures")),
    }
}

fn decode(bytes: &[u8]) -> image::ImageResult<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_size_is_the_same_picture() {
        let pixels: Vec<u8> = (0..5 * 4 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let planes = fit(&pixels, [5, 4], Shape { h: 5, w: 4, c: 3 });
        for (i, p) in pixels.iter().enumerate() {
            assert_eq!(planes[i % 3 * 20 + i / 3], *p);
        }
    }

    #[test]
    fn halves_and_doubles_by_hand() {
        // Halved: weights 1, 3, 3, 1 around each pair, cut at the edges. (3·10 + 3·20 + 30)/7 = 17.1; (10·1 …) likewise.
        let half = resize(&[10, 20, 30, 40, 10, 20, 30, 40], [2, 4], [1, 2]);
        assert_eq!(half, [17, 33]);
        // Doubled: 3/4 and 1/4 of the neighbours; 22.5 rounds up.
        let double = resize(&[10, 20], [1, 2], [2, 4]);
        assert_eq!(double, [10, 13, 18, 20, 10, 13, 18, 20]);
    }

    #[test]
    fn the_centre_is_taken_whatever_the_shape() {
        let wide: Vec<u8> = [0, 0, 7, 7, 0, 0].repeat(2);
        assert_eq!(resize(&wide, [2, 6], [2, 2]), [7; 4]);
        let tall: Vec<u8> = [0, 0, 7, 7, 7, 7, 0, 0].to_vec();
        assert_eq!(resize(&tall, [4, 2], [2, 2]), [7; 4]);
        for (h, w) in [(1, 1), (1, 97), (97, 1), (33, 31), (640, 3)] {
            let flat = vec![200; (h * w) as usize];
            assert_eq!(resize(&flat, [h, w], [32, 32]), vec![200; 1024], "{h}x{w}");
        }
    }
}
