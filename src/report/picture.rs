//! Pictures inside a page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};
use crate::files::png;

/// A PNG of planar pixels [C, H, W] as a data URI. One channel is grey, three are red, green and blue, four have opacity, too; of any
/// other number the first is shown in grey.
///
/// # Errors
/// [`Error::Io`] for an image without pixels.
pub(super) fn data_uri(pixels: &[u8], [channels, height, width]: [usize; 3]) -> Result<String> {
    let shown = if matches!(channels, 3 | 4) { channels } else { 1 };
    let plane = height * width;
    let interleaved: Vec<u8> = (0..plane).flat_map(|i| (0..shown).map(move |c| pixels[c * plane + i])).collect();
    let bytes = png(&interleaved, [shown, height, width]).map_err(Error::io("picture", "encode"))?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(bytes)))
}
