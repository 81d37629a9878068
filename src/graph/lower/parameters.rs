//! Parameters: their buffers, the dispatches that compose weights from latents, and the optimizer's.

use super::super::builder::{Layer, LayerId, LayerKind, Op};
use super::super::layout::Place;
use super::super::plan::BufferSpec;
use super::super::program::{Call, Program, Ref, Vars};
use super::{GroupBuffers, Lowering, RING_SLOTS, TableLayer};
use crate::kernels::Elem;
use crate::kernels::augment::AugmentParams;
use crate::kernels::compose::{PackWeights, PackWeightsParams, Segment, parts, table};
use crate::kernels::loss::{Metrics, MetricsParams, RING_WORDS};
use crate::kernels::optim::{Accumulate, AccumulateParams, Adam, AdamParams, Optimizer, Sgd, SgdParams};
use crate::methods::{Bound, MethodSpec};

impl Lowering<'_> {
    pub(super) fn buffer(&mut self, name: impl Into<String>, words: u64, elem: Elem) -> usize {
        self.buffers.push(BufferSpec { name: name.into(), words, elem, contents: None });
        self.buffers.len() - 1
    }

    /// The persistent buffers: slabs, state, batch, ring, and a segment table for each method and group.
    pub(super) fn allocate(&mut self) {
        for (i, g) in self.layout.groups.clone().into_iter().enumerate() {
            let places = self.graph.layers.iter().zip(&self.layout.places);
            let first = places.into_iter().find(|(_, p)| p.group == i).map_or(String::new(), |(l, _)| l.name.clone());
            let has_second = self.o.optimizer.has_second();
            let mut f32_buffer =
                |name: &str, words: u32| self.buffer(format!("{name} from {first} on"), words.into(), Elem::F32);
            let group = GroupBuffers {
                params: f32_buffer("parameters", g.params),
                grads: f32_buffer("gradients", g.params),
                momenta: f32_buffer("momenta", g.params),
                weight: f32_buffer("weights", g.weights),
                weight_t: f32_buffer("weights transposed", g.weights),
                dweight: f32_buffer("weight gradients", g.weights),
                second: has_second.then(|| f32_buffer("second moments", g.params)),
                packed: None,
            };
            let packs = self.picked.iter().any(|((_, id), rung)| {
                let Op::Conv { layer, .. } = self.graph.nodes[*id].op else { return false };
                rung.packed && self.layout.places[layer].group == i
            });
            let packed = packs.then(|| {
                ["packed weights", "packed weights transposed"]
                    .map(|name| self.buffer(format!("{name} from {first} on"), (g.weights / 4).into(), Elem::U32))
            });
            let group = GroupBuffers { packed, ..group };
            if self.o.accumulates() {
                let mut f32_buffer =
                    |name: &str, words: u32| self.buffer(format!("{name} from {first} on"), words.into(), Elem::F32);
                let part =
                    [f32_buffer("a part's gradients", g.composed), f32_buffer("a part's weight gradients", g.weights)];
                self.part_grads.push(part);
            }
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
        let mut scales = 0;
        let mut conv = |(id, (layer, place)): (LayerId, (&Layer, &Place))| {
            let LayerKind::Conv { shape, method } = layer.kind else { return None };
            // A method keeps flags or scales, or neither.
            let aux = if method.method.flags().is_empty() { scales } else { place.state };
            scales += method.method.scales(shape);
            let segment = Segment {
                base: place.params,
                stride: place.stride,
                cin: shape.cin,
                cout: shape.cout,
                taps: shape.k * shape.k,
                w: place.weight,
                plain: method == MethodSpec::FP32,
                aux,
            };
            Some((method, place.group, (id, segment)))
        };
        let layers = self.graph.layers.iter().zip(&self.layout.places).enumerate();
        let convs: Vec<_> = layers.filter_map(&mut conv).collect();
        let scales = self.buffer("scales", scales.into(), Elem::F32);
        let mut tables: Vec<(MethodSpec, usize, Vec<TableLayer>)> = Vec::new();
        for (method, group, layer) in &convs {
            // A plain layer goes along with the first method of its group that does more than copy.
            let host =
                convs.iter().find(|(_, g, s)| layer.1.plain && g == group && !s.1.plain).map_or(*method, |c| c.0);
            match tables.iter_mut().find(|(m, g, _)| *m == host && g == group) {
                Some((_, _, layers)) => layers.push(*layer),
                None => tables.push((host, *group, vec![*layer])),
            }
        }
        for (method, group, layers) in tables {
            let segments: Vec<_> = layers.iter().map(|(_, segment)| *segment).collect();
            let ((words, groups), parts) = (table(&segments), parts(&segments));
            let at = self.buffer(format!("{} segments {group}", method.title()), words.len() as u64, Elem::U32);
            self.buffers[at].contents = Some(words);
            let b = self.groups[group];
            let bound = Bound {
                group,
                groups,
                segments: layers.len() as u32,
                parts,
                table: Ref::Buffer(at),
                params: Ref::Buffer(b.params),
                weight: Ref::Buffer(b.weight),
                weight_t: Ref::Buffer(b.weight_t),
                dweight: Ref::Buffer(b.dweight),
                grads: Ref::Buffer(b.grads),
                momenta: Ref::Buffer(b.momenta),
                scales: Ref::Buffer(scales),
                state: Ref::Buffer(self.state),
                // Any buffer serves to ask whether there is a regularizer; its own is as long as the answers say.
                regularizer: Ref::Buffer(b.params),
                regularizer_at: self.regularizer_parts,
            };
            if method.method.regularizer(&bound).is_some() {
                self.regularizer_parts += groups;
            }
            self.bound.push((method, bound));
            self.bound_layers.push(layers);
        }
    }

    /// All layers' weights from their latents, one dispatch a method and group.
    pub(super) fn compose(&self, p: &mut Program) {
        for (m, b) in &self.bound {
            m.method.compose(m.bits, b).into_iter().for_each(|call| p.call(call.label("compose")));
        }
        for (size, b) in self.layout.groups.iter().zip(&self.groups) {
            let Some(packed) = b.packed else { continue };
            let args = [b.weight, b.weight_t, packed[0], packed[1]].map(Ref::Buffer);
            p.call(Call::fixed(&PackWeights, &args, PackWeightsParams { len4: size.weights / 4 }).label("compose"));
        }
    }

    /// Adds the gradients of a step's part to those of the parts before it.
    pub(super) fn accumulate(&self, p: &mut Program) {
        for ((size, b), [grads, dweight]) in self.layout.groups.iter().zip(&self.groups).zip(&self.part_grads) {
            // What weights are composed from has no gradients yet: they come from the sum of dL/dW.
            for (from, to, words) in [(grads, b.grads, size.composed), (dweight, b.dweight, size.weights)] {
                let at = move |v: &Vars| AccumulateParams { len4: words / 4, keep: (v.part > 0).into() };
                let args = [Ref::Buffer(*from), Ref::Buffer(to)];
                p.call(Call::new(&Accumulate, &args, at).label("accumulate"));
            }
        }
    }

    /// The regularizer alone as figures, for a step whose parts have brought theirs.
    pub(super) fn regularizer_figure(&self, p: &mut Program) {
        let parts = self.regularizer_parts;
        let at = move |v: &Vars| MetricsParams { n: 0, parts, slot: v.slot };
        // Of no image: losses and ranks are not read.
        let args = [self.regularizer, self.batch, self.regularizer, self.ring].map(Ref::Buffer);
        p.call(Call::new(&Metrics, &args, at).label("regularizer"));
    }

    /// From dL/dW and the gradients of the plain parameters to the next step's parameters. A method's fused update leaves no latent
    /// gradients in memory; `keep_gradients` takes the separate kernels, which do.
    pub(super) fn update(&self, p: &mut Program) {
        for (i, (size, b)) in self.layout.groups.iter().zip(&self.groups).enumerate() {
            let base = SgdParams {
                len4: size.params / 4,
                latents: size.latents / 4,
                nesterov: self.o.nesterov.into(),
                rate: 0.0,
                latent_rate: self.o.latent_rate,
                momentum: self.o.momentum,
                decay: self.o.decay,
            };
            let methods = || self.bound.iter().filter(|(_, b)| b.group == i);
            let update = |m: &MethodSpec, b: &Bound| m.method.update(m.bits, b, self.o.alpha, base);
            // What weights are composed from is the slab's end: the optimizer's own pass stops before it only if all of it is taken care of.
            let sgd = self.o.optimizer == Optimizer::Sgd;
            let fused = sgd && !self.o.keep_gradients && methods().all(|(m, b)| update(m, b).is_some());
            for (m, b) in methods() {
                match update(m, b).filter(|_| fused) {
                    Some(call) => p.call(call.label("latents")),
                    None => {
                        m.method.regularizer(b).into_iter().for_each(|c| p.call(c.label("regularizer")));
                        p.call(m.method.backward(m.bits, b, self.o.alpha).label("latents"));
                    }
                }
            }
            let base = SgdParams { len4: if fused { size.composed / 4 } else { base.len4 }, ..base };
            p.call(self.optimizer(b, base).label("update"));
            methods().filter_map(|(m, b)| m.method.hold(b)).for_each(|call| p.call(call.label("latents")));
        }
    }

    /// The optimizer's pass over a group's slab; `sgd` holds the settings.
    fn optimizer(&self, b: &GroupBuffers, sgd: SgdParams) -> Call {
        let args = [b.grads, b.params, b.momenta].map(Ref::Buffer);
        let Some(second) = b.second else {
            return Call::new(&Sgd, &args, move |v: &Vars| SgdParams { rate: v.rate, ..sgd });
        };
        let SgdParams { len4, latents, latent_rate, decay, .. } = sgd;
        let base = AdamParams { len4, latents, latent_rate, decay, ..Default::default() };
        let radam = self.o.optimizer == Optimizer::RAdam;
        Call::new(&Adam, &[&args[..], &[Ref::Buffer(second)]].concat(), move |v: &Vars| {
            let t = u64::from(v.step) + 1;
            if radam { base.radam(v.rate, t) } else { base.adam(v.rate, t) }
        })
    }
}
