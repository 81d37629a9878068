//! The float network with its composed weights as ONNX: u8 pixels [N, C, H, W] in, f32 logits [N, classes] out.
//!
//! Protocol buffers are written by hand: a message is fields, and seven kinds of message are needed.

use super::super::float::{FloatNet, FloatOp, Norm};
use crate::graph::Shape;

/// Operator set and format version: what every runtime since 2020 knows.
const OPSET: u64 = 13;
const IR_VERSION: u64 = 7;
/// ONNX's numbers for types.
const FLOAT: u64 = 1;
const UINT8: u64 = 2;
const INT64: u64 = 7;

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }
    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }
    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }
    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }
    fn message(self, field: u64, value: Message) -> Self {
        self.bytes(field, &value.0)
    }
    fn all(self, field: u64, values: impl IntoIterator<Item = Message>) -> Self {
        values.into_iter().fold(self, |m, v| m.message(field, v))
    }
}

/// TensorProto.
fn tensor(name: &str, kind: u64, dims: &[usize], raw: Vec<u8>) -> Message {
    let dims = dims.iter().fold(Message::default(), |m, d| m.number(1, *d as u64));
    dims.number(2, kind).text(8, name).bytes(9, &raw)
}

fn floats(name: &str, dims: &[usize], values: &[f32]) -> Message {
    tensor(name, FLOAT, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn ints(name: &str, values: &[i64]) -> Message {
    tensor(name, INT64, &[values.len()], values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// ValueInfoProto of a tensor whose first dimension is the batch.
fn value(name: &str, kind: u64, dims: &[u32]) -> Message {
    let batch = Message::default().text(2, "N");
    let fixed = dims.iter().map(|d| Message::default().number(1, u64::from(*d)));
    let shape = Message::default().message(1, batch).all(1, fixed);
    let kind = Message::default().number(1, kind).message(2, shape);
    Message::default().text(1, name).message(2, Message::default().message(1, kind))
}

/// AttributeProto of integers, of one integer, of a float.
fn attribute_ints(name: &str, values: &[u32]) -> Message {
    let list = values.iter().fold(Message::default().text(1, name), |m, v| m.number(8, u64::from(*v)));
    list.number(20, 7)
}
fn attribute_int(name: &str, value: u64) -> Message {
    Message::default().text(1, name).number(3, value).number(20, 2)
}
fn attribute_float(name: &str, value: f32) -> Message {
    Message::default().text(1, name).float(2, value).number(20, 1)
}

/// Nodes and constants of the graph.
#[derive(Default)]
struct Builder {
    nodes: Vec<Message>,
    constants: Vec<Message>,
}

impl Builder {
    /// Adds a node with one output of its own name.
    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attributes: Vec<Message>) {
        let node = inputs.iter().fold(Message::default(), |m, input| m.text(1, input));
        self.nodes.push(node.text(2, name).text(3, name).text(4, op).all(5, attributes));
    }

    fn normalize(&mut self, name: &str, mean: &[f32], std: &[f32]) {
        let dims = [1, mean.len(), 1, 1];
        self.constants.push(floats("pixel_scale", &[1], &[255.0]));
        self.constants.push(floats("mean", &dims, mean));
        self.constants.push(floats("std", &dims, std));
        self.node("Cast", "floats", &["pixels"], vec![attribute_int("to", FLOAT)]);
        self.node("Div", "unit", &["floats", "pixel_scale"], vec![]);
        self.node("Sub", "centred", &["unit", "mean"], vec![]);
        self.node("Div", name, &["centred", "std"], vec![]);
    }

    /// Weights [Cout, taps, Cin] become [Cout, Cin, kh, kw].
    fn conv(&mut self, name: &str, x: &str, [k, stride, pad]: [u32; 3], cin: usize, weight: &[f32], norm: &Norm) {
        let taps = (k * k) as usize;
        let channel = |w: &[f32]| (0..taps * cin).map(|i| w[i % taps * cin + i / taps]).collect::<Vec<_>>();
        let weight: Vec<f32> = weight.chunks_exact(taps * cin).flat_map(channel).collect();
        let cout = norm.gamma.len();
        let own = |what: &str| format!("{name}.{what}");
        self.constants.push(floats(&own("weight"), &[cout, cin, k as usize, k as usize], &weight));
        let window = vec![
            attribute_ints("kernel_shape", &[k, k]),
            attribute_ints("strides", &[stride, stride]),
            attribute_ints("pads", &[pad; 4]),
        ];
        self.node("Conv", &own("conv"), &[x, &own("weight")], window);
        let parts = [("gamma", &norm.gamma), ("beta", &norm.beta), ("mean", &norm.mean), ("var", &norm.var)];
        parts.iter().for_each(|(what, values)| self.constants.push(floats(&own(what), &[cout], values)));
        let inputs = [own("conv"), own("gamma"), own("beta"), own("mean"), own("var")];
        let inputs = inputs.each_ref().map(String::as_str);
        self.node("BatchNormalization", name, &inputs, vec![attribute_float("epsilon", Norm::eps())]);
    }

    fn pad_shortcut(&mut self, name: &str, x: &str, stride: u32, from: Shape, to: Shape) {
        let own = |what: &str| format!("{name}.{what}");
        let front = i64::from(to.c - from.c) / 2;
        let constants = [
            ("starts", vec![0, 0]),
            ("ends", vec![from.h.into(), from.w.into()]),
            ("axes", vec![2, 3]),
            ("steps", vec![stride.into(); 2]),
            ("pads", vec![0, front, 0, 0, 0, front, 0, 0]),
        ];
        constants.iter().for_each(|(what, values)| self.constants.push(ints(&own(what), values)));
        let inputs = ["starts", "ends", "axes", "steps"].map(own);
        let [a, b, c, d] = inputs.each_ref().map(String::as_str);
        self.node("Slice", &own("slice"), &[x, a, b, c, d], vec![]);
        self.node("Pad", name, &[&own("slice"), &own("pads")], vec![]);
    }
}

/// The ONNX file's bytes.
pub fn write(net: &FloatNet) -> Vec<u8> {
    let mut b = Builder::default();
    for node in &net.nodes {
        let input = |i: usize| &net.nodes[node.inputs[i]];
        // A ReLU takes the node's name; what it reads is `NAME.sum`.
        let name = if node.relu { format!("{}.sum", node.name) } else { node.name.clone() };
        match &node.op {
            FloatOp::Input => b.normalize(&name, &net.mean, &net.std),
            FloatOp::Conv { window, weight, norm, .. } => {
                b.conv(&name, &input(0).name, *window, input(0).shape.c as usize, weight, norm);
            }
            FloatOp::Add => b.node("Add", &name, &[&input(0).name, &input(1).name], vec![]),
            FloatOp::PadShortcut { stride } => {
                b.pad_shortcut(&name, &input(0).name, *stride, input(0).shape, node.shape);
            }
            FloatOp::MaxPool { window: [k, stride, pad] } => {
                let window = vec![
                    attribute_ints("kernel_shape", &[*k, *k]),
                    attribute_ints("strides", &[*stride, *stride]),
                    attribute_ints("pads", &[*pad; 4]),
                ];
                b.node("MaxPool", &name, &[&input(0).name], window);
            }
            FloatOp::GlobalAvgPool => b.node("GlobalAveragePool", &name, &[&input(0).name], vec![]),
            FloatOp::Linear { weight, bias, .. } => {
                let [w, c, flat] = ["weight", "bias", "flat"].map(|what| format!("{name}.{what}"));
                b.constants.push(floats(&w, &[bias.len(), weight.len() / bias.len()], weight));
                b.constants.push(floats(&c, &[bias.len()], bias));
                b.node("Flatten", &flat, &[&input(0).name], vec![attribute_int("axis", 1)]);
                b.node("Gemm", &name, &[&flat, &w, &c], vec![attribute_int("transB", 1)]);
            }
        }
        if node.relu {
            b.node("Relu", &node.name, &[&name], vec![]);
        }
    }
    let (first, last) = (net.nodes[0].shape, net.nodes.last().expect("a network ends in its classifier"));
    let graph = Message::default()
        .all(1, b.nodes)
        .text(2, "s3gpu")
        .all(5, b.constants)
        .message(11, value("pixels", UINT8, &[first.c, first.h, first.w]))
        .message(12, value(&last.name, FLOAT, &[last.shape.c]));
    let opset = Message::default().text(1, "").number(2, OPSET);
    let model = Message::default().number(1, IR_VERSION).text(2, "s3gpu").text(3, env!("CARGO_PKG_VERSION"));
    model.message(7, graph).message(8, opset).0
}
