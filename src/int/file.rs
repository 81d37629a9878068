//! The integer network's file: safetensors with the weights as tensors and everything else as metadata.
//!
//! `graph` is the nodes as JSON; tensors are `input.lut` I8 \[C, 256\], for each convolution `NAME.weight` (I8
//! \[Cout, kh, kw, Cin\], or U32 words of bit planes), and `fc.weight` I8 \[classes, features\] with `fc.bias` I32. The stem is I8 where
//! it was trained in fp32. A classifier that was trained on levels is 0 or ± 2^k, k from 0 to 6: one digit, so one shift a weight.
//! `crc32` is over the graph's text and the tensors in the order of their names; files without one are read, too.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;

use super::check::{structure, weights};
use super::model::{Accuracy, Info, Model, Node, Op, Weight};
use super::packing::{pack, unpack, words};
use crate::error::{Error, Result};
use crate::files::raw::{RawFile, RawTensor};
use crate::files::tensors;

/// What `format` says in the files that this version writes and reads.
pub const FORMAT: &str = "s3gpu-int 1";
/// What `format` begins with in any version's.
const FAMILY: &str = "s3gpu-int ";

/// Whether a safetensors file says that it holds an integer network, of whatever version.
///
/// # Errors
/// As [`tensors::read_meta`].
pub fn is_integer(path: &Path) -> Result<bool> {
    let meta = tensors::read_meta(path)?.meta;
    Ok(meta.get("format").is_some_and(|f| f.starts_with(FAMILY)))
}

fn checksum(graph: &str, tensors: &BTreeMap<String, RawTensor>) -> String {
    let mut crc = crc32fast::Hasher::new();
    crc.update(graph.as_bytes());
    tensors.values().for_each(|t| crc.update(&t.bytes));
    format!("{:08x}", crc.finalize())
}

fn int8(shape: Vec<usize>, values: &[i8]) -> RawTensor {
    RawTensor { dtype: Dtype::I8, shape, bytes: values.iter().map(|v| *v as u8).collect() }
}

fn list(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

impl Model {
    /// As a file's content.
    pub fn to_file(&self) -> RawFile {
        let mut tensors = BTreeMap::new();
        for node in &self.nodes {
            let [cout, cin] = [node.shape, node.inputs.first().map_or(node.shape, |i| self.nodes[*i].shape)]
                .map(|shape| shape.c as usize);
            match &node.op {
                Op::Input(input) => {
                    tensors.insert(format!("{}.lut", node.name), int8(vec![cout, 256], &input.lut));
                }
                Op::Conv(conv) => {
                    let k = conv.kernel as usize;
                    let tensor = match &conv.weight {
                        Weight::Int8 { values } => int8(vec![cout, k, k, cin], values),
                        Weight::Shift { bits, codes, .. } => {
                            let words = pack(codes, *bits);
                            let bytes = words.iter().flat_map(|w| w.to_le_bytes()).collect();
                            RawTensor { dtype: Dtype::U32, shape: vec![words.len()], bytes }
                        }
                    };
                    tensors.insert(format!("{}.weight", node.name), tensor);
                }
                Op::Linear(linear) => {
                    tensors.insert(format!("{}.weight", node.name), int8(vec![cout, cin], &linear.weight));
                    let bytes = linear.bias.iter().flat_map(|b| b.to_le_bytes()).collect();
                    let bias = RawTensor { dtype: Dtype::I32, shape: vec![cout], bytes };
                    tensors.insert(format!("{}.bias", node.name), bias);
                }
                _ => (),
            }
        }
        let graph = json(&self.nodes);
        let i = &self.info;
        let meta = [
            ("format", FORMAT.to_string()),
            ("model", i.model.clone()),
            ("method", i.method.clone()),
            ("bits", i.bits.to_string()),
            ("dataset", i.dataset.clone()),
            ("class_names", json(&i.class_names)),
            ("mean", list(&i.mean)),
            ("std", list(&i.std)),
            ("step", i.step.to_string()),
            ("epoch", i.epoch.to_string()),
            ("terms", i.terms.to_string()),
            ("calibration", i.calibration.to_string()),
            ("crc32", checksum(&graph, &tensors)),
            ("graph", graph),
        ];
        let mut meta: BTreeMap<_, _> = meta.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        if let Some(accuracy) = &i.accuracy {
            meta.insert("accuracy".into(), json(accuracy));
        }
        RawFile { tensors, meta }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        self.to_file().write(path)
    }

    /// Reads a file and checks all of it, the proof included.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] that names the field that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        // The header alone first: tensors are read once all that it says has been found right.
        let (entries, meta) = tensors::list(path)?;
        let found = entries.iter().map(|e| (&e.name[..], (e.dtype.clone(), &e.shape[..])));
        header(&meta).and_then(|nodes| same_tensors(&nodes, found)).map_err(wrong(path))?;
        Self::from_file(RawFile::read(path)?, path)
    }

    /// From a file's content; `path` is what errors name.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the field that is wrong.
    pub fn from_file(file: RawFile, path: &Path) -> Result<Self> {
        decode(file).map_err(wrong(path))
    }
}

fn wrong(path: &Path) -> impl FnOnce(String) -> Error {
    move |what| Error::checkpoint(path, what, "export it again, or copy it again from its source")
}

/// Numbers of a network are finite, so nothing here fails.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("lists, names and finite numbers are always JSON")
}

type Meta = BTreeMap<String, String>;

fn get<'a>(meta: &'a Meta, key: &str) -> Result<&'a str, String> {
    meta.get(key).map(String::as_str).ok_or_else(|| format!("its metadata has no `{key}`"))
}

fn parse<T: for<'a> serde::Deserialize<'a>>(key: &str, text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| format!("{key}: {e}"))
}

/// The graph, still without its tensors.
fn header(meta: &Meta) -> Result<Vec<Node>, String> {
    let format = get(meta, "format")?;
    if format != FORMAT {
        let shown = format.escape_default();
        return Err(format!("format is `{shown}`, but this version reads `{FORMAT}`"));
    }
    let nodes: Vec<Node> = parse("graph", get(meta, "graph")?)?;
    structure(&nodes)?;
    Ok(nodes)
}

/// What a graph's tensors are called, what they hold, and their shapes, in its order.
fn expected(nodes: &[Node]) -> Vec<(String, Dtype, Vec<usize>)> {
    let mut found = Vec::new();
    for node in nodes {
        let inputs: Vec<_> = node.inputs.iter().map(|n| &nodes[*n]).collect();
        let [cout, cin] = [node, inputs.first().unwrap_or(&node)].map(|n| n.shape.c as usize);
        let mut add = |what: &str, dtype, shape| found.push((format!("{}.{what}", node.name), dtype, shape));
        match &node.op {
            Op::Input(_) => add("lut", Dtype::I8, vec![cout, 256]),
            Op::Conv(conv) => match &conv.weight {
                Weight::Int8 { .. } => {
                    let k = conv.kernel as usize;
                    add("weight", Dtype::I8, vec![cout, k, k, cin]);
                }
                Weight::Shift { bits, .. } => {
                    add("weight", Dtype::U32, vec![words(weights(node, &inputs) as usize, *bits)]);
                }
            },
            Op::Linear(_) => {
                add("weight", Dtype::I8, vec![cout, cin]);
                add("bias", Dtype::I32, vec![cout]);
            }
            _ => (),
        }
    }
    found
}

/// Whether a file's tensors, name by name with type and shape, are the graph's, no more and no fewer.
fn same_tensors<'a>(
    nodes: &[Node],
    found: impl Iterator<Item = (&'a str, (String, &'a [usize]))>,
) -> Result<(), String> {
    let mut found: BTreeMap<_, _> = found.collect();
    for (name, wanted, size) in expected(nodes) {
        let (dtype, shape) = found.remove(&name[..]).ok_or_else(|| format!("tensor `{name}` is missing"))?;
        if dtype != wanted.to_string() {
            return Err(format!("tensor `{name}` holds {dtype}, but must hold {wanted}"));
        }
        if shape != size {
            return Err(format!("tensor `{name}` has shape {shape:?}, but the graph needs {size:?}"));
        }
    }
    match found.into_keys().next() {
        Some(name) => Err(format!("tensor `{}` is not of the graph", name.escape_default())),
        None => Ok(()),
    }
}

fn decode(mut file: RawFile) -> Result<Model, String> {
    let meta = std::mem::take(&mut file.meta);
    let get = |key: &str| get(&meta, key);
    let mut nodes = header(&meta)?;
    same_tensors(&nodes, file.tensors.iter().map(|(name, t)| (&name[..], (t.dtype.to_string(), &t.shape[..]))))?;
    let holds = |t: &RawTensor| t.shape.iter().product::<usize>().checked_mul(t.dtype.bitsize());
    if let Some((name, _)) = file.tensors.iter().find(|(_, t)| holds(t) != Some(8 * t.bytes.len())) {
        return Err(format!("tensor `{name}` has not as many bytes as its shape says"));
    }
    let number = |key: &str| -> Result<u64, String> { parse(key, get(key)?) };
    let floats = |key: &str| -> Result<Vec<f32>, String> {
        let one = |v: &str| v.parse().ok().filter(|v: &f32| v.is_finite());
        let all: Option<Vec<f32>> = get(key)?.split(',').map(one).collect();
        all.ok_or_else(|| format!("{key} is not a comma-separated list of numbers"))
    };
    if let Some(wanted) = meta.get("crc32") {
        let found = checksum(get("graph")?, &file.tensors);
        if found != *wanted {
            return Err(format!("crc32 is {}, but graph and tensors give {found}: damaged", wanted.escape_default()));
        }
    }
    // All are there, at their types and shapes.
    let mut take = |name: String| file.tensors.remove(&name).map(|t| t.bytes).unwrap_or_default();
    let signed = |bytes: Vec<u8>| bytes.into_iter().map(|b| b as i8).collect();
    for i in 0..nodes.len() {
        let count = weights(&nodes[i], &nodes[i].inputs.iter().map(|n| &nodes[*n]).collect::<Vec<_>>());
        let node = &mut nodes[i];
        let name = |what: &str| format!("{}.{what}", node.name);
        match &mut node.op {
            Op::Input(input) => input.lut = signed(take(name("lut"))),
            Op::Conv(conv) => match &mut conv.weight {
                Weight::Int8 { values } => *values = signed(take(name("weight"))),
                Weight::Shift { bits, codes, .. } => {
                    let bytes = take(name("weight"));
                    let planes: Vec<u32> = bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
                    *codes = unpack(&planes, *bits, count as usize);
                }
            },
            Op::Linear(linear) => {
                linear.weight = signed(take(name("weight")));
                linear.bias = take(name("bias")).as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
            }
            _ => (),
        }
    }
    let info = Info {
        model: get("model")?.into(),
        method: get("method")?.into(),
        bits: number("bits")?.try_into().map_err(|_| "bits is too large".to_string())?,
        dataset: get("dataset")?.into(),
        class_names: parse("class_names", get("class_names")?)?,
        mean: floats("mean")?,
        std: floats("std")?,
        step: number("step")?,
        epoch: number("epoch")?,
        terms: number("terms")?.try_into().map_err(|_| "terms is too large".to_string())?,
        calibration: number("calibration")?,
        accuracy: meta.get("accuracy").map(|text| parse::<Accuracy>("accuracy", text)).transpose()?,
    };
    for (key, text) in [("model", &info.model), ("method", &info.method), ("dataset", &info.dataset)] {
        if text.chars().any(char::is_control) {
            return Err(format!("{key} holds a control character"));
        }
    }
    let model = Model { info, nodes };
    model.check()?;
    Ok(model)
}
