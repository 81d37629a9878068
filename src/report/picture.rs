//! Pictures inside a page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use png::{BitDepth, ColorType, Encoder};

use crate::error::{Error, Result};

/// A PNG of planar pixels [C, H, W] as a data URI. One channel is grey, three are red, green and blue, four have opacity, too; of any
/// other number the first is shown in grey.
///
/// # Errors
/// [`Error::Io`] for an image without pixels.
pub(super) fn data_uri(pixels: &[u8], [channels, height, width]: [usize; 3]) -> Result<String> {
    let (shown, color) = match channels {
        3 => (3, ColorType::Rgb),
        4 => (4, ColorType::Rgba),
        _ => (1, ColorType::Grayscale),
    };
    let plane = height * width;
    let interleaved: Vec<u8> = (0..plane).flat_map(|i| (0..shown).map(move |c| pixels[c * plane + i])).collect();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(color);
    encoder.set_depth(BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut w| {
        w.write_image_data(&interleaved)?;
        w.finish()
    });
    written.map_err(|e| Error::io("picture", "encode")(std::io::Error::other(e)))?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(bytes)))
}
