//! An integer network: a graph as JSON, and bytes from which its tensors are filled. What is accepted is written and read again, and runs
//! alike in the plain and in the fast reference.
#![no_main]

use std::path::Path;

use s3gpu::data::Records;
use s3gpu::files::raw::RawFile;
use s3gpu::int::check::{structure, weights};
use s3gpu::int::model::{Info, Node, Op, Weight, len};
use s3gpu::int::packing::ShiftWeight;
use s3gpu::int::{Fast, Model, plain};
use s3gpu_fuzz::halves;
use s3gpu_fuzz::libfuzzer_sys::fuzz_target;

/// Weights of a layer and multiplications of a network, beyond which an input costs too much time.
const MOST_WEIGHTS: u64 = 1 << 12;
const MOST_PRODUCTS: u64 = 1 << 18;

/// The graph as a file says it, whatever it is, and no tensor at all.
fn bare(graph: &str) -> RawFile {
    let text = [("format", s3gpu::int::file::FORMAT), ("graph", graph)];
    let meta = text.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    RawFile { tensors: Default::default(), meta }
}

/// Fills the tensors from `bytes`, again and again; whether they are few enough.
fn filled(nodes: &mut [Node], bytes: &[u8]) -> bool {
    let mut bytes = bytes.iter().chain([&0]).cycle().copied();
    let mut products = 0;
    for i in 0..nodes.len() {
        let (before, node) = nodes.split_at_mut(i);
        let node = &mut node[0];
        let inputs: Vec<_> = node.inputs.iter().map(|input| &before[*input]).collect();
        let count = weights(node, &inputs);
        let channels = node.shape.c as usize;
        products += len(node.shape) as u64 * (1 + count / channels as u64);
        if count.max(channels as u64) > MOST_WEIGHTS || products > MOST_PRODUCTS {
            return false;
        }
        let mut values = |n: usize| bytes.by_ref().take(n).map(|b| b as i8).collect::<Vec<_>>();
        match &mut node.op {
            Op::Input(input) => input.lut = values(256 * channels),
            Op::Conv(conv) => match &mut conv.weight {
                Weight::Int8 { values: all } => *all = values(count as usize),
                Weight::Shift { table, codes, .. } => {
                    let code = |byte: i8| {
                        let index = byte as u8 as usize % table.len();
                        ShiftWeight { index: index as u8, negative: byte < 0 && table[index].is_some() }
                    };
                    *codes = values(count as usize).into_iter().map(code).collect();
                }
            },
            Op::Linear(linear) => {
                linear.weight = values(count as usize);
                linear.bias = values(channels).into_iter().map(|b| i32::from(b) << 8).collect();
            }
            _ => (),
        }
    }
    true
}

fuzz_target!(|bytes: &[u8]| {
    let (graph, bytes) = halves(bytes);
    let Ok(graph) = std::str::from_utf8(graph) else { return };
    let path = Path::new("fuzz");
    assert!(Model::from_file(bare(graph), path).is_err());
    let Ok(mut nodes) = serde_json::from_str::<Vec<Node>>(graph) else { return };
    if structure(&nodes).is_err() || !filled(&mut nodes, bytes) {
        return;
    }
    let classes = nodes.last().expect("two nodes at least").shape.c as usize;
    let class_names = (0..classes).map(|c| c.to_string()).collect();
    let info = Info { class_names, mean: vec![0.5], std: vec![0.5], ..Info::default() };
    let model = Model { info, nodes };
    let file = RawFile::from_bytes(&model.to_file().to_bytes(), path).expect("what is written is readable");
    let Ok(read) = Model::from_file(file, path) else { return };
    assert_eq!(read, model);
    let image_len = len(model.input());
    let pixels: Vec<u8> = bytes.iter().chain([&255]).cycle().take(image_len).copied().collect();
    let logits = plain::forward(&model, &pixels, |_, _| ());
    assert_eq!(Fast::new(&model).logits(&Records { pixels, labels: vec![0], image_len }), logits);
});
