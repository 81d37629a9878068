//! What happens to a decoded picture before the network sees it: random resized crop and colour jitter to train on, resize
//! and centre crop to be measured on.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::picture::Picture;

/// Share of the picture's area that a random crop takes.
const SCALE: [f64; 2] = [0.08, 1.0];
/// Width to height of a random crop.
const RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// Share of the resized picture's shorter side that the centre crop takes: 224 of 256.
const CENTRE: f64 = 0.875;
/// A picture's shorter side is at most so many times the crop's: a random crop of the smallest scale still shrinks.
const LARGEST: u32 = 4;

/// Random changes of colour, each a factor from 1 − v to 1 + v (from 0 where v is above 1), in a random order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jitter {
    /// Towards black or away from it.
    pub brightness: f64,
    /// Towards the picture's mean grey or away from it.
    pub contrast: f64,
    /// Towards each pixel's grey or away from it.
    pub saturation: f64,
}

/// How pictures become images of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Transform {
    /// H and W of the images.
    pub size: [u32; 2],
    /// To train on: a random resized crop, else the same as to be measured on.
    pub random_crop: bool,
    /// Whether the centre crop leaves a margin around it; without, an image of the right size stays as it is.
    pub margin: bool,
    /// Colour jitter, to train on.
    pub jitter: Option<Jitter>,
}

impl Transform {
    /// The part of the work that no random number changes, so that its result can be kept.
    ///
    /// As all three, it may fail with words on a picture that cannot be resized.
    pub fn prepare(&self, picture: Picture) -> Result<Picture, String> {
        if !self.random_crop {
            return self.centre(&picture);
        }
        let (short, most) = (picture.width.min(picture.height), LARGEST * self.size[0].max(self.size[1]));
        if short <= most {
            return Ok(picture);
        }
        let scaled = |side: u32| (u64::from(side) * u64::from(most) / u64::from(short)) as u32;
        picture.resized(picture.whole(), [scaled(picture.width), scaled(picture.height)])
    }

    /// A prepared picture as it is trained on.
    pub fn train(&self, prepared: &Picture, rng: &mut impl Rng) -> Result<Picture, String> {
        let [height, width] = self.size;
        let mut image = match self.random_crop {
            false => prepared.clone(),
            true => {
                let [left, top, w, h] = random_crop([prepared.width, prepared.height], rng);
                let part = prepared.cut([left, top], [w, h]);
                if [w, h] == [width, height] { part } else { part.resized(part.whole(), [width, height])? }
            }
        };
        if let Some(jitter) = &self.jitter {
            jitter.apply(&mut image, rng);
        }
        Ok(image)
    }

    /// A prepared picture as it is measured on.
    pub fn test(&self, prepared: &Picture) -> Result<Picture, String> {
        if self.random_crop { self.centre(prepared) } else { Ok(prepared.clone()) }
    }

    /// The picture's shorter side resized to the image's over 0.875 (over 1 without a margin), then the centre. Only the
    /// pixels of the centre are computed.
    fn centre(&self, picture: &Picture) -> Result<Picture, String> {
        let [height, width] = self.size;
        if !self.margin && [picture.width, picture.height] == [width, height] {
            return Ok(picture.clone());
        }
        let wanted = |side: u32| if self.margin { (f64::from(side) / CENTRE).round() as u64 } else { side.into() };
        let (w, h) = (u64::from(picture.width), u64::from(picture.height));
        let (fit_w, fit_h) = (wanted(width), wanted(height));
        let (new_w, new_h) = if fit_w * h >= fit_h * w { (fit_w, fit_w * h / w) } else { (fit_h * w / h, fit_h) };
        let span = |side: u32, new: u64, old: u64| {
            let first = ((new - u64::from(side)) as f64 / 2.0).round_ties_even();
            let scaled = |v: f64| v * old as f64 / new as f64;
            // Rounding must not lead out of the picture, not by one bit.
            let start = scaled(first);
            (start, scaled(side.into()).min(old as f64 - start))
        };
        let ((left, across), (top, down)) = (span(width, new_w, w), span(height, new_h, h));
        picture.resized([left, top, across, down], [width, height])
    }
}

/// Left, top, width and height of torchvision's `RandomResizedCrop`: ten tries at a random area and shape, then the
/// largest centre of an allowed shape.
fn random_crop([w, h]: [u32; 2], rng: &mut impl Rng) -> [u32; 4] {
    let (fw, fh) = (f64::from(w), f64::from(h));
    for _ in 0..10 {
        let area = fw * fh * rng.random_range(SCALE[0]..SCALE[1]);
        let ratio = rng.random_range(RATIO[0].ln()..RATIO[1].ln()).exp();
        let side = |v: f64| v.sqrt().round_ties_even();
        let (cw, ch) = (side(area * ratio), side(area / ratio));
        if (1.0..=fw).contains(&cw) && (1.0..=fh).contains(&ch) {
            let (cw, ch) = (cw as u32, ch as u32);
            return [rng.random_range(0..=w - cw), rng.random_range(0..=h - ch), cw, ch];
        }
    }
    let ratio = (fw / fh).clamp(RATIO[0], RATIO[1]);
    let cw = ((fh * ratio).round_ties_even() as u32).clamp(1, w);
    let ch = ((fw / ratio).round_ties_even() as u32).clamp(1, h);
    [(w - cw) / 2, (h - ch) / 2, cw, ch]
}

/// The luma of ITU-R 601.
fn grey(pixel: &[u8]) -> f32 {
    match pixel {
        [r, g, b] => 0.299 * f32::from(*r) + 0.587 * f32::from(*g) + 0.114 * f32::from(*b),
        _ => f32::from(pixel[0]),
    }
}

impl Jitter {
    /// The first value that cannot be, if any.
    pub(super) fn fault(&self) -> Option<String> {
        let all = [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        let bad = all.into_iter().find(|(_, v)| !(0.0..=10.0).contains(v))?;
        Some(format!("jitter's {} is {}, but must be from 0 to 10", bad.0, bad.1))
    }

    fn apply(&self, image: &mut Picture, rng: &mut impl Rng) {
        let mut order = [0, 1, 2];
        for i in (1..3u32).rev() {
            order.swap(i as usize, rng.random_range(0..=i) as usize);
        }
        for part in order {
            let spread = [self.brightness, self.contrast, self.saturation][part];
            if spread == 0.0 {
                continue;
            }
            let factor = rng.random_range((1.0 - spread).max(0.0)..1.0 + spread) as f32;
            let channels = image.channels as usize;
            let pixels = image.pixels.chunks_exact(channels);
            let mean = pixels.clone().map(|p| f64::from(grey(p))).sum::<f64>() / pixels.len() as f64;
            for pixel in image.pixels.chunks_exact_mut(channels) {
                let from = [0.0, mean as f32, grey(pixel)][part];
                // A cast to a byte saturates.
                pixel.iter_mut().for_each(|v| *v = (from + factor * (f32::from(*v) - from) + 0.5) as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::keyed_rng;

    fn picture(width: u32, height: u32, channels: u32, f: impl Fn(u32, u32, u32) -> u8) -> Picture {
        let at = |i: u32| f(i / channels % width, i / channels / width, i % channels);
        Picture { width, height, channels, pixels: (0..width * height * channels).map(at).collect() }
    }

    fn transform(size: [u32; 2]) -> Transform {
        Transform { size, random_crop: true, margin: true, jitter: None }
    }

    fn rng(i: u64) -> impl Rng {
        keyed_rng(b"s3gpu crop tests", 1, i)
    }

    #[test]
    fn random_crops_are_torchvisions() {
        let crops: Vec<_> = (0..4000).map(|i| random_crop([400, 300], &mut rng(i))).collect();
        let mut scales = Vec::new();
        for [left, top, w, h] in &crops {
            assert!(left + w <= 400 && top + h <= 300 && *w > 0 && *h > 0);
            let (ratio, scale) = (f64::from(*w) / f64::from(*h), f64::from(w * h) / 120_000.0);
            assert!((0.74..1.35).contains(&ratio) && (0.079..1.001).contains(&scale), "{w} x {h}");
            scales.push(scale);
        }
        // 0.433 by another program of the same rule, 600,000 draws: many large crops do not fit and are drawn again.
        let mean = scales.iter().sum::<f64>() / scales.len() as f64;
        assert!((mean - 0.433).abs() < 0.015, "{mean}");
        // Every place is drawn.
        assert!(crops.iter().any(|c| c[0] == 0) && crops.iter().any(|c| c[0] + c[2] == 400));
    }

    #[test]
    fn a_shape_that_no_crop_fits_is_cut_from_its_centre() {
        assert_eq!(random_crop([1000, 10], &mut rng(1)), [493, 0, 13, 10]);
        assert_eq!(random_crop([1, 500], &mut rng(1)), [0, 249, 1, 1]);
        assert_eq!(random_crop([1, 1], &mut rng(1)), [0, 0, 1, 1]);
    }

    #[test]
    fn the_centre_is_a_resized_pictures_centre() {
        // A slope across: what resizing to 256 of 512 and cutting 224 leaves begins 16 pixels in, 32 of the source's.
        let slope = picture(512, 1024, 1, |x, _, _| (x / 2) as u8);
        let image = transform([224, 224]).test(&slope).unwrap();
        assert_eq!((image.width, image.height), (224, 224));
        for x in 0..224 {
            assert!((i32::from(image.pixels[x]) - (16 + x as i32)).abs() <= 1, "{x}: {}", image.pixels[x]);
        }
        // The same by way of the whole resized picture.
        let noise = picture(300, 200, 3, |x, y, c| (x * 7 + y * 13 + c * 50 + x * y) as u8);
        let whole = noise.resized(noise.whole(), [55, 37]).unwrap().cut([12, 2], [32, 32]);
        assert_eq!(transform([32, 32]).test(&noise).unwrap(), whole);
    }

    #[test]
    fn the_centre_lies_within_a_picture_of_any_size() {
        for size in [28, 50, 224, 299] {
            for margin in [false, true] {
                let t = Transform { random_crop: false, margin, ..transform([size, size]) };
                for side in 1..600 {
                    for (w, h) in [(side, side), (side, 31)] {
                        let flat = Picture { width: w, height: h, channels: 1, pixels: vec![90; (w * h) as usize] };
                        let image = t.centre(&flat).unwrap_or_else(|e| panic!("{w} x {h} to {size}: {e}"));
                        assert_eq!((image.width, image.height), (size, size));
                    }
                }
            }
        }
    }

    #[test]
    fn a_picture_of_any_shape_gives_an_image_of_the_size() {
        let plain = Transform { random_crop: false, margin: false, ..transform([28, 20]) };
        for (w, h) in [(1, 1), (1, 3000), (3000, 1), (20, 28), (28, 20), (500, 300)] {
            let noise = picture(w, h, 3, |x, y, c| (x * 5 + y * 3 + c) as u8);
            for t in [transform([28, 20]), plain, Transform { margin: true, ..plain }] {
                let prepared = t.prepare(noise.clone()).unwrap();
                for image in [t.train(&prepared, &mut rng(3)), t.test(&prepared)] {
                    let image = image.unwrap();
                    assert_eq!((image.width, image.height, image.pixels.len()), (20, 28, 1680), "{w} x {h}");
                }
            }
            if (w, h) == (20, 28) {
                assert_eq!(
                    plain.test(&plain.prepare(noise.clone()).unwrap()).unwrap(),
                    noise,
                    "an image of the size stays as it is"
                );
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let kept = transform([10, 10]).prepare(picture(90, 60, 1, |x, _, _| x as u8)).unwrap();
        assert_eq!((kept.width, kept.height), (60, 40));
        let small = picture(90, 40, 1, |x, _, _| x as u8);
        assert_eq!(transform([10, 10]).prepare(small.clone()).unwrap(), small);
    }

    #[test]
    fn jitter_keeps_what_it_should() {
        let image = picture(8, 8, 3, |x, y, c| (40 + 10 * x + 5 * y + 20 * c) as u8);
        let jittered = |jitter: Jitter, i| {
            let mut image = image.clone();
            jitter.apply(&mut image, &mut rng(i));
            image
        };
        let off = Jitter::default();
        assert_eq!(jittered(off, 1), image);
        let mean = |p: &Picture| p.pixels.chunks_exact(3).map(|p| f64::from(grey(p))).sum::<f64>() / 64.0;
        let (mut lighter, mut darker) = (0, 0);
        for i in 0..50 {
            let bright = jittered(Jitter { brightness: 0.4, ..off }, i);
            let factor = mean(&bright) / mean(&image);
            assert!((0.59..1.41).contains(&factor), "{factor}");
            (lighter, darker) = (lighter + i32::from(factor > 1.0), darker + i32::from(factor < 1.0));
            for (to, from) in bright.pixels.iter().zip(&image.pixels) {
                assert!((f64::from(*to) - factor * f64::from(*from)).abs() < 1.5);
            }
            // Contrast keeps the mean, saturation each pixel's grey.
            assert!((mean(&jittered(Jitter { contrast: 0.4, ..off }, i)) - mean(&image)).abs() < 0.6);
            let faded = jittered(Jitter { saturation: 0.4, ..off }, i);
            for (to, from) in faded.pixels.chunks_exact(3).zip(image.pixels.chunks_exact(3)) {
                assert!((grey(to) - grey(from)).abs() < 0.6);
            }
        }
        assert!(lighter > 10 && darker > 10);
        assert!(Jitter { contrast: -1.0, ..off }.fault().unwrap().contains("contrast"));
        assert!(Jitter { saturation: f64::NAN, ..off }.fault().is_some());
    }
}
