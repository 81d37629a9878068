//! Damaged and hostile files of integer networks: refused by the name of what is wrong, before anything large is allocated.

mod program;

use std::io::Write;
use std::path::{Path, PathBuf};

use program::Place;
use rayon::prelude::*;
use s3gpu::Result;
use s3gpu::files::raw::{RawFile, RawTensor};
use s3gpu::int::Model;
use serde_json::{Value, json};

const NAME: &str = "m.safetensors";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/int/shapes-resnet8-s3-3bit.safetensors")
}

fn read(bytes: &[u8]) -> Result<Model> {
    RawFile::from_bytes(bytes, Path::new(NAME)).and_then(|file| Model::from_file(file, Path::new(NAME)))
}

/// A safetensors file of this header and so many bytes behind it.
fn file(header: &str, bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; bytes]].concat()
}

/// The message, which names the file and a way out.
fn message<T>(outcome: Result<T>, what: &str) -> String {
    let Err(error) = outcome else { panic!("{what}: accepted") };
    let text = error.to_string();
    assert!(text.starts_with(NAME) && text.contains('\n'), "{what}: {text}");
    text
}

#[test]
fn no_flipped_bit_gives_another_network() {
    let whole = std::fs::read(fixture()).expect("the fixture");
    let good = read(&whole).expect("the fixture");
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("eight")) as usize;
    let flipped = |at: usize, bit: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        (at, bit, read(&bytes))
    };
    // Every bit of the header, and of the tensors every fifth byte at changing bits.
    let every = (0..8 * header).into_par_iter().map(|i| flipped(i / 8, i % 8));
    let some = (header..whole.len()).into_par_iter().step_by(5).map(|at| flipped(at, at % 8));
    let accepted: Vec<_> = every
        .chain(some)
        .filter_map(|(at, bit, outcome)| match outcome {
            Ok(model) => Some((at, bit, model)),
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with(NAME) && text.contains('\n'), "byte {at}, bit {bit}: {text}");
                None
            }
        })
        .collect();
    // In the metadata alone, and not in the graph's: names, accuracy, normalization and counters are free, and a key can become unknown.
    let text = std::str::from_utf8(&whole[8..header]).expect("JSON");
    let place = |what: &str| 8 + text.find(what).unwrap_or_else(|| panic!("no {what}"));
    let (graph, behind, tensors) = (place("\"graph\":"), place("\",\"mean\":"), place("\"terms\":"));
    let tensors = tensors + text[tensors - 8..].find('}').expect("the metadata's end");
    for (at, bit, model) in &accepted {
        assert!(model.nodes == good.nodes, "byte {at}, bit {bit} changed the network unseen");
        let free = *at < graph || (behind..tensors).contains(at);
        assert!(free, "byte {at}, bit {bit} was not noticed");
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let tensor = |dtype: &str, shape: Value, offsets: Value| {
        json!({ "t": { "dtype": dtype, "shape": shape, "data_offsets": offsets } }).to_string()
    };
    let max = u64::MAX;
    let cases = [
        ("offsets behind the end", tensor("I8", json!([64]), json!([0, 64])), 16),
        ("offsets far behind the end", tensor("I8", json!([1u64 << 40]), json!([0, 1u64 << 40])), 16),
        ("bytes that no tensor has", tensor("I8", json!([8]), json!([0, 8])), 16),
        ("offsets backwards", tensor("I8", json!([8]), json!([8, 0])), 8),
        ("a gap before the first", tensor("I8", json!([8]), json!([8, 16])), 16),
        ("a negative offset", tensor("I8", json!([8]), json!([-8, 0])), 8),
        ("an offset of half a byte", tensor("I8", json!([8]), json!([0, 8.5])), 8),
        ("a shape larger than its bytes", tensor("I8", json!([9]), json!([0, 8])), 8),
        ("a product beyond 64 bits", tensor("I8", json!([1u64 << 40, 1u64 << 40]), json!([0, 0])), 0),
        ("a product of 2^64 bits", tensor("U32", json!([1u64 << 62]), json!([0, 0])), 0),
        ("a size beyond 64 bits", tensor("I8", json!([max]), json!([0, max])), 8),
        ("an unknown type", tensor("I3", json!([8]), json!([0, 8])), 8),
        ("metadata that is no text", json!({ "__metadata__": { "format": 1 } }).to_string(), 0),
        ("metadata that is a list", json!({ "__metadata__": [] }).to_string(), 0),
        ("a tower of brackets", format!("{{\"t\":{}", "[".repeat(100_000)), 0),
        ("no object", "{}[]".into(), 0),
    ];
    for (what, header, bytes) in cases {
        message(read(&file(&header, bytes)), what);
    }
    let overlapping = json!({
        "a": { "dtype": "I8", "shape": [8], "data_offsets": [0, 8] },
        "b": { "dtype": "I8", "shape": [8], "data_offsets": [4, 12] },
    });
    message(read(&file(&overlapping.to_string(), 12)), "tensors that overlap");
    for length in [0, 1, 1 << 20, (16 << 20) + 1, 1 << 40, u64::MAX] {
        let mut bytes = file("{\"a\":1}", 64);
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        message(read(&bytes), &format!("a header of {length} bytes"));
    }
}

/// A file whose graph is these nodes after the input, with no tensors at all.
fn graph(input: [u32; 3], nodes: &[Value]) -> RawFile {
    let [h, w, c] = input;
    let first = json!({ "name": "input", "inputs": [], "shape": { "h": h, "w": w, "c": c }, "kind": "i8", "exponent": 0, "op": { "input": {} } });
    let mut file = RawFile::read(&fixture()).expect("the fixture");
    file.tensors.clear();
    file.meta.remove("crc32");
    file.meta.insert("graph".into(), Value::Array([&[first], nodes].concat()).to_string());
    file
}

fn conv(out: [u32; 3], window: [u32; 3]) -> Value {
    let ([h, w, c], [kernel, stride, pad]) = (out, window);
    let each = |v: i32| vec![v; c as usize];
    let weight = json!({ "shift": { "bits": 3, "table": [null, 0, 1, 2], "exponent": 0 } });
    let op = json!({ "kernel": kernel, "stride": stride, "pad": pad, "weight": weight, "preshift": 0, "multiplier": each(3), "bias": each(0), "shift": each(8) });
    json!({ "name": "conv", "inputs": [0], "shape": { "h": h, "w": w, "c": c }, "kind": "u8", "exponent": 0, "op": { "conv": op } })
}

#[test]
fn products_that_grow_beyond_bounds_are_refused_by_name() {
    let max = u32::MAX;
    let cases: [(&str, RawFile, &[&str]); 9] = [
        ("sides", graph([max, max, max], &[]), &["number of graph.nodes"]),
        ("sides", graph([max, 1, 1], &[conv([1, 1, 1], [1, 1, 0])]), &["graph.nodes[0]", "shape.h"]),
        ("channels", graph([1, 1, max], &[conv([1, 1, 1], [1, 1, 0])]), &["graph.nodes[0]", "shape.c"]),
        ("elements", graph([8192, 8192, 3], &[conv([1, 1, 1], [1, 1, 0])]), &["graph.nodes[0]", "product of shape"]),
        ("window", graph([8, 8, 3], &[conv([8, 8, 4], [max, 1, 0])]), &["graph.nodes[1]", "kernel"]),
        ("padding", graph([8, 8, 3], &[conv([8, 8, 4], [3, 1, max])]), &["graph.nodes[1]", "pad"]),
        ("stride", graph([8, 8, 3], &[conv([8, 8, 4], [3, max, 1])]), &["graph.nodes[1]", "stride"]),
        ("padded", graph([1, 1, 65_536], &[conv([31, 31, 16], [31, 1, 30])]), &["graph.nodes[1]", "padded input"]),
        ("weights", graph([1, 1, 65_536], &[conv([1, 1, 16], [31, 1, 15])]), &["graph.nodes[1]", "number of weights"]),
    ];
    for (what, file, words) in cases {
        let text = message(Model::from_file(file, Path::new(NAME)), what);
        assert!(words.iter().all(|w| text.contains(w)), "{what}: {text}");
    }
    // A node that reads itself, one after it, and one that there is not.
    for input in [1, 2, usize::MAX] {
        let mut node = conv([8, 8, 4], [3, 1, 1]);
        node["inputs"] = json!([input]);
        let text = message(Model::from_file(graph([8, 8, 3], &[node]), Path::new(NAME)), "order");
        assert!(text.contains("graph.nodes[1]") && text.contains("out of order"), "{input}: {text}");
    }
    // Many activations, each within its bound.
    let copy = |i: usize| {
        let mut node = conv([8192, 8192, 1], [1, 1, 0]);
        node["name"] = format!("conv{i}").into();
        node
    };
    let file = graph([8192, 8192, 1], &(0..5).map(copy).collect::<Vec<_>>());
    let text = message(Model::from_file(file, Path::new(NAME)), "all activations");
    assert!(text.contains("linear") || text.contains("sum over graph.nodes"), "{text}");
    // Bytes that are not those of the shape, from a caller that made the file up.
    let mut file = RawFile::read(&fixture()).expect("the fixture");
    file.meta.remove("crc32");
    file.tensors.get_mut("fc.weight").expect("it").bytes.pop();
    assert!(message(Model::from_file(file, Path::new(NAME)), "bytes").contains("fc.weight"));
}

#[test]
fn multipliers_and_shifts_stay_within_their_bounds() {
    use s3gpu::int::model::{Conv, Op};
    let changed = |change: fn(&mut Conv)| {
        let mut model = Model::read(&fixture()).expect("the fixture");
        let Op::Conv(conv) = &mut model.nodes[1].op else { panic!("a stem") };
        change(conv);
        Model::from_file(model.to_file(), Path::new(NAME))
    };
    changed(|conv| (conv.multiplier[2], conv.bias[2], conv.shift[2]) = (255, 0, 1)).expect("allowed");
    for (text, outcome) in [
        ("multiplier is 256,", changed(|conv| conv.multiplier[2] = 256)),
        ("multiplier is -256,", changed(|conv| conv.multiplier[2] = -256)),
        ("shift is 0,", changed(|conv| conv.shift[2] = 0)),
        ("shift is 32,", changed(|conv| conv.shift[2] = 32)),
    ] {
        let found = message(outcome, text);
        assert!(found.contains("graph.nodes[1]") && found.contains(text), "{text}: {found}");
    }
}

/// Files of gibibytes that are holes but for a header, read where there is room for none of them.
#[cfg(target_os = "linux")]
#[test]
fn large_files_are_refused_unread() {
    let place = Place::new();
    let sparse = |header: &str, length: u64| {
        let mut file = std::fs::File::create(place.path(NAME)).expect("a file");
        file.write_all(&self::file(header, 0)).expect("its header");
        file.set_len(8 + header.len() as u64 + length).expect("a hole");
    };
    let refused = |words: &[&str]| {
        let line = format!("ulimit -v 1500000 && \"$S3GPU\" infer {NAME} x.png");
        place.shell(&line).fails(1, words);
    };
    let meta = RawFile::read(&fixture()).expect("the fixture").meta;
    let with = |meta: Value, dtype: &str, size: u64| {
        let tensor = json!({ "dtype": dtype, "shape": [size], "data_offsets": [0, size] });
        json!({ "__metadata__": meta, "input.lut": tensor }).to_string()
    };
    let huge = 6 << 30;
    sparse(&with(json!(meta), "I8", huge), huge);
    refused(&["input.lut", "shape"]);
    sparse(&with(json!(meta), "U8", huge), huge);
    refused(&["input.lut", "U8"]);
    let mut newer = meta.clone();
    newer.insert("format".into(), "s3gpu-int 9".into());
    sparse(&with(json!(newer), "I8", huge), huge);
    refused(&["format is `s3gpu-int 9`"]);
    sparse(&with(json!(meta), "I8", 20 << 30), 20 << 30);
    refused(&["bytes, more than"]);
    sparse(&format!("{{{}", " ".repeat(100)), huge);
    refused(&["header"]);
    // The same header with tensors of the right sizes is the network.
    let whole = std::fs::read(fixture()).expect("the fixture");
    place.put(NAME, &whole);
    refused(&["x.png"]);
    let file = RawFile::read(&fixture()).expect("the fixture");
    let small = |t: &RawTensor| t.bytes.len() < 1 << 16;
    assert!(file.tensors.values().all(small));
}
