//! The backward pass: one rule an operation.

use super::super::builder::{NodeId, Op};
use super::super::program::{Call, Program, Ref, Vars};
use super::forward::read;
use super::fuse::{Role, Unit};
use super::{Lowering, Value, conv_call, elementwise};
use crate::error::Result;
use crate::kernels::act::{Add, ReluBackward};
use crate::kernels::conv::{
    self, ADD, BackwardInputStatsGemm, ConvParams, Family, GATE, SumPartials, SumPartialsParams, choice,
};
use crate::kernels::linear::{LinearBackwardInput, LinearBackwardWeight, LogitsBackward};
use crate::kernels::norm::{BatchNormParams, BnBackwardApply, BnBackwardMerge, BnBackwardStats};
use crate::kernels::pool::{
    GlobalAvgPoolBackward, GlobalAvgPoolParams, MaxPoolBackward, MaxPoolParams, PadShortcutBackward, PadShortcutParams,
};
use crate::kernels::{AnyKernel, Elem};

/// The gradient of a node's output.
#[derive(Clone, Copy)]
struct Grad {
    dy: Ref,
    /// Whether the gate of the ReLU that the node ends with is applied.
    gated: bool,
    /// The partial sums that the node's batch norm takes of it, and the convolution that took them along.
    sums: Option<(Ref, ConvParams)>,
}

impl Grad {
    fn plain(dy: Ref) -> Self {
        Self { dy, gated: false, sums: None }
    }
}

/// The gradients that have arrived so far, one a node.
type Grads = Vec<Option<Grad>>;

impl Lowering<'_> {
    pub(super) fn backward(&mut self, p: &mut Program, values: &[Option<Value>], dlogits: Ref) -> Result<()> {
        let mut grads: Grads = vec![None; self.graph.nodes.len()];
        *grads.last_mut().expect("a graph has an input") = Some(Grad::plain(dlogits));
        for id in (1..self.graph.nodes.len()).rev() {
            // A node that nothing reads has no gradient, nor has one inside a unit.
            let Some(grad) = grads[id] else { continue };
            match self.roles[id] {
                Role::Ends(unit) => self.unit_rule(p, id, unit, values, grad, &mut grads),
                Role::Alone | Role::Inside => self.rule(p, id, values, grad, &mut grads)?,
            }
        }
        Ok(())
    }

    /// Another gradient of a node's output; the images want none.
    fn arrive(&self, p: &mut Program, grads: &mut Grads, id: NodeId, grad: Grad) {
        if id == 0 {
            return;
        }
        grads[id] = Some(match grads[id] {
            None => grad,
            Some(other) => {
                debug_assert!(!other.gated && !grad.gated, "a gate is for the sum");
                let sum = self.activation(p, "gradient of", id);
                let node = &self.graph.nodes[id];
                p.call(Call::new(&Add, &[other.dy, grad.dy, sum], elementwise(node.shape.len4())).label(&node.name));
                Grad::plain(sum)
            }
        });
    }

    /// The gate that whoever computes the gradient of `source` for its reader `id` can apply on the way out: the output of the ReLU that
    /// `source` ends with, where no other gradient is still to come.
    fn gate(&self, source: NodeId, id: NodeId, values: &[Option<Value>]) -> Option<Ref> {
        self.last_for(source, id).filter(|unit| unit.relu).map(|_| read(values, source))
    }

    /// The unit that `source` ends, where the gradient through its reader `id` is the last that it waits for.
    fn last_for(&self, source: NodeId, id: NodeId) -> Option<Unit> {
        let Role::Ends(unit) = self.roles[source] else { return None };
        self.graph.nodes[..id].iter().all(|n| !n.inputs.contains(&source)).then_some(unit)
    }

    /// Through ReLU, addition and batch norm at once.
    fn unit_rule(
        &self,
        p: &mut Program,
        id: NodeId,
        unit: Unit,
        values: &[Option<Value>],
        grad: Grad,
        grads: &mut Grads,
    ) {
        let Value { out, saved, .. } = values[id].expect("a unit's end is in memory");
        let mut dy = grad.dy;
        if unit.relu && !grad.gated {
            dy = self.activation(p, "gradient of", id);
            let node = &self.graph.nodes[id];
            p.call(Call::new(&ReluBackward, &[out, grad.dy, dy], elementwise(node.shape.len4())).label(&node.name));
        }
        if let Some(residual) = unit.residual {
            self.arrive(p, grads, residual, Grad::plain(dy));
        }
        let (at, layer) = self.norm_params(unit);
        let node = &self.graph.nodes[unit.norm];
        let (source, name) = (node.inputs[0], node.name.as_str());
        let (x, stats) = (read(values, source), saved.expect("the forward pass saved statistics"));
        let buffers = self.group(layer);
        let (params, slab) = (Ref::Buffer(buffers.params), Ref::Buffer(buffers.grads));
        let coef = p.tensor(format!("{name} coefficients"), 16 * u64::from(node.shape.c4()), Elem::F32);
        let sums = grad.sums.filter(|_| grad.dy == dy);
        let part = sums.map_or_else(|| self.norm_tiles(p, name, &at), |(part, _)| part);
        if sums.is_none() {
            p.call(Call::new(&BnBackwardStats, &[x, dy, stats, part], at).label(name));
        }
        let merged = move |v: &Vars| match sums {
            None => at(v),
            Some((_, conv)) => {
                let tiles = BackwardInputStatsGemm::tiles(&ConvParams { n: v.n, ..conv });
                BatchNormParams { tiles, ..at(v) }
            }
        };
        p.call(Call::new(&BnBackwardMerge, &[part, stats, params, coef, slab], merged).label(name));
        if source != 0 {
            let dx = self.activation(p, "gradient of", source);
            p.call(Call::new(&BnBackwardApply, &[x, dy, coef, dx], at).label(name));
            self.arrive(p, grads, source, Grad::plain(dx));
        }
    }

    /// Gradients of a node's inputs from that of its output; gradients of its parameters go to their slabs.
    fn rule(
        &mut self,
        p: &mut Program,
        id: NodeId,
        values: &[Option<Value>],
        grad: Grad,
        grads: &mut Grads,
    ) -> Result<()> {
        let node = self.graph.nodes[id].clone();
        let (source, name) = (node.inputs[0], node.name.as_str());
        let (x, input) = (read(values, source), self.graph.shape(source));
        let Value { out, saved, .. } = values[id].expect("a node that is alone is in memory");
        let dy = grad.dy;
        match node.op {
            // These hand on what they got.
            Op::Add => {
                node.inputs.iter().for_each(|i| self.arrive(p, grads, *i, grad));
                return Ok(());
            }
            Op::Conv { stride, pad, layer } => {
                let params = self.conv_params(&node, stride, pad, layer);
                self.weight_gradient(p, id, params, [x, dy], layer);
                if source != 0 {
                    // What has arrived along the shortcut is added on the way out.
                    let (skip, gate) = (grads[source].take(), self.gate(source, id, values));
                    let bits = [(skip.is_some(), ADD), (gate.is_some(), GATE)];
                    let epilogue = bits.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum();
                    let dx = self.activation(p, "gradient of", source);
                    let rung = self.rung(Family::BackwardInput, id);
                    let inputs = [dy, self.weights(rung, layer), skip.map_or(dy, |g| g.dy), gate.unwrap_or(dy)];
                    let params = ConvParams { epilogue, ..params };
                    let mut sums = None;
                    let fits = |k: &&dyn AnyKernel| {
                        self.o.storage_buffers.is_none_or(|most| k.bindings().len() as u32 <= most)
                    };
                    match (conv::with_statistics(rung).filter(fits), self.last_for(source, id)) {
                        (Some(fused), Some(unit)) => {
                            let words = BackwardInputStatsGemm::norm(&params).partials();
                            let part = p.tensor(format!("{name} sums"), words.into(), Elem::F32);
                            let norm_input = read(values, self.graph.nodes[unit.norm].inputs[0]);
                            let stats = values[source].and_then(|v| v.saved).expect("a unit saved statistics");
                            let args: Vec<_> = inputs.into_iter().chain([norm_input, stats, dx, part]).collect();
                            p.call(conv_call(fused, params, &args, name));
                            sums = Some((part, params));
                        }
                        _ => p.call(conv_call(rung, params, &[&inputs[..], &[dx]].concat(), name)),
                    }
                    grads[source] = Some(Grad { dy: dx, gated: gate.is_some(), sums });
                }
                return Ok(());
            }
            _ => (),
        }
        let gate = match node.op {
            Op::MaxPool { .. } | Op::GlobalAvgPool if grads[source].is_none() => self.gate(source, id, values),
            _ => None,
        };
        let relu = gate.is_some().into();
        let dx = self.activation(p, "gradient of", source);
        match node.op {
            Op::Relu => {
                p.call(Call::new(&ReluBackward, &[out, dy, dx], elementwise(node.shape.len4())).label(name));
            }
            Op::PadShortcut { stride } => {
                let cout = node.shape.c;
                let at = move |v: &Vars| PadShortcutParams::new(v.n, input.hwc(), cout, stride);
                p.call(Call::new(&PadShortcutBackward, &[dy, dx], at).label(name));
            }
            Op::MaxPool { k, stride, pad } => {
                let at =
                    move |v: &Vars| MaxPoolParams { relu, ..MaxPoolParams::new(v.n, input.hwc(), [k, stride, pad]) };
                let tap = saved.expect("the forward pass saved taps");
                p.call(Call::new(&MaxPoolBackward, &[dy, tap, gate.unwrap_or(dy), dx], at).label(name));
            }
            Op::GlobalAvgPool => {
                let at = move |v: &Vars| GlobalAvgPoolParams { n: v.n, hw: input.h * input.w, c4: input.c4(), relu };
                p.call(Call::new(&GlobalAvgPoolBackward, &[dy, gate.unwrap_or(dy), dx], at).label(name));
            }
            Op::Linear { layer } => {
                let (at, buffers) = (self.linear_params(layer), self.group(layer));
                p.call(Call::new(&LinearBackwardWeight, &[x, dy, Ref::Buffer(buffers.grads)], at.clone()).label(name));
                p.call(Call::new(&LinearBackwardInput, &[dy, Ref::Buffer(buffers.params), dx], at).label(name));
            }
            Op::Logits { layer } => {
                let grads = Ref::Buffer(self.group(layer).grads);
                p.call(Call::new(&LogitsBackward, &[dy, dx, grads], self.logits_params(layer)).label(name));
            }
            Op::Input | Op::BatchNorm { .. } => unreachable!("the input has no rule, a batch norm is a unit"),
            Op::Add | Op::Conv { .. } => unreachable!("handled above"),
        }
        self.arrive(p, grads, source, Grad { dy: dx, gated: gate.is_some(), sums: None });
        Ok(())
    }

    /// dL/dW in two passes: partial sums over images, then their sum.
    fn weight_gradient(&self, p: &mut Program, id: NodeId, params: ConvParams, [x, dy]: [Ref; 2], layer: usize) {
        let (rung, name) = (self.rung(Family::BackwardWeight, id), self.graph.nodes[id].name.as_str());
        let params = ConvParams { chunk: choice::images_per_sum(rung, &params), ..params };
        let words = u64::from(params.chunks()) * params.weights() as u64;
        let part = p.tensor(format!("{name} partial gradients"), words, Elem::F32);
        p.call(conv_call(rung, params, &[x, dy, part], name));
        let len4 = params.weights() as u32 / 4;
        let at = move |v: &Vars| SumPartialsParams { parts: v.n.div_ceil(params.chunk), len4, offset: params.offset };
        p.call(Call::new(&SumPartials, &[part, Ref::Buffer(self.group(layer).dweight)], at).label(name));
    }
}
