//! From the graph to programs: forward, loss, backward and update as kernel calls.
//!
//! The backward pass is built from the graph in reverse, one rule an operation; where two gradients meet they are added.

use std::collections::BTreeMap;

use super::builder::{Graph, LayerId, LayerKind, Node, NodeId, Op};
use super::layout::Layout;
use super::plan::BufferSpec;
use super::program::{Call, Program, Ref, Vars};
use crate::error::Result;
use crate::kernels::act::{Add, ElementwiseParams, Relu, ReluBackward};
use crate::kernels::augment::{Augment, AugmentParams};
use crate::kernels::compose::{Segment, table};
use crate::kernels::conv::{self, ConvParams, Family, SumPartials, SumPartialsParams};
use crate::kernels::linear::{LinearBackwardInput, LinearBackwardWeight, LinearForward, LinearParams};
use crate::kernels::loss::{LossParams, Metrics, MetricsParams, RING_WORDS, SoftmaxCrossEntropy};
use crate::kernels::norm::{
    BatchNormParams, BnApply, BnBackwardApply, BnBackwardMerge, BnBackwardStats, BnEval, BnStats, BnStatsMerge,
};
use crate::kernels::optim::{Sgd, SgdParams};
use crate::kernels::pool::{
    GlobalAvgPool, GlobalAvgPoolBackward, GlobalAvgPoolParams, MaxPool, MaxPoolBackward, MaxPoolParams, PadShortcut,
    PadShortcutBackward, PadShortcutParams,
};
use crate::kernels::{AnyKernel, Elem};
use crate::methods::{Bound, MethodSpec};

/// Slots of the metrics ring: steps that may pass before the host reads their figures.
pub const RING_SLOTS: u32 = 256;

/// Which convolution rungs to take.
#[derive(Clone, Debug, Default)]
pub struct RungChoice {
    /// Kernel names that come first wherever they fit.
    pub forced: Vec<String>,
    /// What an earlier run took, by `direction:layer`; it wins.
    pub recorded: BTreeMap<String, String>,
}

/// Everything beside the graph that the programs depend on.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Largest batch.
    pub batch: u32,
    /// Per-channel mean and standard deviation of pixels in [0, 1].
    pub mean: Vec<f32>,
    /// See `mean`.
    pub std: Vec<f32>,
    /// Black pixels around a training image before its crop; 0: no crop.
    pub pad: u32,
    /// Whether to mirror half of the training images.
    pub flip: bool,
    /// Seed of the augmentation.
    pub seed: u32,
    /// Label smoothing of the training loss.
    pub smoothing: f32,
    /// SGD's momentum.
    pub momentum: f32,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// Weight decay.
    pub decay: f32,
    /// Factor on the learning rate of latents.
    pub latent_rate: f32,
    /// Factor of the dense-weight regularizer.
    pub alpha: f32,
    /// Convolution rungs.
    pub rungs: RungChoice,
    /// Largest binding of the adapter in words.
    pub max_words: u64,
    /// The adapter's subgroup size, where it is fixed.
    pub subgroup: Option<u32>,
}

/// The buffers of one parameter group.
#[derive(Clone, Copy, Debug)]
pub struct GroupBuffers {
    /// Parameters.
    pub params: usize,
    /// Their gradients.
    pub grads: usize,
    /// Their momenta.
    pub momenta: usize,
    /// Composed weights [kh, kw, Cin, Cout].
    pub weight: usize,
    /// Composed weights [kh, kw, Cout, Cin].
    pub weight_t: usize,
    /// dL/dW.
    pub dweight: usize,
}

/// Programs, and the persistent buffers that they share.
pub struct Lowered {
    /// Persistent buffers.
    pub buffers: Vec<BufferSpec>,
    /// Where parameters lie.
    pub layout: Layout,
    /// One a parameter group.
    pub groups: Vec<GroupBuffers>,
    /// Running batch-norm values.
    pub state: usize,
    /// Labels, image numbers, pixels.
    pub batch: usize,
    /// Metrics ring.
    pub ring: usize,
    /// One training step.
    pub train: Program,
    /// Composes the weights; once before an evaluation.
    pub compose: Program,
    /// One evaluation batch.
    pub eval: Program,
    /// The logits of the evaluation program.
    pub eval_logits: Ref,
    /// The rungs taken, by `direction:layer`.
    pub rungs: BTreeMap<String, String>,
}

struct Lowering<'a> {
    graph: &'a Graph,
    o: &'a Options,
    layout: Layout,
    buffers: Vec<BufferSpec>,
    groups: Vec<GroupBuffers>,
    state: usize,
    batch: usize,
    ring: usize,
    regularizer: usize,
    /// (method, buffers) of each composition dispatch.
    bound: Vec<(MethodSpec, Bound)>,
    regularizer_parts: u32,
    rungs: BTreeMap<String, String>,
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Copy)]
struct Value {
    out: Ref,
    /// Batch statistics, or the max pool's taps.
    saved: Option<Ref>,
}

/// Builds the programs.
///
/// # Errors
/// [`crate::Error::Usage`] for an unknown rung.
pub fn lower(graph: &Graph, options: &Options) -> Result<Lowered> {
    let layout = Layout::new(graph, options.max_words);
    let mut l = Lowering {
        graph,
        o: options,
        layout,
        buffers: Vec::new(),
        groups: Vec::new(),
        state: 0,
        batch: 0,
        ring: 0,
        regularizer: 0,
        bound: Vec::new(),
        regularizer_parts: 0,
        rungs: BTreeMap::new(),
    };
    l.allocate();
    let (train, _) = l.program(true)?;
    let (eval, eval_logits) = l.program(false)?;
    let mut compose = Program::default();
    l.compose(&mut compose);
    Ok(Lowered {
        buffers: l.buffers,
        layout: l.layout,
        groups: l.groups,
        state: l.state,
        batch: l.batch,
        ring: l.ring,
        train,
        compose,
        eval,
        eval_logits,
        rungs: l.rungs,
    })
}

impl Lowering<'_> {
    fn buffer(&mut self, name: impl Into<String>, words: u64, elem: Elem) -> usize {
        self.buffers.push(BufferSpec { name: name.into(), words, elem, contents: None });
        self.buffers.len() - 1
    }

    /// The persistent buffers: slabs, state, batch, ring, and a segment table for each method and group.
    fn allocate(&mut self) {
        for (i, g) in self.layout.groups.clone().into_iter().enumerate() {
            let places = self.graph.layers.iter().zip(&self.layout.places);
            let first = places.into_iter().find(|(_, p)| p.group == i).map_or(String::new(), |(l, _)| l.name.clone());
            let mut f32_buffer =
                |name: &str, words: u32| self.buffer(format!("{name} from {first} on"), words.into(), Elem::F32);
            let group = GroupBuffers {
                params: f32_buffer("parameters", g.params),
                grads: f32_buffer("gradients", g.params),
                momenta: f32_buffer("momenta", g.params),
                weight: f32_buffer("weights", g.weights),
                weight_t: f32_buffer("weights transposed", g.weights),
                dweight: f32_buffer("weight gradients", g.weights),
            };
            self.groups.push(group);
        }
        let input = self.graph.nodes[0].shape;
        self.state = self.buffer("running statistics", self.layout.state.into(), Elem::F32);
        self.batch = self.buffer("batch", AugmentParams::batch_words(self.o.batch, input.hwc()).into(), Elem::U32);
        self.ring = self.buffer("metrics ring", u64::from(RING_SLOTS) * RING_WORDS as u64, Elem::F32);
        self.bind_methods();
        self.regularizer = self.buffer("regularizer", self.regularizer_parts.into(), Elem::F32);
        let at = Ref::Buffer(self.regularizer);
        self.bound.iter_mut().for_each(|(_, b)| b.regularizer = at);
    }

    fn bind_methods(&mut self) {
        let mut tables: Vec<(MethodSpec, usize, Vec<Segment>)> = Vec::new();
        for (layer, place) in self.graph.layers.iter().zip(&self.layout.places) {
            let LayerKind::Conv { shape, method } = layer.kind else { continue };
            let segment = Segment {
                base: place.params,
                stride: place.stride,
                cin: shape.cin,
                cout: shape.cout,
                taps: shape.k * shape.k,
                w: place.weight,
            };
            match tables.iter_mut().find(|(m, g, _)| *m == method && *g == place.group) {
                Some((_, _, segments)) => segments.push(segment),
                None => tables.push((method, place.group, vec![segment])),
            }
        }
        for (method, group, segments) in tables {
            let (words, groups) = table(&segments);
            let at = self.buffer(format!("{} segments {group}", method.title()), words.len() as u64, Elem::U32);
            self.buffers[at].contents = Some(words);
            let b = self.groups[group];
            let mut bound = Bound {
                groups,
                table: Ref::Buffer(at),
                params: Ref::Buffer(b.params),
                weight: Ref::Buffer(b.weight),
                weight_t: Ref::Buffer(b.weight_t),
                dweight: Ref::Buffer(b.dweight),
                grads: Ref::Buffer(b.grads),
                regularizer: Ref::Buffer(0),
                regularizer_at: self.regularizer_parts,
            };
            bound.regularizer = bound.params;
            if method.method.regularizer(&bound).is_some() {
                self.regularizer_parts += groups;
            }
            self.bound.push((method, bound));
        }
    }

    fn compose(&self, p: &mut Program) {
        for (m, b) in &self.bound {
            p.call(m.method.compose(m.bits, b).label("compose"));
        }
    }

    /// A training step, or an evaluation batch with its logits.
    fn program(&mut self, train: bool) -> Result<(Program, Ref)> {
        let mut p = Program::default();
        let mut values = vec![self.input(&mut p, train)];
        if train {
            self.compose(&mut p);
            for (m, b) in &self.bound {
                m.method.regularizer(b).into_iter().for_each(|c| p.call(c.label("regularizer")));
            }
        }
        for id in 1..self.graph.nodes.len() {
            let value = self.forward(&mut p, id, &values, train)?;
            values.push(value);
        }
        let logits = values.last().expect("a graph has an input").out;
        let dlogits = self.loss(&mut p, logits, train);
        if train {
            self.backward(&mut p, &values, dlogits)?;
            for (m, b) in &self.bound {
                p.call(m.method.backward(m.bits, b, self.o.alpha).label("latents"));
            }
            self.update(&mut p);
        }
        Ok((p, logits))
    }

    fn input(&self, p: &mut Program, train: bool) -> Value {
        let shape = self.graph.nodes[0].shape;
        let out = self.activation(p, "input", 0);
        let mut params =
            AugmentParams { h: shape.h, w: shape.w, c: shape.c, max_n: self.o.batch, ..Default::default() };
        for (c, (mean, std)) in self.o.mean.iter().zip(&self.o.std).enumerate() {
            params.scale[c] = (1.0 / (255.0 * f64::from(*std))) as f32;
            params.bias[c] = (-f64::from(*mean) / f64::from(*std)) as f32;
        }
        if train {
            (params.pad, params.flip, params.seed) = (self.o.pad, self.o.flip.into(), self.o.seed);
        }
        let at = move |v: &Vars| AugmentParams { n: v.n, epoch: v.epoch, ..params };
        p.call(Call::new(&Augment, &[Ref::Buffer(self.batch), out], at).label("input"));
        Value { out, saved: None }
    }

    /// A tensor shaped like a node's output, for the whole batch.
    fn activation(&self, p: &mut Program, prefix: &str, id: NodeId) -> Ref {
        let node = &self.graph.nodes[id];
        let words = match node.op {
            Op::Linear { .. } => node.shape.c,
            _ => 4 * node.shape.len4(),
        };
        let name = if prefix.is_empty() { node.name.clone() } else { format!("{prefix} {}", node.name) };
        p.tensor(name, u64::from(self.o.batch) * u64::from(words), Elem::F32)
    }

    fn group(&self, layer: LayerId) -> GroupBuffers {
        self.groups[self.layout.places[layer].group]
    }

    fn conv_params(&self, node: &Node, stride: u32, pad: u32, layer: LayerId) -> ConvParams {
        let input = self.graph.shape(node.inputs[0]);
        let LayerKind::Conv { shape, .. } = self.graph.layers[layer].kind else {
            unreachable!("a convolution's layer")
        };
        let p = ConvParams::new(self.o.batch, input.hwc(), shape.cout, [shape.k, stride, pad]);
        let subgroup = self.o.subgroup.unwrap_or(0);
        ConvParams { offset: self.layout.places[layer].weight / 4, subgroup, ..p }.chunked()
    }

    fn rung(&mut self, family: Family, p: &ConvParams, name: &str) -> Result<&'static dyn AnyKernel> {
        let key = format!("{family:?}:{name}");
        let recorded = self.o.rungs.recorded.get(&key).cloned();
        let wanted: Vec<_> = recorded.into_iter().chain(self.o.rungs.forced.iter().cloned()).collect();
        let kernel = conv::pick(family, p, &wanted)?;
        self.rungs.insert(key, kernel.name().into());
        Ok(kernel)
    }

    fn conv_call(
        &mut self,
        p: &mut Program,
        family: Family,
        params: ConvParams,
        args: &[Ref],
        name: &str,
    ) -> Result<()> {
        let kernel = self.rung(family, &params, name)?;
        let at = move |v: &Vars| bytemuck::bytes_of(&ConvParams { n: v.n, ..params }).to_vec();
        p.call(Call { kernel, args: args.to_vec(), params: Box::new(at), label: name.into() });
        Ok(())
    }

    fn norm_params(&self, node: &Node, layer: LayerId) -> impl Fn(&Vars) -> BatchNormParams + Clone + use<> {
        let (s, place) = (node.shape, self.layout.places[layer]);
        move |v: &Vars| BatchNormParams {
            weight: place.params / 4,
            bias: (place.params + place.stride) / 4,
            running_mean: place.state / 4,
            running_var: (place.state + place.stride) / 4,
            ..BatchNormParams::new(v.n * s.h * s.w, s.c)
        }
    }

    fn linear_params(&self, layer: LayerId) -> impl Fn(&Vars) -> LinearParams + Clone + use<> {
        let LayerKind::Linear { features, classes } = self.graph.layers[layer].kind else {
            unreachable!("a linear layer")
        };
        let place = self.layout.places[layer];
        let (weight, bias) = (place.params, place.params + place.stride);
        move |v: &Vars| LinearParams { n: v.n, features, stride: features.next_multiple_of(4), classes, weight, bias }
    }

    fn forward(&mut self, p: &mut Program, id: NodeId, values: &[Value], train: bool) -> Result<Value> {
        let node = self.graph.nodes[id].clone();
        let x = values[node.inputs[0]].out;
        let input = self.graph.shape(node.inputs[0]);
        let out = self.activation(p, "", id);
        let (name, mut saved) = (node.name.as_str(), None);
        let len4 = node.shape.len4();
        match node.op {
            Op::Input => unreachable!("the input is node 0"),
            Op::Conv { stride, pad, layer } => {
                let params = self.conv_params(&node, stride, pad, layer);
                let weight = Ref::Buffer(self.group(layer).weight);
                self.conv_call(p, Family::Forward, params, &[x, weight, out], name)?;
            }
            Op::BatchNorm { layer } => {
                let at = self.norm_params(&node, layer);
                let (params, state) = (Ref::Buffer(self.group(layer).params), Ref::Buffer(self.state));
                if train {
                    let largest = at(&Vars { n: self.o.batch, ..Vars::default() });
                    let part = p.tensor(format!("{name} tiles"), largest.partials().into(), Elem::F32);
                    let stats = p.tensor(format!("{name} statistics"), 8 * u64::from(largest.c4), Elem::F32);
                    p.call(Call::new(&BnStats, &[x, part], at.clone()).label(name));
                    p.call(Call::new(&BnStatsMerge, &[part, stats, state], at.clone()).label(name));
                    p.call(Call::new(&BnApply, &[x, stats, params, out], at).label(name));
                    saved = Some(stats);
                } else {
                    p.call(Call::new(&BnEval, &[x, state, params, out], at).label(name));
                }
            }
            Op::Relu => p.call(Call::new(&Relu, &[x, out], elementwise(len4)).label(name)),
            Op::Add => p.call(Call::new(&Add, &[x, values[node.inputs[1]].out, out], elementwise(len4)).label(name)),
            Op::PadShortcut { stride } => {
                let cout = node.shape.c;
                let at = move |v: &Vars| PadShortcutParams::new(v.n, input.hwc(), cout, stride);
                p.call(Call::new(&PadShortcut, &[x, out], at).label(name));
            }
            Op::MaxPool { k, stride, pad } => {
                let words = u64::from(self.o.batch) * 4 * u64::from(len4);
                let tap = p.tensor(format!("{name} taps"), words, Elem::U32);
                let at = move |v: &Vars| MaxPoolParams::new(v.n, input.hwc(), [k, stride, pad]);
                p.call(Call::new(&MaxPool, &[x, out, tap], at).label(name));
                saved = Some(tap);
            }
            Op::GlobalAvgPool => {
                let at = move |v: &Vars| GlobalAvgPoolParams { n: v.n, hw: input.h * input.w, c4: input.c4() };
                p.call(Call::new(&GlobalAvgPool, &[x, out], at).label(name));
            }
            Op::Linear { layer } => {
                let params = Ref::Buffer(self.group(layer).params);
                p.call(Call::new(&LinearForward, &[x, params, out], self.linear_params(layer)).label(name));
            }
        }
        Ok(Value { out, saved })
    }

    /// Loss, figures and the logits' gradient.
    fn loss(&self, p: &mut Program, logits: Ref, train: bool) -> Ref {
        let (classes, batch) = (self.graph.classes(), u64::from(self.o.batch));
        let loss = p.tensor("loss", batch, Elem::F32);
        let rank = p.tensor("rank", batch, Elem::U32);
        let dlogits = p.tensor("gradient of logits", batch * u64::from(classes), Elem::F32);
        let smoothing = if train { self.o.smoothing } else { 0.0 };
        let at = move |v: &Vars| LossParams { n: v.n, classes, smoothing };
        let args = [logits, Ref::Buffer(self.batch), loss, rank, dlogits];
        p.call(Call::new(&SoftmaxCrossEntropy, &args, at).label("loss"));
        let parts = if train { self.regularizer_parts } else { 0 };
        let at = move |v: &Vars| MetricsParams { n: v.n, parts, slot: v.slot };
        let args = [loss, rank, Ref::Buffer(self.regularizer), Ref::Buffer(self.ring)];
        p.call(Call::new(&Metrics, &args, at).label("loss"));
        dlogits
    }

    fn backward(&mut self, p: &mut Program, values: &[Value], dlogits: Ref) -> Result<()> {
        let mut grads: Vec<Option<Ref>> = vec![None; self.graph.nodes.len()];
        *grads.last_mut().expect("a graph has an input") = Some(dlogits);
        for id in (1..self.graph.nodes.len()).rev() {
            // A node that nothing reads has no gradient.
            let Some(dy) = grads[id] else { continue };
            for (input, dx) in self.backward_rule(p, id, values, dy)? {
                grads[input] = Some(match grads[input] {
                    None => dx,
                    Some(other) => {
                        let sum = self.activation(p, "gradient of", input);
                        let len4 = self.graph.shape(input).len4();
                        let name = self.graph.nodes[input].name.as_str();
                        p.call(Call::new(&Add, &[other, dx, sum], elementwise(len4)).label(name));
                        sum
                    }
                });
            }
        }
        Ok(())
    }

    /// Gradients of a node's inputs from that of its output; gradients of its parameters go to their slabs.
    fn backward_rule(&mut self, p: &mut Program, id: NodeId, values: &[Value], dy: Ref) -> Result<Vec<(NodeId, Ref)>> {
        let node = self.graph.nodes[id].clone();
        let (source, name) = (node.inputs[0], node.name.as_str());
        let (x, input, Value { out, saved }) = (values[source].out, self.graph.shape(source), values[id]);
        // The images need no gradient.
        let wanted = source != 0;
        let dx = match node.op {
            Op::Input => unreachable!("the input has no rule"),
            Op::Add => return Ok(node.inputs.iter().filter(|i| **i != 0).map(|i| (*i, dy)).collect()),
            Op::Conv { stride, pad, layer } => {
                let params = self.conv_params(&node, stride, pad, layer);
                let part = params.chunks() as u64 * params.weights() as u64;
                let part = p.tensor(format!("{name} partial gradients"), part, Elem::F32);
                self.conv_call(p, Family::BackwardWeight, params, &[x, dy, part], name)?;
                let len4 = params.weights() as u32 / 4;
                let at = move |v: &Vars| SumPartialsParams {
                    parts: v.n.div_ceil(params.chunk),
                    len4,
                    offset: params.offset,
                };
                let buffers = self.group(layer);
                p.call(Call::new(&SumPartials, &[part, Ref::Buffer(buffers.dweight)], at).label(name));
                if !wanted {
                    return Ok(Vec::new());
                }
                let dx = self.activation(p, "gradient of", source);
                self.conv_call(p, Family::BackwardInput, params, &[dy, Ref::Buffer(buffers.weight_t), dx], name)?;
                return Ok(vec![(source, dx)]);
            }
            _ => self.activation(p, "gradient of", source),
        };
        match node.op {
            Op::BatchNorm { layer } => {
                let at = self.norm_params(&node, layer);
                let largest = at(&Vars { n: self.o.batch, ..Vars::default() });
                let stats = saved.expect("the forward pass saved statistics");
                let buffers = self.group(layer);
                let part = p.tensor(format!("{name} tiles"), largest.partials().into(), Elem::F32);
                let sums = p.tensor(format!("{name} sums"), 8 * u64::from(largest.c4), Elem::F32);
                p.call(Call::new(&BnBackwardStats, &[x, dy, stats, part], at.clone()).label(name));
                p.call(Call::new(&BnBackwardMerge, &[part, sums, Ref::Buffer(buffers.grads)], at.clone()).label(name));
                let args = [x, dy, stats, sums, Ref::Buffer(buffers.params), dx];
                p.call(Call::new(&BnBackwardApply, &args, at).label(name));
            }
            Op::Relu => p.call(Call::new(&ReluBackward, &[out, dy, dx], elementwise(node.shape.len4())).label(name)),
            Op::PadShortcut { stride } => {
                let cout = node.shape.c;
                let at = move |v: &Vars| PadShortcutParams::new(v.n, input.hwc(), cout, stride);
                p.call(Call::new(&PadShortcutBackward, &[dy, dx], at).label(name));
            }
            Op::MaxPool { k, stride, pad } => {
                let at = move |v: &Vars| MaxPoolParams::new(v.n, input.hwc(), [k, stride, pad]);
                let tap = saved.expect("the forward pass saved taps");
                p.call(Call::new(&MaxPoolBackward, &[dy, tap, dx], at).label(name));
            }
            Op::GlobalAvgPool => {
                let at = move |v: &Vars| GlobalAvgPoolParams { n: v.n, hw: input.h * input.w, c4: input.c4() };
                p.call(Call::new(&GlobalAvgPoolBackward, &[dy, dx], at).label(name));
            }
            Op::Linear { layer } => {
                let (at, buffers) = (self.linear_params(layer), self.group(layer));
                p.call(Call::new(&LinearBackwardWeight, &[x, dy, Ref::Buffer(buffers.grads)], at.clone()).label(name));
                p.call(Call::new(&LinearBackwardInput, &[dy, Ref::Buffer(buffers.params), dx], at).label(name));
            }
            Op::Input | Op::Add | Op::Conv { .. } => unreachable!("handled above"),
        }
        Ok(if wanted { vec![(source, dx)] } else { Vec::new() })
    }

    fn update(&self, p: &mut Program) {
        for (size, b) in self.layout.groups.iter().zip(&self.groups) {
            let base = SgdParams {
                len4: size.params / 4,
                latents: size.latents / 4,
                nesterov: self.o.nesterov.into(),
                rate: 0.0,
                latent_rate: self.o.latent_rate,
                momentum: self.o.momentum,
                decay: self.o.decay,
            };
            let args = [b.grads, b.params, b.momenta].map(Ref::Buffer);
            p.call(Call::new(&Sgd, &args, move |v: &Vars| SgdParams { rate: v.rate, ..base }).label("update"));
        }
    }
}

/// Parameters of an elementwise pass over `len4` vec4 an image.
fn elementwise(len4: u32) -> impl Fn(&Vars) -> ElementwiseParams {
    move |v: &Vars| ElementwiseParams { len4: v.n * len4 }
}
