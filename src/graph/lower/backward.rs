//! The backward pass: one rule an operation.

use super::super::builder::{NodeId, Op};
use super::super::program::{Call, Program, Ref, Vars};
use super::forward::read;
use super::fuse::{Role, Unit};
use super::{Lowering, Value, conv_call, elementwise};
use crate::error::Result;
use crate::kernels::Elem;
use crate::kernels::act::{Add, ReluBackward};
use crate::kernels::conv::{ConvParams, Family, SumPartials, SumPartialsParams, choice};
use crate::kernels::linear::{LinearBackwardInput, LinearBackwardWeight};
use crate::kernels::norm::{BatchNormParams, BnBackwardApply, BnBackwardMerge, BnBackwardStats};
use crate::kernels::pool::{
    GlobalAvgPoolBackward, GlobalAvgPoolParams, MaxPoolBackward, MaxPoolParams, PadShortcutBackward, PadShortcutParams,
};

/// A gradient: `dy`, or `dy` where the ReLU's output `gate` is above zero, for those that can apply the gate while they read.
#[derive(Clone, Copy)]
struct Grad {
    dy: Ref,
    gate: Option<Ref>,
}

/// The gradients that have arrived so far, one a node.
type Grads = Vec<Option<Grad>>;

impl Lowering<'_> {
    pub(super) fn backward(&mut self, p: &mut Program, values: &[Option<Value>], dlogits: Ref) -> Result<()> {
        let mut grads: Grads = vec![None; self.graph.nodes.len()];
        *grads.last_mut().expect("a graph has an input") = Some(Grad { dy: dlogits, gate: None });
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
                let (a, b) = (self.plain(p, id, other), self.plain(p, id, grad));
                let sum = self.activation(p, "gradient of", id);
                let node = &self.graph.nodes[id];
                p.call(Call::new(&Add, &[a, b, sum], elementwise(node.shape.len4())).label(&node.name));
                Grad { dy: sum, gate: None }
            }
        });
    }

    /// The gradient of a node's output in memory, its gate applied.
    fn plain(&self, p: &mut Program, id: NodeId, grad: Grad) -> Ref {
        let Some(gate) = grad.gate else { return grad.dy };
        let node = &self.graph.nodes[id];
        let dx = self.activation(p, "gradient of", id);
        p.call(Call::new(&ReluBackward, &[gate, grad.dy, dx], elementwise(node.shape.len4())).label(&node.name));
        dx
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
        let grad = if unit.relu { Grad { dy: self.plain(p, id, grad), gate: Some(out) } } else { grad };
        if let Some(residual) = unit.residual {
            self.arrive(p, grads, residual, grad);
        }
        let (at, layer) = self.norm_params(unit);
        let relu = grad.gate.is_some().into();
        let at = move |v: &Vars| BatchNormParams { relu, ..at(v) };
        let node = &self.graph.nodes[unit.norm];
        let (source, name) = (node.inputs[0], node.name.as_str());
        let (x, stats) = (read(values, source), saved.expect("the forward pass saved statistics"));
        let gate = grad.gate.unwrap_or(x);
        let buffers = self.group(layer);
        let (params, slab) = (Ref::Buffer(buffers.params), Ref::Buffer(buffers.grads));
        let part = self.norm_tiles(p, name, &at);
        let coef = p.tensor(format!("{name} coefficients"), 16 * u64::from(node.shape.c4()), Elem::F32);
        p.call(Call::new(&BnBackwardStats, &[x, grad.dy, gate, stats, part], at).label(name));
        p.call(Call::new(&BnBackwardMerge, &[part, stats, params, coef, slab], at).label(name));
        if source != 0 {
            let dx = self.activation(p, "gradient of", source);
            p.call(Call::new(&BnBackwardApply, &[x, grad.dy, gate, coef, dx], at).label(name));
            self.arrive(p, grads, source, Grad { dy: dx, gate: None });
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
        match node.op {
            // These hand on what they got.
            Op::Add => {
                node.inputs.iter().for_each(|i| self.arrive(p, grads, *i, grad));
                return Ok(());
            }
            Op::Relu => {
                let dy = self.plain(p, id, grad);
                self.arrive(p, grads, source, Grad { dy, gate: Some(out) });
                return Ok(());
            }
            Op::Conv { stride, pad, layer } => {
                let params = self.conv_params(&node, stride, pad, layer);
                let dy = self.plain(p, id, grad);
                self.weight_gradient(p, params, [x, dy], layer, name)?;
                if source != 0 {
                    // What has arrived along the shortcut is added on the way out.
                    let waiting = grads[source].take();
                    let skip = waiting.map_or(dy, |g| g.dy);
                    let gate = waiting.and_then(|g| g.gate);
                    let kind = waiting.map_or(0, |g| 1 + u32::from(g.gate.is_some()));
                    let dx = self.activation(p, "gradient of", source);
                    let weight_t = Ref::Buffer(self.group(layer).weight_t);
                    let args = [dy, weight_t, skip, gate.unwrap_or(dy), dx];
                    let params = ConvParams { skip: kind, ..params };
                    let rung = self.rung(Family::BackwardInput, &params, name)?;
                    p.call(conv_call(rung, params, &args, name));
                    grads[source] = Some(Grad { dy: dx, gate: None });
                }
                return Ok(());
            }
            _ => (),
        }
        let dx = self.activation(p, "gradient of", source);
        match node.op {
            Op::PadShortcut { stride } => {
                let (cout, relu) = (node.shape.c, grad.gate.is_some().into());
                let at = move |v: &Vars| PadShortcutParams {
                    relu,
                    ..PadShortcutParams::new(v.n, input.hwc(), cout, stride)
                };
                let args = [grad.dy, grad.gate.unwrap_or(grad.dy), dx];
                p.call(Call::new(&PadShortcutBackward, &args, at).label(name));
            }
            Op::MaxPool { k, stride, pad } => {
                let at = move |v: &Vars| MaxPoolParams::new(v.n, input.hwc(), [k, stride, pad]);
                let (dy, tap) = (self.plain(p, id, grad), saved.expect("the forward pass saved taps"));
                p.call(Call::new(&MaxPoolBackward, &[dy, tap, dx], at).label(name));
            }
            Op::GlobalAvgPool => {
                let at = move |v: &Vars| GlobalAvgPoolParams { n: v.n, hw: input.h * input.w, c4: input.c4() };
                let dy = self.plain(p, id, grad);
                p.call(Call::new(&GlobalAvgPoolBackward, &[dy, dx], at).label(name));
            }
            Op::Linear { layer } => {
                let (at, buffers) = (self.linear_params(layer), self.group(layer));
                let dy = self.plain(p, id, grad);
                p.call(Call::new(&LinearBackwardWeight, &[x, dy, Ref::Buffer(buffers.grads)], at.clone()).label(name));
                p.call(Call::new(&LinearBackwardInput, &[dy, Ref::Buffer(buffers.params), dx], at).label(name));
            }
            Op::Input | Op::BatchNorm { .. } => unreachable!("the input has no rule, a batch norm is a unit"),
            Op::Add | Op::Relu | Op::Conv { .. } => unreachable!("handled above"),
        }
        self.arrive(p, grads, source, Grad { dy: dx, gate: None });
        Ok(())
    }

    /// dL/dW in two passes: partial sums over images, then their sum.
    fn weight_gradient(
        &mut self,
        p: &mut Program,
        params: ConvParams,
        [x, dy]: [Ref; 2],
        layer: usize,
        name: &str,
    ) -> Result<()> {
        let rung = self.rung(Family::BackwardWeight, &params, name)?;
        let params = ConvParams { chunk: choice::images_per_sum(rung, &params), ..params };
        let words = u64::from(params.chunks()) * params.weights() as u64;
        let part = p.tensor(format!("{name} partial gradients"), words, Elem::F32);
        p.call(conv_call(rung, params, &[x, dy, part], name));
        let len4 = params.weights() as u32 / 4;
        let at = move |v: &Vars| SumPartialsParams { parts: v.n.div_ceil(params.chunk), len4, offset: params.offset };
        p.call(Call::new(&SumPartials, &[part, Ref::Buffer(self.group(layer).dweight)], at).label(name));
        Ok(())
    }
}
