//! The network as NumPy's npz: a zip archive, stored as is, of npy arrays.
//!
//! Weights are there decoded, as int32 [Cout, kh, kw, Cin]; `graph` is the nodes as JSON, uint8.

use super::super::model::{Model, Op};
use crate::error::{Error, Result};

/// An npy file: what NumPy calls the type, the shape, little-endian values.
fn npy(dtype: &str, shape: &[usize], values: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|s| format!("{s},")).collect();
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}");
    // Magic, version and length take ten bytes; values start at a multiple of 64.
    let length = (header.len() + 11).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', length - 1 - header.len()));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((length as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(values);
    file
}

/// A zip archive of stored members, as small as the format allows: no dates, no attributes.
fn zip(members: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let large = || Error::usage("the network is too large for an npz of 4 GiB", "export it as safetensors");
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let at = u32::try_from(archive.len()).map_err(|_| large())?;
        let size = u32::try_from(content.len()).map_err(|_| large())?;
        // Version needed, flags, method, time, and the date 1980-01-01; then sum, both sizes, lengths of name and extra.
        let mut entry = Vec::new();
        [20u16, 0, 0, 0, 33].iter().for_each(|v| entry.extend(v.to_le_bytes()));
        [crc32fast::hash(content), size, size].iter().for_each(|v| entry.extend(v.to_le_bytes()));
        [name.len() as u16, 0].iter().for_each(|v| entry.extend(v.to_le_bytes()));
        archive.extend(b"PK\x03\x04");
        archive.extend(&entry);
        archive.extend(name.as_bytes());
        archive.extend(content);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&entry);
        // Comment's length, disk, attributes, and where the member starts.
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let at = u32::try_from(archive.len()).map_err(|_| large())?;
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    let count = members.len() as u16;
    [count, count].iter().for_each(|v| archive.extend(v.to_le_bytes()));
    [directory.len() as u32, at].iter().for_each(|v| archive.extend(v.to_le_bytes()));
    archive.extend([0; 2]);
    Ok(archive)
}

/// The archive's bytes.
///
/// # Errors
/// [`Error::Usage`] beyond the format's 4 GiB.
pub fn write(model: &Model) -> Result<Vec<u8>> {
    let mut members = Vec::new();
    let int32 = |shape: &[usize], values: &mut dyn Iterator<Item = i32>| {
        npy("<i4", shape, &values.flat_map(i32::to_le_bytes).collect::<Vec<_>>())
    };
    for node in &model.nodes {
        let mut add = |what: &str, content: Vec<u8>| members.push((format!("{}.{what}.npy", node.name), content));
        let cout = node.shape.c as usize;
        let cin = node.inputs.first().map_or(0, |i| model.nodes[*i].shape.c as usize);
        match &node.op {
            Op::Input(input) => add("lut", int32(&[cout, 256], &mut input.lut.iter().map(|v| i32::from(*v)))),
            Op::Conv(conv) => {
                let k = conv.kernel as usize;
                let value = |i: usize| super::super::digits::times(1, &conv.weight.digits(i));
                add("weight", int32(&[cout, k, k, cin], &mut (0..conv.weight.len()).map(value)));
                add("multiplier", int32(&[cout], &mut conv.multiplier.iter().copied()));
                add("bias", int32(&[cout], &mut conv.bias.iter().copied()));
                add("shift", int32(&[cout], &mut conv.shift.iter().map(|n| *n as i32)));
            }
            Op::Linear(linear) => {
                add("weight", int32(&[cout, cin], &mut linear.weight.iter().map(|v| i32::from(*v))));
                add("bias", int32(&[cout], &mut linear.bias.iter().copied()));
            }
            _ => (),
        }
    }
    let graph = serde_json::to_vec(&model.nodes).expect("names and finite numbers are always JSON");
    members.push(("graph.npy".into(), npy("|u1", &[graph.len()], &graph)));
    zip(&members)
}
