#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use safetensors::SafeTensors;
use tempfile::TempDir;

use super::*;

fn sample() -> TensorFile {
    let tensor = |shape: &[usize], data: &[f32]| Tensor { shape: shape.into(), data: data.into() };
    TensorFile {
        tensors: [
            ("layer1.0.conv1.weight", tensor(&[2, 1, 1, 2], &[1.5, -0.0, f32::INFINITY, f32::MIN_POSITIVE / 4.0])),
            ("bn1.bias", tensor(&[1], &[f32::from_bits(0x7fc0_1234)])),
            ("empty", tensor(&[0, 3], &[])),
            ("scalar", tensor(&[], &[-3.25])),
        ]
        .map(|(name, tensor)| (name.to_string(), tensor))
        .into(),
        meta: ["std", "method", "model", "bits", "mean", "classes"]
            .map(|key| (key.into(), format!("{key} \"ü\"")))
            .into(),
    }
}

/// A folder with one file of these bytes.
fn file_of(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Reads bytes that must be refused as a checkpoint, and returns the message.
fn refusal(bytes: &[u8]) -> String {
    let (_folder, path) = file_of(bytes);
    let error = read(&path).unwrap_err();
    assert!(matches!(&error, Error::Checkpoint { path: named, .. } if *named == path), "{error}");
    error.to_string()
}

#[test]
fn round_trip_keeps_every_bit() {
    let (_folder, path) = file_of(b"");
    let written = sample();
    write(&path, &written).unwrap();
    let back = read(&path).unwrap();
    assert_eq!(back.meta, written.meta);
    assert_eq!(back.tensors.len(), written.tensors.len());
    for (name, tensor) in &written.tensors {
        let bits = |tensor: &Tensor| tensor.data.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(back.tensors[name].shape, tensor.shape, "{name}");
        assert_eq!(bits(&back.tensors[name]), bits(tensor), "{name}");
    }
}

#[test]
fn the_same_content_gives_the_same_bytes_in_sorted_order() {
    let (_folder, path) = file_of(b"");
    let mut versions = (0..4).map(|_| {
        write(&path, &sample()).unwrap();
        fs::read(&path).unwrap()
    });
    let first = versions.next().unwrap();
    assert!(versions.all(|version| version == first));

    let length = u64::from_le_bytes(first[..8].try_into().unwrap()) as usize;
    assert_eq!(length % 8, 0);
    let header = std::str::from_utf8(&first[8..8 + length]).unwrap();
    let keys =
        ["__metadata__", "bits", "classes", "mean", "method", "model", "std", "bn1.bias", "empty", "layer1", "scalar"];
    let places = keys.map(|key| header.find(&format!("\"{key}")).unwrap());
    assert!(places.is_sorted(), "{header}");
}

#[test]
fn the_reference_crate_reads_what_is_written() {
    let (_folder, path) = file_of(b"");
    for file in [sample(), TensorFile::default()] {
        write(&path, &file).unwrap();
        let bytes = fs::read(&path).unwrap();
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.len(), file.tensors.len());
        for (name, tensor) in &file.tensors {
            let view = theirs.tensor(name).unwrap();
            let values: Vec<u8> = tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!((view.shape(), view.data()), (&tensor.shape[..], &values[..]), "{name}");
        }
    }
}

#[test]
fn other_floats_become_f32() {
    let halves: [(u16, f32); 8] = [
        (0x3c00, 1.0),
        (0xc000, -2.0),
        (0x7bff, 65504.0),
        (0x0001, 2f32.powi(-24)),
        (0x83ff, -1023.0 * 2f32.powi(-24)),
        (0x8000, -0.0),
        (0xfc00, f32::NEG_INFINITY),
        (0x3555, 0.333_251_95),
    ];
    let header = r#"{"h":{"dtype":"F16","shape":[8],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[16,18]},"d":{"dtype":"F64","shape":[1],"data_offsets":[18,26]}}"#;
    let mut data: Vec<u8> = halves.iter().flat_map(|(half, _)| half.to_le_bytes()).collect();
    data.extend(0xc0a0u16.to_le_bytes());
    data.extend(0.1f64.to_le_bytes());
    let (_folder, path) = file_of(&raw(header, &data));
    let file = read(&path).unwrap();
    for ((half, expected), value) in halves.iter().zip(&file.tensors["h"].data) {
        assert_eq!(value.to_bits(), expected.to_bits(), "{half:#06x}");
    }
    assert_eq!(file.tensors["b"].data, [-5.0]);
    assert_eq!(file.tensors["d"].data, [0.1]);
    assert!(widen_f16(0x7e00).is_nan());
}

#[test]
fn only_batch_counters_may_be_integers() {
    let header =
        |name: &str, dtype: &str| format!(r#"{{"{name}":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,8]}}}}"#);
    let (_folder, path) = file_of(&raw(&header("bn1.num_batches_tracked", "I64"), &[7; 8]));
    assert_eq!(read(&path).unwrap(), TensorFile::default());
    for (name, dtype) in [("fc.weight", "I64"), ("bn1.num_batches_tracked", "C64")] {
        let message = refusal(&raw(&header(name, dtype), &[7; 8]));
        assert!(message.contains(&format!("`{name}` holds {dtype}")), "{message}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let (_folder, path) = file_of(b"");
    write(&path, &sample()).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        let message = refusal(&whole[..length]);
        assert!(message.contains("truncated"), "{length} bytes: {message}");
    }
    let message = refusal(&[&whole[..], &[0; 3]].concat());
    assert!(message.contains("3 bytes after the last tensor"), "{message}");
}

#[test]
fn hostile_headers_are_refused() {
    let huge = usize::MAX / 2;
    let one = |shape: &str, start: usize, end: usize| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}}}"#)
    };
    let cases = [
        (b"PK\x03\x04 a zip file, as torch.save makes".to_vec(), "not a safetensors file"),
        ([&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "not a safetensors file"),
        ([&(MAX_HEADER + 1).to_le_bytes()[..], b"{}"].concat(), "not a safetensors file"),
        ([&MAX_HEADER.to_le_bytes()[..], b"{}"].concat(), "truncated"),
        (raw("{\"a\":", &[]), "damaged"),
        (raw("{\"\u{7}\"}", &[]), "damaged"),
        ([&2u64.to_le_bytes()[..], b"{\xff"].concat(), "damaged"),
        (raw(&one("[1]", 0, huge), &[0; 4]), "damaged"),
        (raw(&one(&format!("[{}]", 1u64 << 40), 0, 4 << 40), &[0; 4]), "truncated"),
        (raw(&one(&format!("[{huge},{huge}]"), 0, 4), &[0; 4]), "damaged"),
        (raw(&one("[1]", 4, 8), &[0; 8]), "`a`"),
        (raw(&one("[1]", 8, 4), &[0; 8]), "`a`"),
        (raw(&one("[-1]", 0, 4), &[0; 4]), "damaged"),
        (raw(&one("[2]", 0, 4), &[0; 4]), "damaged"),
        (raw(&one("[1]", 0, 4).replace("F32", "F31"), &[0; 4]), "damaged"),
        (raw(&"[".repeat(100_000).replacen('[', "{\"a\":[", 1), &[]), "damaged"),
    ];
    for (index, (bytes, expected)) in cases.iter().enumerate() {
        let message = refusal(bytes);
        assert!(message.contains(expected), "case {index}: {message}");
    }
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let message = read(folder.path()).unwrap_err().to_string();
    assert!(message.contains("not a file"), "{message}");
    let missing = folder.path().join("missing.safetensors");
    let message = read(&missing).unwrap_err().to_string();
    assert!(message.contains("missing.safetensors: cannot read"), "{message}");

    let sparse = folder.path().join("sparse.safetensors");
    File::create(&sparse).unwrap().set_len(MAX_FILE + 1).unwrap();
    let message = read(&sparse).unwrap_err().to_string();
    assert!(message.contains("more than"), "{message}");
}

#[test]
fn tensors_that_the_format_cannot_hold_are_not_written() {
    let (_folder, path) = file_of(b"old");
    for (name, shape) in [("a", vec![3]), ("a", vec![usize::MAX, 3]), ("__metadata__", vec![2])] {
        let tensor = Tensor { shape, data: vec![1.0, 2.0] };
        let file = TensorFile { tensors: [(name.to_string(), tensor)].into(), ..TensorFile::default() };
        assert!(matches!(write(&path, &file), Err(Error::Checkpoint { .. })), "{name}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"old");
}
