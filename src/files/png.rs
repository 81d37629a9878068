//! Pictures to look at, as PNG.

use std::io;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

/// A PNG of H × W × C bytes, of which C = 1 is grey, 3 is RGB and 4 has opacity, too.
///
/// # Errors
/// Where there are no pixels, or not as many as the shape says.
pub fn png(pixels: &[u8], [channels, height, width]: [usize; 3]) -> io::Result<Vec<u8>> {
    let color = match channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        4 => ExtendedColorType::Rgba8,
        _ => return Err(io::Error::other(format!("a picture has 1, 3 or 4 channels, not {channels}"))),
    };
    // The encoder panics where the number of bytes is another.
    if width * height == 0 || pixels.len() != channels * height * width {
        let what = format!("{width} x {height} pixels of {channels} channels cannot have {} bytes", pixels.len());
        return Err(io::Error::other(what));
    }
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(pixels, width as u32, height as u32, color).map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_back_and_wrong_sizes_do_not() {
        for channels in [1, 3, 4] {
            let pixels: Vec<u8> = (0..channels * 2 * 3).map(|i| i as u8 * 10).collect();
            let read = image::load_from_memory(&png(&pixels, [channels, 2, 3]).unwrap()).unwrap();
            assert_eq!((read.width(), read.height(), read.into_bytes()), (3, 2, pixels));
        }
        for (bytes, shape) in [(0, [3, 0, 4]), (5, [1, 2, 3]), (12, [2, 2, 3])] {
            assert!(png(&vec![0; bytes], shape).is_err(), "{shape:?}");
        }
    }
}
