//! The integer network: a graph of operations on int8 and uint8 activations whose every number is an integer.
//!
//! Node 0 is the input; node i reads earlier nodes only. An activation stands for its integers times 2^exponent.

use serde::{Deserialize, Serialize};

use super::packing::ShiftWeight;
use crate::graph::Shape;

/// What an activation's integers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// −128 … 127.
    I8,
    /// 0 … 255: after a ReLU.
    U8,
    /// Sums and logits.
    I32,
}

impl Kind {
    /// The smallest and the largest value that requantizing gives.
    pub fn range(self) -> [i32; 2] {
        match self {
            Self::I8 => [-128, 127],
            Self::U8 => [0, 255],
            Self::I32 => [i32::MIN, i32::MAX],
        }
    }

    /// The largest magnitude of an 8-bit value.
    pub fn max_abs(self) -> u64 {
        let [low, high] = self.range();
        u64::from(low.unsigned_abs().max(high.unsigned_abs()))
    }
}

/// A node: an operation on earlier nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The float layer's name, as `layer1.0.conv1`.
    pub name: String,
    /// From which nodes.
    pub inputs: Vec<usize>,
    /// Its output's height, width and channels.
    pub shape: Shape,
    /// Its output's integers.
    pub kind: Kind,
    /// Its output stands for integers times 2^exponent.
    pub exponent: i32,
    /// What it computes.
    pub op: Op,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Pixels through the look-up table.
    Input(Input),
    /// Convolution, batch norm, ReLU and change of scale.
    Conv(Conv),
    /// Sum of two activations, ReLU and change of scale.
    Add,
    /// Every `stride`-th pixel, zero channels around.
    PadShortcut {
        /// Distance of the pixels kept.
        stride: u32,
    },
    /// Max pool of a uint8 activation.
    MaxPool {
        /// Window.
        kernel: u32,
        /// Stride.
        stride: u32,
        /// Zeros around.
        pad: u32,
    },
    /// Sum over pixels, then (sum + 2^(preshift − 1)) >> preshift where that is above 0.
    GlobalSum {
        /// Pre-shift.
        preshift: u32,
    },
    /// Logits.
    Linear(Linear),
}

/// The input: u8 pixels [C, H, W] to int8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// LUT\[channel\]\[pixel\], 256 a channel. A tensor of the file.
    #[serde(skip)]
    pub lut: Vec<i8>,
}

/// A convolution with all that follows it, per output channel c:
/// q = clamp((acc' · M_c + B_c + 2^(n_c − 1)) >> n_c), acc' the sum after its pre-shift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Window.
    pub kernel: u32,
    /// Stride.
    pub stride: u32,
    /// Zeros around.
    pub pad: u32,
    /// Weights.
    pub weight: Weight,
    /// r: acc' = (acc + 2^(r − 1)) >> r where r > 0.
    pub preshift: u32,
    /// M_c: few signed binary digits, |M_c| < 2^8.
    pub multiplier: Vec<i32>,
    /// B_c.
    pub bias: Vec<i32>,
    /// n_c, 1 to 31.
    pub shift: Vec<u32>,
}

/// Weights in the order [Cout, kh, kw, Cin].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Weight {
    /// int8, taken as signed binary digits: an fp32 stem. Real scales are part of M_c.
    Int8 {
        /// A tensor of the file.
        #[serde(skip)]
        values: Vec<i8>,
    },
    /// 0 or ± 2^shift.
    Shift {
        /// Bits a weight in the file, sign included.
        bits: u32,
        /// Shift of each magnitude, none for zero.
        table: Vec<Option<u8>>,
        /// The layer's scale is 2^exponent; part of M_c.
        exponent: i32,
        /// Sign and index into the table; bit planes in the file.
        #[serde(skip)]
        codes: Vec<ShiftWeight>,
    },
}

impl Weight {
    /// Weights.
    pub fn len(&self) -> usize {
        match self {
            Self::Int8 { values } => values.len(),
            Self::Shift { codes, .. } => codes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Weight i as a list of ± 2^shift: none for zero, one for a shift weight, up to four for an int8.
    pub fn digits(&self, i: usize) -> Vec<super::digits::Digit> {
        match self {
            Self::Int8 { values } => super::digits::digits(values[i].into()),
            Self::Shift { table, codes, .. } => {
                let ShiftWeight { index, negative } = codes[i];
                let shift = table[usize::from(index)];
                shift.map(|s| super::digits::Digit { shift: s.into(), negative }).into_iter().collect()
            }
        }
    }

    /// Bytes of the weights in the file.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Int8 { values } => values.len(),
            Self::Shift { bits, codes, .. } => 4 * *bits as usize * codes.len().div_ceil(32),
        }
    }
}

/// The classifier: logit = Σ w · x + bias, int32, all at one scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// [classes, features], taken as signed binary digits; one digit each where training had them on levels. A tensor of the file.
    #[serde(skip)]
    pub weight: Vec<i8>,
    /// At the accumulator's scale. A tensor of the file.
    #[serde(skip)]
    pub bias: Vec<i32>,
    /// What a logit of 1 is in the float network: for probabilities only.
    pub scale: f64,
}

/// How well it did when it was exported, in percent of a data set's test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Test images.
    pub images: u64,
    /// The float network's top-1.
    pub float_top1: f64,
    /// The integer network's top-1.
    pub int_top1: f64,
    /// Images on which both give the same class.
    pub agreement: f64,
}

/// What is known about a network beside its arithmetic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    /// Network, as `resnet20`.
    pub model: String,
    /// Training method.
    pub method: String,
    /// Its bits a weight.
    pub bits: u32,
    /// Data set that it was trained on.
    pub dataset: String,
    /// Class names, in the order of the logits.
    pub class_names: Vec<String>,
    /// Normalization's mean of each channel; the look-up table holds it.
    pub mean: Vec<f32>,
    /// Normalization's standard deviation.
    pub std: Vec<f32>,
    /// Training steps done.
    pub step: u64,
    /// Epoch of the last step.
    pub epoch: u64,
    /// Most signed binary digits of an M_c: K.
    pub terms: u32,
    /// Images that the exponents were calibrated on.
    pub calibration: u64,
    /// Measured at export.
    pub accuracy: Option<Accuracy>,
}

/// An integer network.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Names and origins.
    pub info: Info,
    /// In the order of computation: the input first, the classifier last.
    pub nodes: Vec<Node>,
}

impl Model {
    /// The shape of its images.
    pub fn input(&self) -> Shape {
        self.nodes[0].shape
    }

    /// Logits.
    pub fn classes(&self) -> usize {
        self.nodes.last().map_or(0, |n| n.shape.c as usize)
    }

    /// What a logit of 1 is in the float network.
    pub fn logit_scale(&self) -> f64 {
        match self.nodes.last().map(|n| &n.op) {
            Some(Op::Linear(l)) => l.scale,
            _ => 1.0,
        }
    }

    /// For each node, the last node that reads it: its memory is free afterwards.
    pub fn last_uses(&self) -> Vec<usize> {
        let mut last: Vec<usize> = (0..self.nodes.len()).collect();
        for (i, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| last[*input] = i);
        }
        last
    }
}

/// Elements of a shape.
pub fn len(shape: Shape) -> usize {
    shape.h as usize * shape.w as usize * shape.c as usize
}
