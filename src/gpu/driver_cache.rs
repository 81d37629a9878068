//! The driver's compiled pipelines, kept from one start to the next where the adapter can hand them out.

use super::{Gpu, describe};
use crate::files::cache::{CacheFolder, slug};

/// First line of a file, in front of its adapter, its length and its checksum.
const MAGIC: &str = "s3gpu pipelines 1";

/// Bytes of wgpu's and Vulkan's headers; software drivers hand out no more than those.
const HEADERS: usize = 64 + 32;

/// What a start found in the cache folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Kept {
    /// No folder to look in, or an adapter that hands nothing out.
    #[default]
    Off,
    /// Nothing that could be used.
    Cold,
    /// The driver was given an earlier start's pipelines.
    Warm,
}

/// A pipeline cache on a device, and the file that it came from.
pub struct DriverCache {
    /// What pipelines are created with.
    pub cache: wgpu::PipelineCache,
    folder: CacheFolder,
    name: String,
    key: String,
    loaded: Option<Vec<u8>>,
}

impl DriverCache {
    /// The file's name, one an adapter and driver; none where the backend keeps no pipelines.
    pub fn file_name(info: &wgpu::AdapterInfo) -> Option<String> {
        Some(format!("{}-{}", wgpu::util::pipeline_cache_key(info)?, slug(&describe(info))))
    }

    /// The device's cache with what its file holds; a file that cannot be used is left out with a note.
    pub fn open(gpu: &Gpu, notes: &mut Vec<String>) -> Option<Self> {
        let folder = gpu.cache.clone()?;
        if !gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let name = Self::file_name(&gpu.info)?;
        let key = format!("{} {:x}:{:x}", describe(&gpu.info), gpu.info.vendor, gpu.info.device);
        let loaded = match folder.read(&name) {
            Ok(None) => None,
            Ok(Some(file)) => match unseal(&key, &file) {
                Ok(data) => Some(data.to_vec()),
                Err(why) => {
                    notes.push(format!("{} is {why}: pipelines are compiled anew", folder.path(&name).display()));
                    None
                }
            },
            Err(e) => {
                notes.push(format!("{e}\n  pipelines are compiled anew"));
                None
            }
        };
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let cache = create(&gpu.device, loaded.as_deref());
        if let Some(e) = pollster::block_on(scope.pop()) {
            notes.push(format!("the driver keeps no pipelines: {e}"));
            return None;
        }
        Some(Self { cache, folder, name, key, loaded })
    }

    /// Writes what the driver has after all pipelines are made, if that is news, and says whether there was something to start
    /// from; a folder that takes no file is worth a note, no more.
    pub fn save(&self, notes: &mut Vec<String>) -> Kept {
        let data = self.cache.get_data().filter(|d| d.len() > HEADERS);
        let kept = match (&self.loaded, &data) {
            (Some(_), _) => Kept::Warm,
            (None, Some(_)) => Kept::Cold,
            (None, None) => Kept::Off,
        };
        let Some(data) = data.filter(|d| self.loaded.as_ref() != Some(d)) else { return kept };
        if let Err(e) = self.folder.write(&self.name, &seal(&self.key, &data)) {
            notes.push(format!(
                "{e}\n  the next start compiles anew; {} names another folder",
                crate::files::cache::VARIABLE
            ));
        }
        kept
    }
}

/// A cache on the device that starts with `data`.
#[allow(unsafe_code)] // the one call of wgpu's that cannot be made otherwise
fn create(device: &wgpu::Device, data: Option<&[u8]>) -> wgpu::PipelineCache {
    let desc = wgpu::PipelineCacheDescriptor { label: Some("s3gpu"), data, fallback: true };
    // SAFETY: the data must come from an earlier `PipelineCache::get_data` on such an adapter. It comes from `unseal`, which passes
    // only what `seal` wrapped: written by `DriverCache::save` into the user's own folder, for the same adapter, driver and version
    // of s3gpu, of the same length and checksum. wgpu and the driver check their own headers, which name device and driver build, too.
    unsafe { device.create_pipeline_cache(&desc) }
}

/// A file: what it is, whose it is, how long its data are and their checksum, a line each; then the data.
pub fn seal(key: &str, data: &[u8]) -> Vec<u8> {
    let head = format!("{MAGIC}\n{}\n{} {:08x}\n", key.replace('\n', " "), data.len(), crc32fast::hash(data));
    [head.as_bytes(), data].concat()
}

/// The data of a file that [`seal`] made for this key.
///
/// # Errors
/// What else the file is, as the end of `FILE is …`.
pub fn unseal<'a>(key: &str, file: &'a [u8]) -> Result<&'a [u8], &'static str> {
    let mut rest = file;
    let mut line = || {
        let end = rest.iter().position(|b| *b == b'\n')?;
        let (line, tail) = rest.split_at(end);
        rest = &tail[1..];
        std::str::from_utf8(line).ok()
    };
    let foreign = "no file of this program";
    if line().ok_or(foreign)? != MAGIC {
        return Err(foreign);
    }
    if line().ok_or("damaged")? != key.replace('\n', " ") {
        return Err("another adapter's or driver's");
    }
    let sum = line().ok_or("damaged")?;
    if sum != format!("{} {:08x}", rest.len(), crc32fast::hash(rest)) {
        return Err("damaged");
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_back_whole_or_not_at_all() {
        let data: Vec<u8> = (0..=255).collect();
        let file = seal("adapter 1", &data);
        assert_eq!(unseal("adapter 1", &file), Ok(&data[..]));
        assert_eq!(unseal("adapter 2", &file), Err("another adapter's or driver's"));
        assert_eq!(unseal("adapter 1", b"PK\x03\x04"), Err("no file of this program"));
        assert_eq!(unseal("adapter 1", b"\xff\n"), Err("no file of this program"));
        for end in 0..file.len() {
            assert!(unseal("adapter 1", &file[..end]).is_err(), "{end} bytes of {}", file.len());
        }
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0x10;
            assert!(unseal("adapter 1", &bad).is_err(), "byte {at}");
        }
        assert!(unseal("adapter 1", &[&file[..], b"x"].concat()).is_err());
    }
}
