//! The graph and its builder: every shape is checked here, by the name of the dimension; nothing later checks again.

use crate::error::{Error, Result};
use crate::methods::{MethodSpec, WeightShape};

/// Index of a node.
pub type NodeId = usize;
/// Index of a layer with parameters.
pub type LayerId = usize;

/// An activation of one image: height, width, channels. In memory NHWC with channels padded to a multiple of 4 by zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Height.
    pub h: u32,
    /// Width.
    pub w: u32,
    /// Channels that exist.
    pub c: u32,
}

impl Shape {
    /// Channels / 4, rounded up.
    pub fn c4(&self) -> u32 {
        self.c.div_ceil(4)
    }
    /// vec4 of one image.
    pub fn len4(&self) -> u32 {
        self.h * self.w * self.c4()
    }
    /// As an array.
    pub fn hwc(&self) -> [u32; 3] {
        [self.h, self.w, self.c]
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.h, self.w, self.c)
    }
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The normalized batch.
    Input,
    /// Convolution without bias.
    Conv {
        /// Stride.
        stride: u32,
        /// Padding.
        pad: u32,
        /// Its weight.
        layer: LayerId,
    },
    /// Batch norm.
    BatchNorm {
        /// Its parameters and running values.
        layer: LayerId,
    },
    /// max(x, 0).
    Relu,
    /// Sum of two activations.
    Add,
    /// Every second pixel, zero channels around.
    PadShortcut {
        /// Distance of the pixels kept.
        stride: u32,
    },
    /// Max pool.
    MaxPool {
        /// Window.
        k: u32,
        /// Stride.
        stride: u32,
        /// Padding.
        pad: u32,
    },
    /// Mean over pixels.
    GlobalAvgPool,
    /// Fully connected, with bias.
    Linear {
        /// Its weight and bias.
        layer: LayerId,
    },
    /// What ends a classifier whose weights are a convolution's: [`LOGIT_SCALE`] · x + bias.
    Logits {
        /// Its bias.
        layer: LayerId,
    },
}

/// 2^−3: what a classifier's levels are multiplied by, as no batch norm behind it does.
pub const LOGIT_SCALE: f32 = 0.125;

/// A node: an operation on earlier nodes.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// From which nodes.
    pub inputs: Vec<NodeId>,
    /// Its output.
    pub shape: Shape,
    /// For plans and errors.
    pub name: String,
}

/// What a layer's parameters are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerKind {
    /// A convolution's weight, held as the method's latents.
    Conv {
        /// Shape.
        shape: WeightShape,
        /// Method.
        method: MethodSpec,
    },
    /// gamma, beta and the running values.
    BatchNorm {
        /// Channels.
        channels: u32,
    },
    /// Weight [classes, features] and bias.
    Linear {
        /// Inputs.
        features: u32,
        /// Outputs.
        classes: u32,
    },
    /// The bias of a classifier whose weights are a convolution's.
    Bias {
        /// Inputs of that convolution.
        features: u32,
        /// Outputs.
        classes: u32,
    },
}

/// A layer with parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// PyTorch's module name, as `layer1.0.conv1`. A classifier's convolution and its bias share one.
    pub name: String,
    /// Its parameters.
    pub kind: LayerKind,
}

/// Weights in one layer: the shaders count words in 32 bits, and a weight may have eight latents.
const MAX_WEIGHTS: u64 = 1 << 28;

/// A network.
#[derive(Clone, Debug)]
pub struct Graph {
    /// In the order of computation; the first is the input, the last the classifier.
    pub nodes: Vec<Node>,
    /// Layers with parameters.
    pub layers: Vec<Layer>,
}

impl Graph {
    /// An empty network on images of this shape; the input is node 0.
    pub fn new(input: Shape) -> Self {
        let node = Node { op: Op::Input, inputs: Vec::new(), shape: input, name: "input".into() };
        Self { nodes: vec![node], layers: Vec::new() }
    }

    /// A node's shape.
    pub fn shape(&self, node: NodeId) -> Shape {
        self.nodes[node].shape
    }

    /// Logits of the last node.
    pub fn classes(&self) -> u32 {
        self.nodes.last().map_or(0, |n| n.shape.c)
    }

    /// The same network with plain fp32 weights in every layer.
    pub fn with_all_fp32(&self) -> Self {
        let mut plain = self.clone();
        for layer in &mut plain.layers {
            if let LayerKind::Conv { method, .. } = &mut layer.kind {
                *method = MethodSpec::FP32;
            }
        }
        // Of a classifier's two nodes and layers, which are the last, one is left.
        if let [.., conv, Node { op: Op::Logits { layer }, shape, .. }] = &self.nodes[..]
            && let LayerKind::Bias { features, classes } = self.layers[*layer].kind
        {
            let layer = layer - 1;
            plain.nodes.truncate(self.nodes.len() - 2);
            plain.nodes.push(Node { op: Op::Linear { layer }, shape: *shape, ..conv.clone() });
            plain.layers.truncate(layer);
            plain.layers.push(Layer { name: conv.name.clone(), kind: LayerKind::Linear { features, classes } });
        }
        plain
    }

    /// The bias behind a convolution that is a classifier's.
    pub fn bias_behind(&self, layer: LayerId) -> Option<LayerId> {
        self.nodes.windows(2).find_map(|pair| match (pair[0].op, pair[1].op) {
            (Op::Conv { layer: conv, .. }, Op::Logits { layer: bias }) if conv == layer => Some(bias),
            _ => None,
        })
    }

    /// The name of the batch norm that takes a convolution's output.
    pub fn norm_behind(&self, layer: LayerId) -> Option<&str> {
        let conv = self.nodes.iter().position(|n| matches!(n.op, Op::Conv { layer: l, .. } if l == layer))?;
        let norm = |n: &&Node| matches!(n.op, Op::BatchNorm { .. }) && n.inputs == [conv];
        self.nodes.iter().find(norm).map(|n| &n.name[..])
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<NodeId>, shape: Shape) -> NodeId {
        self.nodes.push(Node { op, inputs, shape, name: name.into() });
        self.nodes.len() - 1
    }

    fn layer(&mut self, name: &str, kind: LayerKind) -> Result<LayerId> {
        if self.layers.iter().any(|l| l.name == name) {
            return Err(Error::shape(name, "this name is taken"));
        }
        self.layers.push(Layer { name: name.into(), kind });
        Ok(self.layers.len() - 1)
    }

    /// A convolution to `cout` channels; `[k, stride, pad]`.
    ///
    /// # Errors
    /// Where the padded input is smaller than the kernel.
    pub fn conv(&mut self, name: &str, x: NodeId, cout: u32, conv: [u32; 3], method: MethodSpec) -> Result<NodeId> {
        let (s, [k, stride, pad]) = (self.shape(x), conv);
        let shape = Shape { h: window(name, "height", s.h, conv)?, w: window(name, "width", s.w, conv)?, c: cout };
        let weights = u64::from(cout) * u64::from(s.c) * u64::from(k * k);
        if weights > MAX_WEIGHTS {
            let what =
                format!("{weights} weights are more than a layer may have, {MAX_WEIGHTS}\n  choose a smaller --width");
            return Err(Error::shape(name, what));
        }
        let kind = LayerKind::Conv { shape: WeightShape { cout, cin: s.c, k }, method };
        let layer = self.layer(name, kind)?;
        Ok(self.push(name, Op::Conv { stride, pad, layer }, vec![x], shape))
    }

    /// A batch norm.
    ///
    /// # Errors
    /// Where the name is taken.
    pub fn batch_norm(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let shape = self.shape(x);
        let layer = self.layer(name, LayerKind::BatchNorm { channels: shape.c })?;
        Ok(self.push(name, Op::BatchNorm { layer }, vec![x], shape))
    }

    /// A ReLU.
    pub fn relu(&mut self, name: &str, x: NodeId) -> NodeId {
        self.push(name, Op::Relu, vec![x], self.shape(x))
    }

    /// The sum of two activations.
    ///
    /// # Errors
    /// Where height, width or channels differ.
    pub fn add(&mut self, name: &str, a: NodeId, b: NodeId) -> Result<NodeId> {
        let (sa, sb) = (self.shape(a), self.shape(b));
        for (dim, x, y) in [("height", sa.h, sb.h), ("width", sa.w, sb.w), ("channels", sa.c, sb.c)] {
            if x != y {
                return Err(Error::shape(name, format!("{dim} differ in an addition: {sa} and {sb}")));
            }
        }
        Ok(self.push(name, Op::Add, vec![a, b], sa))
    }

    /// The parameter-free shortcut to `cout` channels.
    ///
    /// # Errors
    /// Where the channels to add are negative or cannot be halved.
    pub fn pad_shortcut(&mut self, name: &str, x: NodeId, cout: u32, stride: u32) -> Result<NodeId> {
        let s = self.shape(x);
        match cout.checked_sub(s.c) {
            Some(d) if d % 2 == 0 => (),
            _ => {
                let what =
                    format!("a `pad` shortcut from {} to {cout} channels cannot centre them; use --shortcut conv", s.c);
                return Err(Error::shape(name, what));
            }
        }
        let shape = Shape { h: s.h.div_ceil(stride), w: s.w.div_ceil(stride), c: cout };
        Ok(self.push(name, Op::PadShortcut { stride }, vec![x], shape))
    }

    /// A max pool; `[k, stride, pad]`.
    ///
    /// # Errors
    /// Where the padded input is smaller than the window.
    pub fn max_pool(&mut self, name: &str, x: NodeId, pool: [u32; 3]) -> Result<NodeId> {
        let (s, [k, stride, pad]) = (self.shape(x), pool);
        let shape = Shape { h: window(name, "height", s.h, pool)?, w: window(name, "width", s.w, pool)?, c: s.c };
        Ok(self.push(name, Op::MaxPool { k, stride, pad }, vec![x], shape))
    }

    /// The mean over all pixels.
    pub fn global_avg_pool(&mut self, name: &str, x: NodeId) -> NodeId {
        let shape = Shape { h: 1, w: 1, c: self.shape(x).c };
        self.push(name, Op::GlobalAvgPool, vec![x], shape)
    }

    /// A fully connected layer.
    ///
    /// # Errors
    /// Where the input still has pixels.
    pub fn linear(&mut self, name: &str, x: NodeId, classes: u32) -> Result<NodeId> {
        let s = self.shape(x);
        if s.h * s.w != 1 {
            return Err(Error::shape(name, format!("height and width must be 1, not {s}")));
        }
        let layer = self.layer(name, LayerKind::Linear { features: s.c, classes })?;
        Ok(self.push(name, Op::Linear { layer }, vec![x], Shape { h: 1, w: 1, c: classes }))
    }

    /// A fully connected layer whose weights are of a method, as a network's last: a 1x1 convolution, then scale and bias.
    ///
    /// # Errors
    /// As [`Graph::linear`] and [`Graph::conv`].
    pub fn linear_of(&mut self, name: &str, x: NodeId, classes: u32, method: MethodSpec) -> Result<NodeId> {
        let s = self.shape(x);
        if s.h * s.w != 1 {
            return Err(Error::shape(name, format!("height and width must be 1, not {s}")));
        }
        let conv = self.conv(name, x, classes, [1, 1, 0], method)?;
        self.layers.push(Layer { name: name.into(), kind: LayerKind::Bias { features: s.c, classes } });
        let op = Op::Logits { layer: self.layers.len() - 1 };
        Ok(self.push(&format!("{name}.bias"), op, vec![conv], Shape { h: 1, w: 1, c: classes }))
    }
}

/// Output size of a window along one dimension.
fn window(name: &str, dim: &str, size: u32, [k, stride, pad]: [u32; 3]) -> Result<u32> {
    if size + 2 * pad < k || pad >= k {
        return Err(Error::shape(name, format!("{dim} {size} with padding {pad} does not suit a window of {k}")));
    }
    Ok((size + 2 * pad - k) / stride + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        Graph::new(Shape { h: 8, w: 8, c: 16 })
    }

    #[test]
    fn shapes_follow_the_windows() {
        let mut g = graph();
        let a = g.conv("a", 0, 32, [3, 2, 1], MethodSpec::FP32).unwrap();
        assert_eq!(g.shape(a).hwc(), [4, 4, 32]);
        let s = g.pad_shortcut("s", 0, 32, 2).unwrap();
        let sum = g.add("sum", a, s).unwrap();
        let pool = g.global_avg_pool("pool", sum);
        let fc = g.linear("fc", pool, 10).unwrap();
        assert_eq!((g.shape(fc).c, g.classes()), (10, 10));
    }

    #[test]
    fn mismatches_name_layer_and_dimension() {
        let mut g = graph();
        let a = g.conv("a", 0, 16, [3, 2, 1], MethodSpec::FP32).unwrap();
        let pool = g.global_avg_pool("pool", a);
        let says = |r: Result<NodeId>, words: &[&str]| {
            let text = r.unwrap_err().to_string();
            assert!(words.iter().all(|w| text.contains(w)), "{text}");
        };
        says(g.add("sum", 0, a), &["sum", "height", "8x8x16", "4x4x16"]);
        says(g.pad_shortcut("s", 0, 19, 2), &["16 to 19", "conv"]);
        says(g.pad_shortcut("s", 0, 8, 2), &["16 to 8"]);
        says(g.conv("a", 0, 16, [3, 1, 1], MethodSpec::FP32), &["taken"]);
        says(g.conv("b", 0, 16, [9, 1, 0], MethodSpec::FP32), &["height 8", "window of 9"]);
        says(g.linear("fc", 0, 10), &["height and width"]);
        says(g.linear_of("fc", 0, 10, MethodSpec::FP32), &["height and width"]);
        says(g.linear_of("a", pool, 10, MethodSpec::FP32), &["taken"]);
    }

    #[test]
    fn a_classifier_of_a_method_has_a_plain_form() {
        let s3 = MethodSpec::find("s3", None).unwrap();
        let build = |method: MethodSpec, last: fn(&mut Graph, NodeId, MethodSpec) -> Result<NodeId>| {
            let mut g = graph();
            let a = g.conv("a", 0, 16, [3, 2, 1], method).unwrap();
            let pool = g.global_avg_pool("pool", a);
            last(&mut g, pool, method).unwrap();
            g
        };
        let shift = build(s3, |g, x, method| g.linear_of("fc", x, 10, method));
        assert_eq!((shift.classes(), shift.bias_behind(0), shift.bias_behind(1)), (10, None, Some(2)));
        let (got, want) = (shift.with_all_fp32(), build(MethodSpec::FP32, |g, x, _| g.linear("fc", x, 10)));
        assert_eq!((got.layers, format!("{:?}", got.nodes)), (want.layers, format!("{:?}", want.nodes)));
    }
}
