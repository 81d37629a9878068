//! Checkpoints as safetensors files: named f32 tensors and a map of strings.
//!
//! The layout is a u64 (little-endian) with the header's length, the JSON header padded with spaces to 8 bytes, and the
//! values in the header's order. Reading leans on the safetensors crate for the header's rules; writing is done here
//! because that crate's metadata is a hash map, whose order differs from run to run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;

use super::write_atomic;
use crate::error::{Error, Result};

/// Bytes of the length that opens the file.
const PREFIX: u64 = 8;
/// Largest header read, in bytes: about a hundred thousand tensors.
const MAX_HEADER: u64 = 16 << 20;
/// Largest file read, in bytes: beyond any network trained here, below what a sparse file can claim.
const MAX_FILE: u64 = 16 << 30;
/// The way out of a damaged file.
const AGAIN: &str = "copy or download it again, or use another checkpoint";

/// One tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values in row-major order, as many as the dimensions' product.
    pub data: Vec<f32>,
}

/// What a safetensors file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorFile {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The header's `__metadata__`.
    pub meta: BTreeMap<String, String>,
}

/// One tensor as a file's header describes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// Type of its values, in the format's terms: `F32`, `I64` …
    #[serde(rename = "type")]
    pub dtype: String,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Bytes.
    pub bytes: usize,
}

/// The JSON header, in the order in which it is written.
#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__", skip_serializing_if = "BTreeMap::is_empty")]
    meta: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

/// Reads a safetensors file.
///
/// F32 is kept bit for bit; F16 and BF16 widen exactly; F64 rounds to the nearest f32. Integer tensors named
/// `…num_batches_tracked`, PyTorch's batch counters, are left out.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Checkpoint`] when it is no safetensors file, is truncated, has a
/// header that contradicts itself, or holds a tensor of another type.
pub fn read(path: impl AsRef<Path>) -> Result<TensorFile> {
    let path = path.as_ref();
    let (mut file, metadata) = open(path)?;
    let mut tensors = BTreeMap::new();
    let mut bytes = Vec::new();
    for name in metadata.offset_keys() {
        let TensorInfo { dtype, shape, data_offsets: (start, end) } =
            metadata.info(&name).expect("the name comes from the same header");
        // The header's own check has made sure that tensors follow each other without gaps, so they are read in turn.
        bytes.resize(end - start, 0);
        file.read_exact(&mut bytes).map_err(Error::io(path, "read"))?;
        if let Some(data) = decode(*dtype, &bytes) {
            tensors.insert(name, Tensor { shape: shape.clone(), data });
        } else if !(is_integer(*dtype) && name.ends_with("num_batches_tracked")) {
            let what = format!("tensor `{name}` holds {dtype}");
            return Err(Error::checkpoint(path, what, "save it as F32 (F16, BF16 and F64 are read too)"));
        }
    }
    Ok(TensorFile { tensors, meta: strings(&metadata) })
}

/// Like [`read`], but the header alone: no tensors.
///
/// # Errors
/// As [`read`], but for the tensors' types.
pub fn read_meta(path: impl AsRef<Path>) -> Result<TensorFile> {
    let (_, metadata) = open(path.as_ref())?;
    Ok(TensorFile { tensors: BTreeMap::new(), meta: strings(&metadata) })
}

/// The tensors of any safetensors file by name, whatever their type, and its metadata; no values are read.
///
/// # Errors
/// As [`read_meta`].
pub fn list(path: impl AsRef<Path>) -> Result<(Vec<Entry>, BTreeMap<String, String>)> {
    let (_, metadata) = open(path.as_ref())?;
    let entry = |(name, info): (String, &TensorInfo)| Entry {
        name,
        dtype: info.dtype.to_string(),
        shape: info.shape.clone(),
        bytes: info.data_offsets.1 - info.data_offsets.0,
    };
    let mut entries: Vec<_> = metadata.tensors().into_iter().map(entry).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((entries, strings(&metadata)))
}

pub(super) fn strings(metadata: &Metadata) -> BTreeMap<String, String> {
    metadata.metadata().clone().unwrap_or_default().into_iter().collect()
}

/// The file, read to the end of a header that agrees with its size.
pub(super) fn open(path: &Path) -> Result<(File, Metadata)> {
    let bad = |what: String, hint: &str| Error::checkpoint(path, what, hint);
    // Before opening: to open a pipe would wait for its writer.
    let status = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
    if !status.is_file() {
        return Err(bad("not a file".into(), "name a .safetensors file"));
    }
    let size = status.len();
    if size > MAX_FILE {
        return Err(bad(format!("{size} bytes, more than the {MAX_FILE} that are read"), "is this the right file?"));
    }

    let mut file = File::open(path).map_err(Error::io(path, "read"))?;
    let metadata = metadata(path, size, &mut file)?;
    Ok((file, metadata))
}

/// The header that `file` of `size` bytes begins with, held against that size before anything large is allocated.
pub(super) fn metadata(path: &Path, size: u64, file: &mut impl Read) -> Result<Metadata> {
    let bad = |what: String, hint: &str| Error::checkpoint(path, what, hint);
    let header = read_header(path, size, file)?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| bad(format!("damaged safetensors header: {error}"), AGAIN))?;
    let (expected, found) = (metadata.data_len() as u64, size - PREFIX - header.len() as u64);
    if found < expected {
        let what = format!("truncated: the header describes {expected} bytes of tensors, the file has {found}");
        return Err(bad(what, AGAIN));
    }
    if found > expected {
        return Err(bad(format!("{} bytes after the last tensor", found - expected), AGAIN));
    }
    Ok(metadata)
}

/// Writes a safetensors file, whole or not at all. The same content gives the same bytes.
///
/// # Errors
/// [`Error::Io`] when the disk refuses (see [`write_atomic`]), [`Error::Checkpoint`] for a tensor whose values do not
/// fill its shape or whose name the format keeps for itself.
pub fn write(path: impl AsRef<Path>, file: &TensorFile) -> Result<()> {
    write_counted(path, file, &BTreeMap::new())
}

/// Like [`write()`], with `counters` as I64 scalars before the tensors: PyTorch's batch counters, which [`read`] leaves out.
///
/// # Errors
/// As [`write()`].
pub fn write_counted(path: impl AsRef<Path>, file: &TensorFile, counters: &BTreeMap<String, i64>) -> Result<()> {
    let path = path.as_ref();
    let header = encode_header(file, counters)
        .map_err(|what| Error::checkpoint(path, what, "this is a bug: please report it"))?;
    write_atomic(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        counters.values().try_for_each(|value| out.write_all(&value.to_le_bytes()))?;
        file.tensors.values().flat_map(|tensor| &tensor.data).try_for_each(|value| out.write_all(&value.to_le_bytes()))
    })
}

/// The header's bytes, once its length has been held against the file's `size`.
fn read_header(path: &Path, size: u64, file: &mut impl Read) -> Result<Vec<u8>> {
    let mut prefix = [0; PREFIX as usize + 1];
    if size < prefix.len() as u64 {
        return Err(Error::checkpoint(path, format!("only {size} bytes: empty or truncated"), AGAIN));
    }
    file.read_exact(&mut prefix).map_err(Error::io(path, "read"))?;
    let [length @ .., first] = prefix;
    let length = u64::from_le_bytes(length);
    if first != b'{' || length == 0 || length > MAX_HEADER {
        let hint = "PyTorch saves one with safetensors.torch.save_file(model.state_dict(), file)";
        return Err(Error::checkpoint(path, "not a safetensors file", hint));
    }
    if length > size - PREFIX {
        let what = format!("truncated: the header alone has {length} bytes, the file has {size}");
        return Err(Error::checkpoint(path, what, AGAIN));
    }
    let mut header = vec![first; length as usize];
    file.read_exact(&mut header[1..]).map_err(Error::io(path, "read"))?;
    Ok(header)
}

/// Little-endian values as f32; none for a type that is not a float of 16 to 64 bits.
fn decode(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|chunk| value(*chunk)).collect()
    }
    Some(match dtype {
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::F16 => each(bytes, |b| widen_f16(u16::from_le_bytes(b))),
        Dtype::BF16 => each(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        _ => return None,
    })
}

/// The f32 of IEEE half-precision bits, exactly.
fn widen_f16(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff) << 13;
    let bits = if half & 0x7c00 == 0x7c00 {
        magnitude | 0x7f80_0000
    } else {
        // The exponent's bias grows from 15 to 127; as a product this holds for subnormal numbers too.
        (f32::from_bits(magnitude) * 2f32.powi(112)).to_bits()
    };
    f32::from_bits(sign | bits)
}

fn is_integer(dtype: Dtype) -> bool {
    use Dtype::{I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// The padded header for tensors in the order of their names; what is wrong where it cannot be.
fn encode_header(file: &TensorFile, counters: &BTreeMap<String, i64>) -> Result<Vec<u8>, String> {
    let mut end = 0;
    let mut tensors = BTreeMap::new();
    for name in counters.keys() {
        let data_offsets = (end, end + size_of::<i64>());
        tensors.insert(name.as_str(), TensorInfo { dtype: Dtype::I64, shape: Vec::new(), data_offsets });
        end = data_offsets.1;
    }
    for (name, Tensor { shape, data }) in &file.tensors {
        if name == "__metadata__" {
            return Err("no tensor can be named `__metadata__`".into());
        }
        if shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size)) != Some(data.len()) {
            return Err(format!("tensor `{name}` of shape {shape:?} has {} values", data.len()));
        }
        let start = end;
        end += 4 * data.len();
        let info = TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets: (start, end) };
        tensors.insert(name.as_str(), info);
    }
    let mut header =
        serde_json::to_vec(&Header { meta: &file.meta, tensors }).expect("strings and integers are always JSON");
    header.resize(header.len().next_multiple_of(PREFIX as usize), b' ');
    Ok(header)
}

#[cfg(test)]
#[path = "tensors_tests.rs"]
mod tests;
