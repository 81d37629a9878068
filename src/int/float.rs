//! The float network as the integer one sees it: convolution, batch norm and ReLU are one node, latents are weights.
//!
//! Its forward pass runs on the CPU in f32, always in the same order: what exponents are calibrated on.

use super::planes::{LANES, Sliding, block};
use crate::error::{Error, Result};
use crate::files::tensors::Tensor;
use crate::graph::{Graph, LOGIT_SCALE, LayerId, LayerKind, Layout, Op, Shape};
use crate::kernels::norm::BatchNormParams;
use crate::methods::levels::Levels;
use crate::model::Values;

/// A batch norm's values per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Weight.
    pub gamma: Vec<f32>,
    /// Bias.
    pub beta: Vec<f32>,
    /// Running mean.
    pub mean: Vec<f32>,
    /// Running variance.
    pub var: Vec<f32>,
}

impl Norm {
    /// Added to the variance.
    pub fn eps() -> f32 {
        BatchNormParams::new(1, 1).eps
    }

    /// As y = x · factor + offset, per channel.
    pub fn affine(&self) -> Vec<[f64; 2]> {
        let one = |c: usize| {
            let factor = f64::from(self.gamma[c]) / (f64::from(self.var[c]) + f64::from(Self::eps())).sqrt();
            [factor, f64::from(self.beta[c]) - f64::from(self.mean[c]) * factor]
        };
        (0..self.gamma.len()).map(one).collect()
    }
}

/// An operation, with what it has of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum FloatOp {
    /// The normalized image.
    Input,
    /// Convolution and batch norm.
    Conv {
        /// Kernel, stride, padding.
        window: [u32; 3],
        /// Composed weights, [Cout, kh, kw, Cin].
        weight: Vec<f32>,
        /// What they lie on; none for an fp32 stem.
        levels: Option<Levels>,
        /// Batch norm.
        norm: Norm,
    },
    /// Sum of two activations.
    Add,
    /// Every `stride`-th pixel, zero channels around.
    PadShortcut {
        /// Distance of the pixels kept.
        stride: u32,
    },
    /// Max pool.
    MaxPool {
        /// Kernel, stride, padding.
        window: [u32; 3],
    },
    /// Mean over pixels.
    GlobalAvgPool,
    /// Classifier.
    Linear {
        /// [classes, features], at its logits' scale.
        weight: Vec<f32>,
        /// What they lie on, times [`LOGIT_SCALE`]; none where they are fp32.
        levels: Option<Levels>,
        /// Per class.
        bias: Vec<f32>,
    },
}

/// A node: an operation on earlier nodes, and perhaps a ReLU.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatNode {
    /// The layer's PyTorch name.
    pub name: String,
    /// What it computes.
    pub op: FloatOp,
    /// From which nodes.
    pub inputs: Vec<usize>,
    /// Its output.
    pub shape: Shape,
    /// max(x, 0) at its end.
    pub relu: bool,
}

/// A network in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatNet {
    /// In the order of computation; the first is the input.
    pub nodes: Vec<FloatNode>,
    /// Normalization of the input.
    pub mean: Vec<f32>,
    /// Normalization of the input.
    pub std: Vec<f32>,
}

impl FloatNet {
    /// From a graph and its values.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the layer where a graph is not made of the patterns that can be frozen.
    pub fn new(graph: &Graph, layout: &Layout, values: &Values, mean: &[f32], std: &[f32]) -> Result<Self> {
        let mut nodes: Vec<FloatNode> = Vec::new();
        // Where each of the graph's nodes ended up.
        let mut place = Vec::new();
        let uses = |id: usize| graph.nodes.iter().flat_map(|n| &n.inputs).filter(|i| **i == id).count();
        for (id, node) in graph.nodes.iter().enumerate() {
            let inputs: Vec<usize> = node.inputs.iter().map(|i| place[*i]).collect();
            let tensors = |layer: LayerId| -> Vec<&Tensor> {
                layout.tensors.iter().filter(|t| t.layer == layer).map(|t| &values.0[&t.name]).collect()
            };
            let fold = || match uses(node.inputs[0]) {
                1 => Ok(inputs[0]),
                _ => Err(Error::shape(&node.name, "its input is used elsewhere too, so it cannot be folded into it")),
            };
            let op = match node.op {
                Op::BatchNorm { layer } => {
                    let at = fold()?;
                    let [gamma, beta, mean, var] = &tensors(layer)[..] else {
                        return Err(Error::shape(&node.name, "a batch norm has four tensors"));
                    };
                    let FloatOp::Conv { norm, .. } = &mut nodes[at].op else {
                        return Err(Error::shape(&node.name, "a batch norm must follow a convolution"));
                    };
                    let [gamma, beta, mean, var] = [gamma, beta, mean, var].map(|t| t.data.clone());
                    *norm = Norm { gamma, beta, mean, var };
                    place.push(at);
                    continue;
                }
                Op::Relu => {
                    let at = fold()?;
                    nodes[at].relu = true;
                    place.push(at);
                    continue;
                }
                Op::Input => FloatOp::Input,
                Op::Logits { .. } => {
                    place.push(fold()?);
                    continue;
                }
                Op::Conv { stride, pad, layer } => {
                    let next = graph.nodes.get(id + 1).map(|n| (&n.op, &n.inputs[..]));
                    if !matches!(next, Some((Op::BatchNorm { .. } | Op::Logits { .. }, [from])) if *from == id) {
                        return Err(Error::shape(&node.name, "a convolution must be followed by a batch norm"));
                    }
                    let LayerKind::Conv { shape, method } = graph.layers[layer].kind else {
                        return Err(Error::shape(&node.name, "a convolution's layer has no weight"));
                    };
                    // Flags lie behind the latents.
                    let latents: Vec<_> = tensors(layer).iter().map(|t| &t.data[..]).collect();
                    let latents = &latents[..method.method.latents(method.bits).len()];
                    let weight = method.method.weight(method.bits, shape, latents);
                    let levels = method.method.levels(method.bits, &weight);
                    let taps = (shape.k * shape.k) as usize;
                    match graph.bias_behind(layer) {
                        Some(bias) => {
                            let weight = weight.iter().map(|w| w * LOGIT_SCALE).collect();
                            FloatOp::Linear { weight, levels, bias: tensors(bias)[0].data.clone() }
                        }
                        None => {
                            let weight = taps_first(&weight, shape.cin as usize, taps);
                            let norm = Norm { gamma: vec![], beta: vec![], mean: vec![], var: vec![] };
                            FloatOp::Conv { window: [shape.k, stride, pad], weight, levels, norm }
                        }
                    }
                }
                Op::Add => FloatOp::Add,
                Op::PadShortcut { stride } => FloatOp::PadShortcut { stride },
                Op::MaxPool { k, stride, pad } => FloatOp::MaxPool { window: [k, stride, pad] },
                Op::GlobalAvgPool => FloatOp::GlobalAvgPool,
                Op::Linear { layer } => {
                    let [weight, bias] = &tensors(layer)[..] else {
                        return Err(Error::shape(&node.name, "a classifier has two tensors"));
                    };
                    FloatOp::Linear { weight: weight.data.clone(), levels: None, bias: bias.data.clone() }
                }
            };
            nodes.push(FloatNode { name: node.name.clone(), op, inputs, shape: node.shape, relu: false });
            place.push(nodes.len() - 1);
        }
        Ok(Self { nodes, mean: mean.to_vec(), std: std.to_vec() })
    }

    /// Outputs of every node for one image of u8 [C, H, W], each [C, H, W] of f32; the last are the logits.
    pub fn forward(&self, image: &[u8]) -> Vec<Vec<f32>> {
        self.forward_with(image, |_, _| ())
    }

    /// As [`FloatNet::forward`]; `each` sees every node's output before its ReLU.
    pub fn forward_with(&self, image: &[u8], mut each: impl FnMut(usize, &mut [f32])) -> Vec<Vec<f32>> {
        let mut outputs: Vec<Vec<f32>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let input = |i: usize| (&self.nodes[node.inputs[i]], &outputs[node.inputs[i]][..]);
            let mut out = match &node.op {
                FloatOp::Input => self.normalize(image),
                FloatOp::Conv { window: [k, stride, pad], weight, norm, .. } => {
                    let sliding = Sliding::new(input(0).0.shape, *k, *stride, *pad);
                    convolve(&sliding, *k as usize, weight, &norm.affine(), input(0).1)
                }
                FloatOp::Add => input(0).1.iter().zip(input(1).1).map(|(a, b)| a + b).collect(),
                FloatOp::PadShortcut { stride } => pad_shortcut(*stride, node.shape, input(0).0.shape, input(0).1),
                FloatOp::MaxPool { window } => max_pool(*window, node.shape, input(0).0.shape, input(0).1),
                FloatOp::GlobalAvgPool => {
                    let (from, x) = input(0);
                    let pixels = (from.shape.h * from.shape.w) as usize;
                    x.chunks_exact(pixels).map(|p| p.iter().sum::<f32>() / pixels as f32).collect()
                }
                FloatOp::Linear { weight, bias, .. } => {
                    let x = input(0).1;
                    let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
                    weight.chunks_exact(x.len()).zip(bias).map(|(row, b)| dot(row) + b).collect()
                }
            };
            each(outputs.len(), &mut out);
            if node.relu {
                out.iter_mut().for_each(|v| *v = v.max(0.0));
            }
            outputs.push(out);
        }
        outputs
    }

    fn normalize(&self, image: &[u8]) -> Vec<f32> {
        let plane = image.len() / self.mean.len();
        let normal = |(i, p): (usize, &u8)| (f32::from(*p) / 255.0 - self.mean[i / plane]) / self.std[i / plane];
        image.iter().enumerate().map(normal).collect()
    }
}

/// [Cout, Cin, taps] to [Cout, taps, Cin].
fn taps_first(weight: &[f32], cin: usize, taps: usize) -> Vec<f32> {
    let channel = |w: &[f32]| (0..taps * cin).map(|i| w[i % cin * taps + i / cin]).collect::<Vec<_>>();
    weight.chunks_exact(cin * taps).flat_map(channel).collect()
}

fn convolve(sliding: &Sliding, k: usize, weight: &[f32], affine: &[[f64; 2]], x: &[f32]) -> Vec<f32> {
    let mut planes = Vec::new();
    sliding.fill(x, &mut planes);
    let per_channel = weight.len() / affine.len();
    let cin = per_channel / (k * k);
    let offset = |i: usize| sliding.offset(i % cin, i / cin / k, i / cin % k);
    let offsets: Vec<usize> = (0..per_channel).map(offset).collect();
    let plane = sliding.out[0] * sliding.out[1];
    let mut out = vec![0.0; plane * affine.len()];
    let mut positions = vec![0.0f32; sliding.span()];
    for ((to, weight), affine) in out.chunks_exact_mut(plane).zip(weight.chunks_exact(per_channel)).zip(affine) {
        let [factor, bias] = affine.map(|v| v as f32);
        for (b, y) in positions.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut acc = [0f32; LANES];
            for (w, offset) in weight.iter().zip(&offsets).filter(|(w, _)| **w != 0.0) {
                let x = block(&planes, b * LANES + offset);
                (0..LANES).for_each(|i| acc[i] += w * x[i]);
            }
            (0..LANES).for_each(|i| y[i] = acc[i] * factor + bias);
        }
        sliding.take(&positions, to);
    }
    out
}

fn pad_shortcut(stride: u32, shape: Shape, from: Shape, x: &[f32]) -> Vec<f32> {
    let front = (shape.c - from.c) / 2;
    let mut out = Vec::new();
    for c in 0..shape.c {
        for (i, j) in (0..shape.h).flat_map(|i| (0..shape.w).map(move |j| (i, j))) {
            let inside = c.checked_sub(front).filter(|c| *c < from.c);
            out.push(inside.map_or(0.0, |c| x[((c * from.h + stride * i) * from.w + stride * j) as usize]));
        }
    }
    out
}

fn max_pool([k, stride, pad]: [u32; 3], shape: Shape, from: Shape, x: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    for c in 0..shape.c {
        for (oy, ox) in (0..shape.h).flat_map(|y| (0..shape.w).map(move |x| (y, x))) {
            let inside = |at: u32, size: u32| at.checked_sub(pad).filter(|v| *v < size);
            let window = (0..k).flat_map(|ky| (0..k).map(move |kx| (oy * stride + ky, ox * stride + kx)));
            let values = window.filter_map(|(y, x_)| {
                let (y, x_) = (inside(y, from.h)?, inside(x_, from.w)?);
                Some(x[((c * from.h + y) * from.w + x_) as usize])
            });
            out.push(values.fold(f32::NEG_INFINITY, f32::max));
        }
    }
    out
}
