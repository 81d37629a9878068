//! What must hold of a network before it is run or written: order, sizes, ranges, and the proof that no int32 overflows.

use std::collections::BTreeSet;

use super::model::{Conv, Kind, Linear, Model, Node, Op, Weight};
use super::proof;
use crate::graph::Shape;

/// Most nodes, elements of one activation, and of all of them.
const MAX_NODES: usize = 4096;
const MAX_ACTIVATION: u64 = 1 << 26;
const MAX_ACTIVATIONS: u64 = 1 << 28;
/// Largest side and most channels.
const MAX_SIDE: u32 = 8192;
const MAX_CHANNELS: u32 = 1 << 16;
/// Largest window, and exponents far beyond those of any network.
const MAX_KERNEL: u32 = 31;
const MAX_EXPONENT: i32 = 64;
/// Most weights of all layers.
const MAX_WEIGHTS: u64 = 1 << 28;
/// Most bits of a shift weight.
pub const MAX_BITS: u32 = 6;

/// What is wrong, named by its field.
type Fault = String;

fn bounded<T: PartialOrd + std::fmt::Display>(field: &str, value: T, low: T, high: T) -> Result<(), Fault> {
    match value >= low && value <= high {
        true => Ok(()),
        false => Err(format!("{field} is {value}, but must be between {low} and {high}")),
    }
}

fn equal<T: PartialEq + std::fmt::Display>(field: &str, value: T, wanted: T) -> Result<(), Fault> {
    match value == wanted {
        true => Ok(()),
        false => Err(format!("{field} is {value}, but must be {wanted}")),
    }
}

/// Weights that a node's tensor must hold: none for an operation without.
pub fn weights(node: &Node, inputs: &[&Node]) -> u64 {
    let cin = inputs.first().map_or(0, |n| u64::from(n.shape.c));
    match &node.op {
        Op::Conv(c) => u64::from(node.shape.c) * cin * u64::from(c.kernel) * u64::from(c.kernel),
        Op::Linear(_) => u64::from(node.shape.c) * cin,
        _ => 0,
    }
}

/// Order, shapes, kinds and ranges; nothing of this needs a weight, so that it can come before they are read.
///
/// # Errors
/// The first field that is wrong, by name.
pub fn structure(nodes: &[Node]) -> Result<(), Fault> {
    bounded("the number of graph.nodes", nodes.len(), 2, MAX_NODES)?;
    let mut names = BTreeSet::new();
    let (mut total, mut weighing) = (0, 0);
    for (i, node) in nodes.iter().enumerate() {
        let place = |fault: Fault| format!("graph.nodes[{i}] (`{}`): {fault}", node.name.escape_default());
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
        if node.name.is_empty() || node.name.len() > 80 || !node.name.chars().all(plain) {
            return Err(place("name must be 1 to 80 letters, digits, dots and underscores".into()));
        }
        if !names.insert(&node.name) {
            return Err(place("name occurs twice".into()));
        }
        if let Some(late) = node.inputs.iter().find(|input| **input >= i) {
            return Err(place(format!("inputs has node {late}, which does not come before it: out of order")));
        }
        let Shape { h, w, c } = node.shape;
        bounded("shape.h", h, 1, MAX_SIDE).map_err(place)?;
        bounded("shape.w", w, 1, MAX_SIDE).map_err(place)?;
        bounded("shape.c", c, 1, MAX_CHANNELS).map_err(place)?;
        let elements = u64::from(h) * u64::from(w) * u64::from(c);
        bounded("the product of shape", elements, 1, MAX_ACTIVATION).map_err(place)?;
        total += elements;
        bounded("exponent", node.exponent, -MAX_EXPONENT, MAX_EXPONENT).map_err(place)?;
        let inputs: Vec<_> = node.inputs.iter().map(|input| &nodes[*input]).collect();
        let count = match node.op {
            Op::Input(_) => 0,
            Op::Add => 2,
            _ => 1,
        };
        equal("the number of inputs", inputs.len(), count).map_err(place)?;
        operation(node, &inputs).map_err(place)?;
        weighing += weights(node, &inputs);
        bounded("the number of weights up to here", weighing, 0, MAX_WEIGHTS).map_err(place)?;
        let [first, last] = [i == 0, i + 1 == nodes.len()];
        if matches!(node.op, Op::Input(_)) != first || matches!(node.op, Op::Linear(_)) != last {
            return Err(place("op: the input must be the first node and `linear` the last".into()));
        }
    }
    bounded("the sum over graph.nodes of the products of shape", total, 1, MAX_ACTIVATIONS)
}

fn operation(node: &Node, inputs: &[&Node]) -> Result<(), Fault> {
    let kinds = |allowed: &[Kind]| match allowed.contains(&node.kind) {
        true => Ok(()),
        false => Err(format!("kind is {:?}, which its op cannot give", node.kind)),
    };
    let eight = [Kind::I8, Kind::U8];
    if !matches!(node.op, Op::Linear(_)) && inputs.iter().any(|n| !eight.contains(&n.kind)) {
        return Err("inputs has a node that is not 8 bits wide".into());
    }
    let same_as = |wanted: Shape| match node.shape == wanted {
        true => Ok(()),
        false => Err(format!("shape is {}, but its op gives {wanted}", node.shape)),
    };
    let unchanged = |x: &Node| match (node.kind, node.exponent) == (x.kind, x.exponent) {
        true => Ok(()),
        false => Err("kind or exponent is not its input's".to_string()),
    };
    match (&node.op, inputs) {
        (Op::Input(_), _) => kinds(&[Kind::I8]),
        (Op::Conv(conv), [x]) => {
            kinds(&eight)?;
            same_as(Shape { c: node.shape.c, ..window(x.shape, [conv.kernel, conv.stride, conv.pad])? })?;
            self::conv(conv, node.shape.c as usize)
        }
        (Op::Add, [a, b]) => {
            kinds(&eight)?;
            same_as(a.shape)?;
            same_as(b.shape)?;
            let shifts = proof::addition([a.exponent, b.exponent], node.exponent);
            bounded("exponent: its distance to an input's", shifts.into_iter().max().unwrap_or(0), 0, 30)?;
            bounded("the largest sum", proof::residual([a.kind, b.kind], shifts), 0, proof::LIMIT)
        }
        (Op::PadShortcut { stride }, [x]) => {
            bounded("stride", *stride, 1, MAX_KERNEL)?;
            if node.shape.c < x.shape.c || !(node.shape.c - x.shape.c).is_multiple_of(2) {
                return Err(format!("shape.c is {}, which does not centre {} channels", node.shape.c, x.shape.c));
            }
            let [h, w] = [x.shape.h, x.shape.w].map(|v| v.div_ceil(*stride));
            same_as(Shape { h, w, c: node.shape.c })?;
            unchanged(x)
        }
        (Op::MaxPool { kernel, stride, pad }, [x]) => {
            kinds(&[Kind::U8])?;
            same_as(window(x.shape, [*kernel, *stride, *pad])?)?;
            unchanged(x)
        }
        (Op::GlobalSum { preshift }, [x]) => {
            kinds(&[Kind::I32])?;
            bounded("preshift", *preshift, 0, 30)?;
            same_as(Shape { h: 1, w: 1, c: x.shape.c })?;
            equal("exponent", node.exponent, x.exponent + *preshift as i32)?;
            let sum = u128::from(x.shape.h) * u128::from(x.shape.w) * u128::from(x.kind.max_abs());
            bounded("the largest sum", sum + proof::half(*preshift), 0, proof::LIMIT)
        }
        (Op::Linear(linear), [x]) => {
            kinds(&[Kind::I32])?;
            if !matches!(x.op, Op::GlobalSum { .. }) {
                return Err("inputs must be a `global_sum`".into());
            }
            same_as(Shape { h: 1, w: 1, c: node.shape.c })?;
            equal("exponent", node.exponent, 0)?;
            match linear.scale.is_finite() && linear.scale > 0.0 {
                true => Ok(()),
                false => Err(format!("scale is {}, but must be finite and above 0", linear.scale)),
            }
        }
        _ => Err("the number of inputs is wrong".into()),
    }
}

fn window(x: Shape, [kernel, stride, pad]: [u32; 3]) -> Result<Shape, Fault> {
    bounded("kernel", kernel, 1, MAX_KERNEL)?;
    bounded("stride", stride, 1, MAX_KERNEL)?;
    bounded("pad", pad, 0, kernel - 1)?;
    // An implementation may hold a padded copy.
    let padded = [x.h, x.w, x.c].into_iter().zip([2 * pad + stride, 2 * pad + stride, 0]);
    let elements = padded.map(|(size, more)| u64::from(size + more)).product();
    bounded("the product of its padded input's shape", elements, 1, 2 * MAX_ACTIVATION)?;
    let side = |size: u32| (size + 2 * pad).checked_sub(kernel).map(|left| left / stride + 1);
    match (side(x.h), side(x.w)) {
        (Some(h), Some(w)) => Ok(Shape { h, w, c: x.c }),
        _ => Err(format!("kernel is {kernel}, larger than its padded input of {x}")),
    }
}

fn conv(conv: &Conv, cout: usize) -> Result<(), Fault> {
    bounded("preshift", conv.preshift, 0, 30)?;
    equal("the length of multiplier", conv.multiplier.len(), cout)?;
    equal("the length of bias", conv.bias.len(), cout)?;
    equal("the length of shift", conv.shift.len(), cout)?;
    conv.multiplier.iter().try_for_each(|m| bounded("multiplier", *m, -255, 255))?;
    conv.shift.iter().try_for_each(|n| bounded("shift", *n, 1, 31))?;
    if let Weight::Shift { bits, table, exponent, .. } = &conv.weight {
        bounded("weight.shift.bits", *bits, 1, MAX_BITS)?;
        equal("the length of weight.shift.table", table.len(), 1 << (bits - 1))?;
        table.iter().flatten().try_for_each(|p| bounded("weight.shift.table", *p, 0, 30))?;
        bounded("weight.shift.exponent", *exponent, -MAX_EXPONENT, MAX_EXPONENT)?;
    }
    Ok(())
}

impl Model {
    /// All of it: [`structure`], the tensors' lengths, and the proof that no int32 overflows.
    ///
    /// # Errors
    /// What is wrong, named by its field.
    pub fn check(&self) -> Result<(), Fault> {
        structure(&self.nodes)?;
        let classes = self.nodes.last().map_or(0, |n| n.shape.c as usize);
        equal("the number of class_names", self.info.class_names.len(), classes)?;
        if self.info.class_names.iter().any(|name| name.chars().any(char::is_control)) {
            return Err("class_names: a name holds a control character".into());
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let place = |fault: Fault| format!("graph.nodes[{i}] (`{}`): {fault}", node.name);
            let inputs: Vec<_> = node.inputs.iter().map(|input| &self.nodes[*input]).collect();
            let count = weights(node, &inputs);
            match (&node.op, &inputs[..]) {
                (Op::Input(input), _) => {
                    equal("the length of lut", input.lut.len(), 256 * node.shape.c as usize).map_err(place)?;
                }
                (Op::Conv(conv), [x]) => {
                    equal("the number of weights", conv.weight.len() as u64, count).map_err(place)?;
                    proven(conv, x.kind).map_err(place)?;
                }
                (Op::Linear(linear), [x]) => {
                    equal("the number of weights", linear.weight.len() as u64, count).map_err(place)?;
                    equal("the length of bias", linear.bias.len(), node.shape.c as usize).map_err(place)?;
                    let pooled = &self.nodes[x.inputs[0]];
                    let Op::GlobalSum { preshift } = x.op else { return Err(place("inputs".into())) };
                    classifier(linear, pooled, preshift).map_err(place)?;
                }
                _ => (),
            }
        }
        Ok(())
    }
}

/// The proof for a convolution, per output channel.
fn proven(conv: &Conv, input: Kind) -> Result<(), Fault> {
    let cout = conv.multiplier.len();
    let per_channel = conv.weight.len() / cout;
    for c in 0..cout {
        let magnitude = proof::magnitude(&conv.weight, c * per_channel..(c + 1) * per_channel);
        let acc = proof::accumulator(magnitude, input);
        bounded(&format!("the largest sum of channel {c}"), acc + proof::half(conv.preshift), 0, proof::LIMIT)?;
        let acc = proof::shifted(acc, conv.preshift);
        let (m, b, n) = (conv.multiplier[c], conv.bias[c], conv.shift[c]);
        let largest = proof::requantized(acc, m, b, n);
        bounded(&format!("the largest product of channel {c} with its multiplier"), largest, 0, proof::LIMIT)?;
    }
    Ok(())
}

/// The proof for the classifier, per class.
pub(super) fn classifier(linear: &Linear, pooled: &Node, preshift: u32) -> Result<(), Fault> {
    let pixels = u128::from(pooled.shape.h) * u128::from(pooled.shape.w);
    let largest = proof::shifted(pixels * u128::from(pooled.kind.max_abs()), preshift);
    let features = linear.weight.len() / linear.bias.len();
    for (c, (row, bias)) in linear.weight.chunks_exact(features).zip(&linear.bias).enumerate() {
        let magnitude: u128 = row.iter().map(|w| u128::from(super::digits::magnitude((*w).into()))).sum();
        let sum = magnitude * largest + u128::from(bias.unsigned_abs());
        bounded(&format!("the largest logit of class {c}"), sum, 0, proof::LIMIT)?;
    }
    Ok(())
}
