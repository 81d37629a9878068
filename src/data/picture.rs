//! Pictures: JPEG, PNG and WebP files to bytes in H × W × C, and from one size to another.

use std::io::Cursor;
use std::panic::catch_unwind;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

/// Bytes of a decoded picture at most, in the file's own form and in the wanted one; 89 megapixels of 8-bit RGB.
const MAX_DECODED: u64 = 256 << 20;
/// Bytes of a file's beginning that tell its format.
pub(super) const HEAD: usize = 32;

/// A decoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    /// W.
    pub width: u32,
    /// H.
    pub height: u32,
    /// C: 1 (grey) or 3 (RGB).
    pub channels: u32,
    /// H × W × C bytes.
    pub pixels: Vec<u8>,
}

/// A part of a picture, in its pixels: left, top, width, height.
pub(super) type Crop = [f64; 4];

/// The format of a file that begins with these bytes, whatever its name ends in; or what is wrong with it.
pub(super) fn sniff(head: &[u8]) -> Result<ImageFormat, String> {
    if head.is_empty() {
        return Err("the file is empty".into());
    }
    match image::guess_format(head) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)) => Ok(format),
        Ok(other) => Err(format!("{other:?} is not read, but JPEG, PNG and WebP are")),
        Err(_) => Err("not an image (JPEG, PNG or WebP)".into()),
    }
}

/// Decodes a file's bytes upright, as its EXIF says: RGB where `channels` is 3, grey where it is 1. Grey, CMYK and 16-bit
/// pictures are converted, alpha is dropped, and of an animation the first frame is taken.
///
/// Or what is wrong with it. No picture is larger than [`MAX_DECODED`] at any stage, whatever the file says, and the decoders
/// go over it a bounded number of times: the most that a file can cost is a second or two.
pub(super) fn decode(bytes: &[u8], channels: usize) -> Result<Picture, String> {
    let format = sniff(&bytes[..bytes.len().min(HEAD)])?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        // The decoder would paint what is missing grey.
        return Err("truncated: the JPEG has no end".into());
    }
    // A decoder that gives up by a panic has met a damaged file like any other.
    let image = catch_unwind(|| read(bytes, format, channels)).map_err(|_| "its decoder failed".to_string())??;
    let (width, height, pixels) = match channels {
        1 => {
            let grey = image.into_luma8();
            (grey.width(), grey.height(), grey.into_raw())
        }
        _ => {
            let rgb = image.into_rgb8();
            (rgb.width(), rgb.height(), rgb.into_raw())
        }
    };
    Ok(Picture { width, height, channels: if channels == 1 { 1 } else { 3 }, pixels })
}

fn read(bytes: &[u8], format: ImageFormat, channels: usize) -> Result<DynamicImage, String> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let said = |e: image::ImageError| e.to_string();
    let mut decoder = reader.into_decoder().map_err(said)?;
    let (width, height) = decoder.dimensions();
    // A grey file has a third of the bytes that it becomes.
    let converted = u64::from(width).saturating_mul(height.into()).saturating_mul(channels as u64);
    let size = decoder.total_bytes().max(converted);
    if size > MAX_DECODED || width == 0 || height == 0 {
        return Err(format!("{width} x {height} pixels take {size} bytes, but at most {MAX_DECODED} are decoded"));
    }
    decoder.set_limits(limits).map_err(said)?;
    let orientation = decoder.orientation().map_err(said)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(said)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Whether a JPEG's first scan is followed by an end marker. Segments before it are stepped over, for a thumbnail in
/// them has an end of its own.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xff, marker, rest @ ..]) = bytes.get(at..) {
        match (marker, rest) {
            (0xff, _) => at += 1,
            (0xda, _) => return rest.windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
            (0x01 | 0xd0..=0xd8, _) => at += 2,
            (_, [high, low, ..]) => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => return false,
        }
    }
    false
}

impl Picture {
    /// A part of the picture at `width` × `height`, by a triangle filter that widens as pixels shrink (antialiased
    /// bilinear, Pillow's and torchvision's default). The part must lie within the picture, or words say that it does not.
    pub fn resized(&self, part: Crop, [width, height]: [u32; 2]) -> Result<Self, String> {
        let kind = if self.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
        let [left, top, w, h] = part;
        let from = ImageRef::new(self.width, self.height, &self.pixels, kind).map_err(|e| e.to_string())?;
        let mut to = Image::new(width, height, kind);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .use_alpha(false)
            .crop(left, top, w, h);
        Resizer::new().resize(&from, &mut to, &options).map_err(|e| {
            format!("{w} x {h} pixels from {left}, {top} on cannot be resized to {width} x {height}: {e}")
        })?;
        Ok(Self { width, height, channels: self.channels, pixels: to.into_vec() })
    }

    /// All of the picture.
    pub fn whole(&self) -> Crop {
        [0.0, 0.0, self.width.into(), self.height.into()]
    }

    /// Exactly these pixels: `width` × `height` from `left`, `top`.
    pub fn cut(&self, [left, top]: [u32; 2], [width, height]: [u32; 2]) -> Self {
        let c = self.channels as usize;
        let row = |y: u32| {
            let from = c * (y as usize * self.width as usize + left as usize);
            &self.pixels[from..from + c * width as usize]
        };
        let pixels = (top..top + height).flat_map(row).copied().collect();
        Self { width, height, channels: self.channels, pixels }
    }

    /// Writes C × H × W, a plane a channel.
    pub fn planar(&self, to: &mut [u8]) {
        let c = self.channels as usize;
        for (channel, plane) in to.chunks_exact_mut(self.pixels.len() / c).enumerate() {
            plane.iter_mut().zip(self.pixels[channel..].iter().step_by(c)).for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/fixtures/images/", $name))
        };
    }

    /// Width, height, and the pixels near the left upper and the right lower corner.
    fn corners(bytes: &[u8], channels: usize) -> (u32, u32, Vec<u8>, Vec<u8>) {
        let p = decode(bytes, channels).unwrap();
        let at = |x: u32, y: u32| p.cut([x, y], [1, 1]).pixels;
        assert_eq!(p.pixels.len(), p.width as usize * p.height as usize * channels);
        (p.width, p.height, at(1, 1), at(p.width - 2, p.height - 2))
    }

    fn near(a: &[u8], b: &[u8]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) < 12)
    }

    #[test]
    fn every_kind_of_picture_becomes_rgb() {
        let (red, blue, dark, light) = ([255, 0, 0], [0, 0, 255], [60; 3], [200; 3]);
        type Case<'a> = (&'a [u8], u32, u32, [u8; 3], [u8; 3]);
        let cases: [Case; 11] = [
            (fixture!("cmyk.jpg"), 16, 16, red, blue),
            (fixture!("grey.jpg"), 16, 16, dark, light),
            (fixture!("progressive.jpg"), 16, 16, red, blue),
            // Stored lying, red at the left: upright, red is on top.
            (fixture!("turned.jpg"), 16, 32, red, blue),
            (fixture!("grey16.png"), 4, 4, [0x80; 3], [0x80; 3]),
            (fixture!("alpha.png"), 4, 4, red, blue),
            (fixture!("grey-alpha.png"), 4, 4, dark, light),
            (fixture!("palette.png"), 4, 4, red, blue),
            // The first of two frames, red and blue.
            (fixture!("moving.png"), 4, 4, red, red),
            (fixture!("moving.webp"), 4, 4, red, red),
            (fixture!("lossy.webp"), 4, 4, red, red),
        ];
        for (i, (bytes, width, height, first, last)) in cases.into_iter().enumerate() {
            let (w, h, a, b) = corners(bytes, 3);
            assert!(
                (w, h) == (width, height) && near(&a, &first) && near(&b, &last),
                "case {i}: {w} x {h} {a:?} {b:?}"
            );
        }
        let (_, _, a, b) = corners(fixture!("grey.jpg"), 1);
        assert!(near(&a, &[60]) && near(&b, &[200]));
        assert_eq!(corners(fixture!("alpha.png"), 1).2.len(), 1);
    }

    #[test]
    fn cut_jpegs_are_told_from_whole_ones() {
        let whole = fixture!("turned.jpg");
        assert!(jpeg_is_whole(whole));
        // Something behind the end does no harm.
        assert!(jpeg_is_whole(&[&whole[..], &[0; 50]].concat()));
        // An end inside a segment, as a thumbnail has one, is not the picture's.
        let thumbnail = [&[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0, 0][..], &whole[2..whole.len() - 2]].concat();
        assert!(!jpeg_is_whole(&thumbnail));
        for end in 0..whole.len() - 1 {
            assert!(!jpeg_is_whole(&whole[..end]), "{end} bytes");
        }
    }

    #[test]
    fn damaged_bytes_are_an_error_and_nothing_worse() {
        for whole in [&fixture!("cmyk.jpg")[..], fixture!("turned.jpg"), fixture!("alpha.png"), fixture!("moving.webp")]
        {
            let format = sniff(&whole[..HEAD]).unwrap();
            for at in 0..whole.len() {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 0x55;
                // Some flips only change a colour; none may make a decoder panic, which `decode` would hide.
                if let Ok(image) = read(&bytes, format, 3) {
                    assert!(u64::from(image.width()) * u64::from(image.height()) <= MAX_DECODED, "byte {at}");
                }
                let cut = decode(&whole[..at], 3);
                // Of the others, what is cut off may be no more than an end mark.
                assert!(cut.is_err() || format != ImageFormat::Jpeg && at > whole.len() / 2, "{format:?}, {at} bytes");
            }
        }
    }

    /// A few bytes of a progressive JPEG can ask for another pass over all of a large picture.
    #[test]
    fn a_jpeg_of_endless_scans_is_refused() {
        let whole = fixture!("progressive.jpg");
        let scan = whole.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
        let end = whole.len() - 2;
        let repeated = |times: usize| [&whole[..end], &whole[scan..end].repeat(times), &whole[end..]].concat();
        assert!(decode(&repeated(2), 3).is_ok());
        assert!(decode(&repeated(200), 3).is_err());
    }

    #[test]
    fn a_grey_file_that_would_grow_too_large_is_refused() {
        // A header of 16000 x 16000 pixels of one bit: 256 MB as grey, three times as much as RGB.
        let chunk = |kind: &[u8], data: &[u8]| {
            let body = [kind, data].concat();
            [&(data.len() as u32).to_be_bytes()[..], &body, &crc32fast::hash(&body).to_be_bytes()].concat()
        };
        let side = 16_000u32.to_be_bytes();
        let header = chunk(b"IHDR", &[&side[..], &side, &[1, 0, 0, 0, 0]].concat());
        let png = [&b"\x89PNG\r\n\x1a\n"[..], &header, &chunk(b"IDAT", &[0; 8]), &chunk(b"IEND", &[])].concat();
        let refusal = decode(&png, 3).unwrap_err();
        assert!(refusal.contains("16000 x 16000 pixels take 768000000 bytes"), "{refusal}");
        let refusal = decode(&png, 1).unwrap_err();
        assert!(!refusal.contains("at most"), "{refusal}");
    }

    #[test]
    fn resizing_is_antialiased() {
        // One-pixel stripes at a quarter of the size are an even grey.
        let pixels = (0..64 * 8).map(|i| if i % 2 == 0 { 0 } else { 200 }).collect();
        let stripes = Picture { width: 64, height: 8, channels: 1, pixels };
        let small = stripes.resized(stripes.whole(), [16, 2]).unwrap();
        assert!(small.pixels.iter().all(|v| v.abs_diff(100) < 8), "{:?}", small.pixels);
        // Pillow's Image.resize(…, BILINEAR) of the same picture, smaller and larger: its fixed point rounds otherwise now and then.
        let at = |i: u32| (i % 900 / 3 * 7 + i / 900 * 13 + i % 3 * 50 + i % 900 / 3 * (i / 900)) as u8;
        let noise = Picture { width: 300, height: 200, channels: 3, pixels: (0..180_000).map(at).collect() };
        let sum = |p: &Picture| p.pixels.iter().map(|v| u32::from(*v)).sum::<u32>();
        let small = noise.resized(noise.whole(), [55, 37]).unwrap();
        for ((x, y), want) in [((0, 0), [62, 112, 159]), ((17, 5), [134, 120, 129]), ((54, 36), [122, 120, 118])] {
            let got = small.cut([x, y], [1, 1]).pixels;
            assert!(got.iter().zip(&want).all(|(a, b)| a.abs_diff(*b) <= 1), "{x}, {y}: {got:?}");
        }
        assert!(sum(&small).abs_diff(778_251) < 6105 / 4, "{}", sum(&small));
        let corner = noise.cut([0, 0], [8, 8]);
        let large = corner.resized(corner.whole(), [20, 12]).unwrap();
        assert!(large.cut([7, 3], [1, 1]).pixels.iter().zip([46, 96, 146]).all(|(a, b)| a.abs_diff(b) <= 1));
        assert!(sum(&large).abs_diff(90_528) < 720 / 4, "{}", sum(&large));
        let mut planes = vec![0; 6];
        Picture { width: 2, height: 1, channels: 3, pixels: vec![1, 2, 3, 4, 5, 6] }.planar(&mut planes);
        assert_eq!(planes, [1, 4, 2, 5, 3, 6]);
    }
}
