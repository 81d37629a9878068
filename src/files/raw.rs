//! safetensors files whose tensors are bytes of any type: what the integer network's file is made of.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Serialize;

use super::{tensors, write_atomic};
use crate::error::{Error, Result};

/// Largest file read, in bytes: it is held in memory whole.
const MAX_FILE: u64 = 1 << 30;
/// The header is padded to a multiple of this, so that values of up to eight bytes lie aligned.
const ALIGN: usize = 8;

/// One tensor as the file holds it: little-endian values in row-major order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTensor {
    /// Type of a value.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A safetensors file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawFile {
    /// Tensors by name.
    pub tensors: BTreeMap<String, RawTensor>,
    /// The header's `__metadata__`.
    pub meta: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    meta: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

impl RawFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Checkpoint`] when it is no safetensors file, larger than a gibibyte,
    /// truncated, or has a header that contradicts itself.
    pub fn read(path: &Path) -> Result<Self> {
        let (file, metadata) = tensors::open(path)?;
        Self::take(path, &metadata, file)
    }

    /// From a file's bytes; `path` is what errors name.
    ///
    /// # Errors
    /// As [`RawFile::read`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let mut rest = bytes;
        let metadata = tensors::metadata(path, bytes.len() as u64, &mut rest)?;
        Self::take(path, &metadata, rest)
    }

    fn take(path: &Path, metadata: &safetensors::tensor::Metadata, mut from: impl Read) -> Result<Self> {
        let size = metadata.data_len() as u64;
        if size > MAX_FILE {
            let what = format!("{size} bytes of tensors, more than the {MAX_FILE} that are read");
            return Err(Error::checkpoint(path, what, "is this the right file?"));
        }
        let mut found = Self { tensors: BTreeMap::new(), meta: tensors::strings(metadata) };
        for name in metadata.offset_keys() {
            let TensorInfo { dtype, shape, data_offsets: (start, end) } =
                metadata.info(&name).expect("the name comes from the same header");
            // The header's own check has made sure that tensors follow each other without gaps.
            let mut bytes = vec![0; end - start];
            from.read_exact(&mut bytes).map_err(Error::io(path, "read"))?;
            found.tensors.insert(name, RawTensor { dtype: *dtype, shape: shape.clone(), bytes });
        }
        Ok(found)
    }

    /// The file's bytes; the same content gives the same ones. Tensors of wide values come first, so that all lie aligned.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut order: Vec<_> = self.tensors.iter().collect();
        order.sort_by_key(|(_, t)| std::cmp::Reverse(t.dtype.bitsize()));
        let mut end = 0;
        let mut infos = BTreeMap::new();
        for (name, t) in &order {
            let data_offsets = (end, end + t.bytes.len());
            infos.insert(name.as_str(), TensorInfo { dtype: t.dtype, shape: t.shape.clone(), data_offsets });
            end = data_offsets.1;
        }
        let header = Header { meta: &self.meta, tensors: infos };
        let mut header = serde_json::to_vec(&header).expect("strings and integers are always JSON");
        header.resize(header.len().next_multiple_of(ALIGN), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        order.iter().for_each(|(_, t)| bytes.extend(&t.bytes));
        bytes
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes();
        write_atomic(path, |out| out.write_all(&bytes))
    }
}
