//! The forward pass: one rule an operation.

use super::super::builder::{NodeId, Op};
use super::super::program::{Call, Program, Ref, Vars};
use super::fuse::{Role, Unit};
use super::{Lowering, Value, conv_call, elementwise};
use crate::error::Result;
use crate::kernels::Elem;
use crate::kernels::act::{Add, Relu};
use crate::kernels::conv::{self, Family, ForwardStatsGemm};
use crate::kernels::linear::{LinearForward, LogitsForward};
use crate::kernels::norm::{BatchNormParams, BnApply, BnEval, BnStats, BnStatsMerge};
use crate::kernels::pool::{
    GlobalAvgPool, GlobalAvgPoolParams, MaxPool, MaxPoolParams, PadShortcut, PadShortcutParams,
};

impl Lowering<'_> {
    /// Computes a node. `None` for one that a unit has inside.
    pub(super) fn forward(
        &mut self,
        p: &mut Program,
        id: NodeId,
        values: &[Option<Value>],
        train: bool,
    ) -> Result<Option<Value>> {
        match self.roles[id] {
            Role::Inside => return Ok(None),
            Role::Ends(unit) => return Ok(Some(self.unit(p, id, unit, values, train))),
            Role::Alone => (),
        }
        let node = self.graph.nodes[id].clone();
        let (x, input) = (read(values, node.inputs[0]), self.graph.shape(node.inputs[0]));
        let out = self.activation(p, "", id);
        let (name, mut saved, mut tiles) = (node.name.as_str(), None, None);
        let len4 = node.shape.len4();
        match node.op {
            Op::Input => unreachable!("the input is node 0"),
            Op::BatchNorm { .. } => unreachable!("a batch norm is a unit"),
            Op::Conv { stride, pad, layer } => {
                let params = self.conv_params(&node, stride, pad, layer);
                let rung = self.rung(Family::Forward, id);
                let weight = self.weights(rung, layer);
                match conv::with_statistics(rung).filter(|_| train && self.feeds_norm(id)) {
                    None => p.call(conv_call(rung, params, &[x, weight, out], name)),
                    Some(fused) => {
                        let tile = ForwardStatsGemm::tile(&params);
                        let words = ForwardStatsGemm::norm(&params).partials();
                        let part = p.tensor(format!("{name} tiles"), words.into(), Elem::F32);
                        p.call(conv_call(fused, params, &[x, weight, out, part], name));
                        tiles = Some((part, tile));
                    }
                }
            }
            Op::Relu => p.call(Call::new(&Relu, &[x, out], elementwise(len4)).label(name)),
            Op::Add => {
                let args = [x, read(values, node.inputs[1]), out];
                p.call(Call::new(&Add, &args, elementwise(len4)).label(name));
            }
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
                let at = move |v: &Vars| GlobalAvgPoolParams { n: v.n, hw: input.h * input.w, c4: input.c4(), relu: 0 };
                p.call(Call::new(&GlobalAvgPool, &[x, out], at).label(name));
            }
            Op::Linear { layer } => {
                let params = Ref::Buffer(self.group(layer).params);
                p.call(Call::new(&LinearForward, &[x, params, out], self.linear_params(layer)).label(name));
            }
            Op::Logits { layer } => {
                let params = Ref::Buffer(self.group(layer).params);
                p.call(Call::new(&LogitsForward, &[x, params, out], self.logits_params(layer)).label(name));
            }
        }
        Ok(Some(Value { out, saved, tiles }))
    }

    /// A batch norm with the residual and the ReLU that it takes along.
    fn unit(&self, p: &mut Program, id: NodeId, unit: Unit, values: &[Option<Value>], train: bool) -> Value {
        let (at, layer) = self.norm_params(unit);
        let node = &self.graph.nodes[unit.norm];
        let (x, name) = (read(values, node.inputs[0]), node.name.as_str());
        let residual = unit.residual.map_or(x, |r| read(values, r));
        let (params, state) = (Ref::Buffer(self.group(layer).params), Ref::Buffer(self.state));
        let out = self.activation(p, "", id);
        if !train {
            p.call(Call::new(&BnEval, &[x, state, params, residual, out], at).label(name));
            return Value { out, saved: None, tiles: None };
        }
        let stats = p.tensor(format!("{name} statistics"), 8 * u64::from(node.shape.c4()), Elem::F32);
        match values[node.inputs[0]].and_then(|v| v.tiles) {
            // The convolution has taken them on its way out.
            Some((part, tile)) => {
                let at = move |v: &Vars| at(v).tiled(tile);
                p.call(Call::new(&BnStatsMerge, &[part, stats, state], at).label(name));
            }
            None => {
                let part = self.norm_tiles(p, name, &at);
                p.call(Call::new(&BnStats, &[x, part], at).label(name));
                p.call(Call::new(&BnStatsMerge, &[part, stats, state], at).label(name));
            }
        }
        p.call(Call::new(&BnApply, &[x, stats, params, residual, out], at).label(name));
        Value { out, saved: Some(stats), tiles: None }
    }

    /// The partial results of a batch norm's first pass.
    pub(super) fn norm_tiles(&self, p: &mut Program, name: &str, at: &impl Fn(&Vars) -> BatchNormParams) -> Ref {
        let largest = at(&Vars { n: self.o.batch, ..Vars::default() });
        p.tensor(format!("{name} tiles"), largest.partials().into(), Elem::F32)
    }

    /// Whether a batch norm reads a node's output, so that whoever computes it can take the statistics along.
    fn feeds_norm(&self, id: NodeId) -> bool {
        self.graph.nodes.iter().any(|n| n.inputs.contains(&id) && matches!(n.op, Op::BatchNorm { .. }))
    }
}

/// A node's output, which is in memory if another node reads it.
pub(super) fn read(values: &[Option<Value>], id: NodeId) -> Ref {
    values[id].expect("a node inside a unit has no other reader").out
}
