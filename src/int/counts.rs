//! What a network costs by its arithmetic: additions and shifts of each layer, and no multiplication.

use super::digits::{Digit, digits};
use super::model::{Model, Node, Op};
use super::proof::addition;

/// Picojoules of an operation in 45 nm. Additions and multiplications, at 0.9 V: M. Horowitz, "Computing's Energy Problem
/// (and what we can do about it)", ISSCC 2014, figure 1.1.9. It lists no shift; that is from the table of hardware costs in H. You
/// et al., "ShiftAddLLM", NeurIPS 2024, which agrees with it on integer additions and on multiplications.
pub mod energy {
    /// A 32-bit integer addition.
    pub const ADD_I32: f64 = 0.1;
    /// A 32-bit shift.
    pub const SHIFT_I32: f64 = 0.13;
    /// A 32-bit float addition.
    pub const ADD_F32: f64 = 0.9;
    /// A 32-bit float multiplication.
    pub const MULTIPLY_F32: f64 = 3.7;
    /// Where they are from, for reports.
    pub const SOURCE: &str = "Horowitz, ISSCC 2014, 45 nm: 32-bit integer addition 0.1 pJ, float addition 0.9, float multiplication 3.7, with 0.13 for a shift (You et al., NeurIPS 2024); arithmetic alone, no memory";
}

/// One layer's costs for one image.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Count {
    /// The layer.
    pub name: String,
    /// Weights.
    pub weights: u64,
    /// Weights that are zero.
    pub zeros: u64,
    /// Bytes of its weights and biases as fp32, batch norm folded away.
    pub float_bytes: u64,
    /// Bytes of its weights in the file.
    pub packed_bytes: u64,
    /// Bytes of its output: one an element, four of sums and logits.
    pub activation_bytes: u64,
    /// Multiplications, and as many additions, of the float layer.
    pub macs: u64,
    /// Additions and subtractions.
    pub additions: u64,
    /// Shifts by more than 0.
    pub shifts: u64,
    /// Multiplications: none.
    pub multiplications: u64,
}

impl Count {
    /// Estimated energy of the integer arithmetic in joules.
    pub fn joules(&self) -> f64 {
        1e-12 * (energy::ADD_I32 * self.additions as f64 + energy::SHIFT_I32 * self.shifts as f64)
    }

    /// Estimated energy of the float layer's arithmetic in joules.
    pub fn float_joules(&self) -> f64 {
        1e-12 * (energy::ADD_F32 + energy::MULTIPLY_F32) * self.macs as f64
    }

    /// `times` as many of these terms: an addition each, and a shift where it is above 0.
    fn terms(&mut self, terms: &[Digit], times: u64) {
        self.additions += times * terms.len() as u64;
        self.shifts += times * terms.iter().filter(|d| d.shift > 0).count() as u64;
    }

    /// `times` roundings: adding half, then shifting.
    fn rounding(&mut self, shift: u32, times: u64) {
        if shift > 0 {
            self.additions += times;
            self.shifts += times;
        }
    }
}

/// Each layer's costs for one image, in order. Windows are counted whole, padding included; comparisons (clamp, max pool)
/// and look-ups are not counted; B_c and the rounding constant are one addition.
pub fn count(model: &Model) -> Vec<Count> {
    model.nodes.iter().map(|node| one(model, node)).collect()
}

fn one(model: &Model, node: &Node) -> Count {
    let outputs = u64::from(node.shape.h) * u64::from(node.shape.w) * u64::from(node.shape.c);
    let pixels = u64::from(node.shape.h) * u64::from(node.shape.w);
    let wide = matches!(node.op, Op::GlobalSum { .. } | Op::Linear(_));
    let mut found =
        Count { name: node.name.clone(), activation_bytes: outputs * if wide { 4 } else { 1 }, ..Count::default() };
    match &node.op {
        Op::Input(_) | Op::PadShortcut { .. } | Op::MaxPool { .. } => (),
        Op::Conv(conv) => {
            found.weights = conv.weight.len() as u64;
            found.packed_bytes = conv.weight.bytes() as u64;
            found.float_bytes = 4 * (found.weights + u64::from(node.shape.c));
            found.macs = found.weights * pixels;
            for i in 0..conv.weight.len() {
                let terms = conv.weight.digits(i);
                found.zeros += u64::from(terms.is_empty());
                found.terms(&terms, pixels);
            }
            found.rounding(conv.preshift, outputs);
            for (m, n) in conv.multiplier.iter().zip(&conv.shift) {
                found.terms(&digits(*m), pixels);
                found.rounding(*n, pixels);
            }
        }
        Op::Add => {
            let sides = [0, 1].map(|i| model.nodes[node.inputs[i]].exponent);
            let [left, right, out] = addition(sides, node.exponent);
            found.additions += outputs;
            found.shifts += outputs * [left, right].iter().filter(|s| **s > 0).count() as u64;
            found.rounding(out, outputs);
        }
        Op::GlobalSum { preshift } => {
            let from = model.nodes[node.inputs[0]].shape;
            found.additions += outputs * (u64::from(from.h) * u64::from(from.w) - 1);
            found.rounding(*preshift, outputs);
        }
        Op::Linear(linear) => {
            found.weights = linear.weight.len() as u64;
            found.zeros = linear.weight.iter().filter(|w| **w == 0).count() as u64;
            found.packed_bytes = found.weights + 4 * linear.bias.len() as u64;
            found.float_bytes = 4 * (found.weights + linear.bias.len() as u64);
            found.macs = found.weights;
            linear.weight.iter().for_each(|w| found.terms(&digits((*w).into()), 1));
            found.additions += linear.bias.len() as u64;
        }
    }
    found
}

/// The sum of all layers.
pub fn total(counts: &[Count]) -> Count {
    let mut sum = Count { name: "all".into(), ..Count::default() };
    for c in counts {
        sum.weights += c.weights;
        sum.zeros += c.zeros;
        sum.float_bytes += c.float_bytes;
        sum.packed_bytes += c.packed_bytes;
        sum.activation_bytes += c.activation_bytes;
        sum.macs += c.macs;
        sum.additions += c.additions;
        sum.shifts += c.shifts;
        sum.multiplications += c.multiplications;
    }
    sum
}
