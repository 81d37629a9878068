//! From the graph to programs: forward, loss, backward and update as kernel calls.
//!
//! `fuse` finds the batch norms that take the addition and the ReLU behind them along. The backward pass is built from the graph in
//! reverse, one rule an operation; where two gradients meet they are added, in a convolution's own output where one is at hand.

mod backward;
mod dynamics;
mod forward;
mod fuse;
mod parameters;

use std::collections::BTreeMap;

pub use self::dynamics::{Observation, ObservedLayer};
use self::fuse::{Role, Unit};
use super::builder::{Graph, LOGIT_SCALE, LayerId, LayerKind, Node, NodeId, Op};
use super::layout::Layout;
use super::plan::BufferSpec;
use super::program::{Call, Program, Ref, Vars};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::act::ElementwiseParams;
use crate::kernels::augment::{Augment, AugmentParams};
use crate::kernels::compose::Segment;
use crate::kernels::conv::{self, ConvParams, Family, Rung};
use crate::kernels::linear::{LinearParams, LogitsParams};
use crate::kernels::loss::{LossParams, Metrics, MetricsParams, SoftmaxCrossEntropy};
use crate::kernels::norm::BatchNormParams;
use crate::kernels::optim::Optimizer;
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
    /// What was measured to be fastest, by [`Family::key`]; it comes after the others, and before the built-in table.
    pub tuned: BTreeMap<String, String>,
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
    /// What makes a step of the gradients.
    pub optimizer: Optimizer,
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
    /// Whether a training step leaves the gradients of all parameters in memory, at the price of some speed.
    pub keep_gradients: bool,
    /// Whether the plan can observe how weights move.
    pub dynamics: bool,
    /// Batches that a training step adds up, each a part of it; up to 1: the batch is the step.
    pub accumulate: u32,
    /// Convolution rungs.
    pub rungs: RungChoice,
    /// Largest binding of the adapter in words.
    pub max_words: u64,
    /// The adapter's subgroup size, where it is fixed.
    pub subgroup: Option<u32>,
    /// Whether the adapter is the CPU in disguise.
    pub software: bool,
    /// Storage buffers that a kernel may bind there; none where nobody has asked.
    pub storage_buffers: Option<u32>,
}

impl Options {
    /// Whether a training step adds up the gradients of several batches.
    pub fn accumulates(&self) -> bool {
        self.accumulate > 1
    }

    /// With what a device says of itself.
    pub fn on(self, gpu: &Gpu) -> Self {
        let storage_buffers = Some(gpu.limits.max_storage_buffers_per_shader_stage);
        Self {
            max_words: gpu.max_words(),
            subgroup: gpu.subgroup,
            software: gpu.is_software(),
            storage_buffers,
            ..self
        }
    }
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
    /// Second moments of the parameters, where the optimizer has such.
    pub second: Option<usize>,
    /// Both forms of the composed weights as bytes, where a convolution reads them so.
    pub packed: Option<[usize; 2]>,
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
    /// One training step; where steps accumulate, one of its parts, without composition and update.
    pub train: Program,
    /// Composes the weights; once before an evaluation.
    pub compose: Program,
    /// One evaluation batch.
    pub eval: Program,
    /// What ends a training step whose parts are done; empty where a step has no parts.
    pub update: Program,
    /// Composes the weights and compares them with those of the last time; empty without [`Options::dynamics`].
    pub dynamics: Program,
    /// What the last one reads and writes.
    pub observation: Observation,
    /// The logits of the evaluation program.
    pub eval_logits: Ref,
    /// The rungs taken, by `direction:layer`.
    pub rungs: BTreeMap<String, String>,
}

/// A layer and its place in a segment table.
type TableLayer = (LayerId, Segment);

struct Lowering<'a> {
    graph: &'a Graph,
    roles: Vec<Role>,
    o: &'a Options,
    layout: Layout,
    buffers: Vec<BufferSpec>,
    groups: Vec<GroupBuffers>,
    /// Where steps accumulate: the gradients of one part, [plain parameters, dL/dW] a group.
    part_grads: Vec<[usize; 2]>,
    state: usize,
    batch: usize,
    ring: usize,
    regularizer: usize,
    /// (method, buffers) of each composition dispatch.
    bound: Vec<(MethodSpec, Bound)>,
    /// The layers of each in its table's order.
    bound_layers: Vec<Vec<TableLayer>>,
    regularizer_parts: u32,
    rungs: BTreeMap<String, String>,
    /// What each convolution's node takes in each direction.
    picked: BTreeMap<(&'static str, NodeId), &'static Rung>,
}

/// A batch's losses on their way to the figures and to the backward pass.
#[derive(Clone, Copy)]
struct Outcome {
    loss: Ref,
    rank: Ref,
    dlogits: Ref,
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Copy)]
struct Value {
    out: Ref,
    /// Statistics of the batch norm that ends here, or the max pool's taps.
    saved: Option<Ref>,
    /// Partial statistics that a convolution left for the batch norm behind it, and the pixels in each.
    tiles: Option<(Ref, u32)>,
}

/// Builds the programs.
///
/// # Errors
/// [`crate::Error::Usage`] for an unknown rung.
pub fn lower(graph: &Graph, options: &Options) -> Result<Lowered> {
    let layout = Layout::new(graph, options.max_words);
    let mut l = Lowering {
        graph,
        roles: fuse::roles(graph),
        o: options,
        layout,
        buffers: Vec::new(),
        groups: Vec::new(),
        part_grads: Vec::new(),
        state: 0,
        batch: 0,
        ring: 0,
        regularizer: 0,
        bound: Vec::new(),
        bound_layers: Vec::new(),
        regularizer_parts: 0,
        rungs: BTreeMap::new(),
        picked: BTreeMap::new(),
    };
    l.pick_rungs()?;
    l.allocate();
    let (train, _) = l.program(true)?;
    let (eval, eval_logits) = l.program(false)?;
    let (mut compose, mut update) = (Program::default(), Program::default());
    l.compose(&mut compose);
    if options.accumulates() {
        l.update(&mut update);
        l.regularizer_figure(&mut update);
    }
    let (dynamics, observation) = if options.dynamics { l.dynamics() } else { Default::default() };
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
        update,
        dynamics,
        observation,
        eval_logits,
        rungs: l.rungs,
    })
}

impl Lowering<'_> {
    /// A training step, or an evaluation batch with its logits.
    fn program(&mut self, train: bool) -> Result<(Program, Ref)> {
        let mut p = Program::default();
        let mut values = vec![Some(self.input(&mut p, train))];
        if train && !self.o.accumulates() {
            self.compose(&mut p);
        }
        for id in 1..self.graph.nodes.len() {
            let value = self.forward(&mut p, id, &values, train)?;
            values.push(value);
        }
        let logits = forward::read(&values, values.len() - 1);
        let outcome = self.loss(&mut p, logits, train);
        if train {
            self.backward(&mut p, &values, outcome.dlogits)?;
            if self.o.accumulates() { self.accumulate(&mut p) } else { self.update(&mut p) }
        }
        self.metrics(&mut p, outcome, train && !self.o.accumulates());
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
        Value { out, saved: None, tiles: None }
    }

    /// A tensor shaped like a node's output, for the whole batch.
    fn activation(&self, p: &mut Program, prefix: &str, id: NodeId) -> Ref {
        let node = &self.graph.nodes[id];
        let words = match node.op {
            Op::Linear { .. } | Op::Logits { .. } => node.shape.c,
            _ => 4 * node.shape.len4(),
        };
        let name = if prefix.is_empty() { node.name.clone() } else { format!("{prefix} {}", node.name) };
        p.tensor(name, u64::from(self.o.batch) * u64::from(words), Elem::F32)
    }

    /// A layer's buffers, with those for the gradients of one batch: of the step, or of a part of it.
    fn group(&self, layer: LayerId) -> GroupBuffers {
        let group = self.layout.places[layer].group;
        match self.part_grads.get(group) {
            Some([grads, dweight]) => GroupBuffers { grads: *grads, dweight: *dweight, ..self.groups[group] },
            None => self.groups[group],
        }
    }

    fn conv_params(&self, node: &Node, stride: u32, pad: u32, layer: LayerId) -> ConvParams {
        let input = self.graph.shape(node.inputs[0]);
        let LayerKind::Conv { shape, method } = self.graph.layers[layer].kind else {
            unreachable!("a convolution's layer")
        };
        let p = ConvParams::new(self.o.batch, input.hwc(), shape.cout, [shape.k, stride, pad]);
        let subgroup = self.o.subgroup.unwrap_or(0);
        let packed = method.method.powers_of_two().into();
        ConvParams { offset: self.layout.places[layer].weight / 4, subgroup, packed, ..p }
    }

    /// Which rung each convolution takes in each direction: before there are buffers, since rungs differ in those that they read.
    fn pick_rungs(&mut self) -> Result<()> {
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let Op::Conv { stride, pad, layer } = node.op else { continue };
            let p = self.conv_params(node, stride, pad, layer);
            // Nobody asks for the gradient of the images.
            let wanted = Family::ALL.into_iter().filter(|f| *f != Family::BackwardInput || node.inputs[0] != 0);
            for family in wanted {
                let key = format!("{family:?}:{}", node.name);
                let choice = &self.o.rungs;
                let (recorded, tuned) = (choice.recorded.get(&key), choice.tuned.get(&family.key(&p)));
                let names: Vec<_> = recorded.into_iter().chain(&choice.forced).chain(tuned).cloned().collect();
                let rung = conv::pick(family, &p, self.o.software, &names)?;
                self.rungs.insert(key, rung.name().into());
                self.picked.insert((family.name(), id), rung);
            }
        }
        Ok(())
    }

    /// What [`Lowering::pick_rungs`] has picked.
    fn rung(&self, family: Family, id: NodeId) -> &'static Rung {
        self.picked[&(family.name(), id)]
    }

    /// A layer's composed weights in the form that a rung reads.
    fn weights(&self, rung: &Rung, layer: LayerId) -> Ref {
        let b = self.group(layer);
        let transposed = rung.family == Family::BackwardInput;
        Ref::Buffer(match b.packed.filter(|_| rung.packed) {
            Some(packed) => packed[usize::from(transposed)],
            None if transposed => b.weight_t,
            None => b.weight,
        })
    }

    /// The parameters of a batch norm's kernels, and its layer.
    fn norm_params(&self, unit: Unit) -> (impl Fn(&Vars) -> BatchNormParams + Copy + use<>, LayerId) {
        let node = &self.graph.nodes[unit.norm];
        let Op::BatchNorm { layer } = node.op else { unreachable!("a unit starts at a batch norm") };
        let (s, place) = (node.shape, self.layout.places[layer]);
        let at = move |v: &Vars| BatchNormParams {
            weight: place.params / 4,
            bias: (place.params + place.stride) / 4,
            running_mean: place.state / 4,
            running_var: (place.state + place.stride) / 4,
            residual: unit.residual.is_some().into(),
            relu: unit.relu.into(),
            ..BatchNormParams::new(v.n * s.h * s.w, s.c)
        };
        (at, layer)
    }

    fn linear_params(&self, layer: LayerId) -> impl Fn(&Vars) -> LinearParams + Clone + use<> {
        let LayerKind::Linear { features, classes } = self.graph.layers[layer].kind else {
            unreachable!("a linear layer")
        };
        let place = self.layout.places[layer];
        let (weight, bias) = (place.params, place.params + place.stride);
        move |v: &Vars| LinearParams { n: v.n, features, stride: features.next_multiple_of(4), classes, weight, bias }
    }

    fn logits_params(&self, layer: LayerId) -> impl Fn(&Vars) -> LogitsParams + Clone + use<> {
        let (classes, bias) = (self.graph.classes(), self.layout.places[layer].params);
        let stride = classes.next_multiple_of(4);
        move |v: &Vars| LogitsParams { n: v.n, stride, classes, bias, scale: LOGIT_SCALE }
    }

    /// Loss and rank of each image, and the logits' gradient.
    fn loss(&self, p: &mut Program, logits: Ref, train: bool) -> Outcome {
        let (classes, batch) = (self.graph.classes(), u64::from(self.o.batch));
        let loss = p.tensor("loss", batch, Elem::F32);
        let rank = p.tensor("rank", batch, Elem::U32);
        let dlogits = p.tensor("gradient of logits", batch * u64::from(classes), Elem::F32);
        let smoothing = if train { self.o.smoothing } else { 0.0 };
        let at = move |v: &Vars| LossParams { n: v.n, total: v.total.max(v.n), classes, smoothing };
        let args = [logits, Ref::Buffer(self.batch), loss, rank, dlogits];
        p.call(Call::new(&SoftmaxCrossEntropy, &args, at).label("loss"));
        Outcome { loss, rank, dlogits }
    }

    /// The batch's figures; last, when the regularizer's partial sums are there, if they are counted here.
    fn metrics(&self, p: &mut Program, outcome: Outcome, regularizer: bool) {
        let parts = if regularizer { self.regularizer_parts } else { 0 };
        let at = move |v: &Vars| MetricsParams { n: v.n, parts, slot: v.slot };
        let args = [outcome.loss, outcome.rank, Ref::Buffer(self.regularizer), Ref::Buffer(self.ring)];
        p.call(Call::new(&Metrics, &args, at).label("loss"));
    }
}

/// Parameters of an elementwise pass over `len4` vec4 an image.
fn elementwise(len4: u32) -> impl Fn(&Vars) -> ElementwiseParams {
    move |v: &Vars| ElementwiseParams { len4: v.n * len4 }
}

/// One dispatch of a convolution.
fn conv_call(kernel: &'static dyn AnyKernel, params: ConvParams, args: &[Ref], name: &str) -> Call {
    let at = move |v: &Vars| bytemuck::bytes_of(&ConvParams { n: v.n, ..params }).to_vec();
    Call { kernel, args: args.to_vec(), params: Box::new(at), label: name.into() }
}
