//! An observation of the weights: the dispatches that compare them with what they were, and where it keeps what.

use super::super::builder::{LayerId, LayerKind};
use super::super::program::{Call, Program, Ref};
use super::{Lowering, TableLayer};
use crate::kernels::Elem;
use crate::kernels::compose::Segment;
use crate::kernels::dynamics::{DynamicsParams, WORDS, WeightChanges, WeightMax};
use crate::methods::{MethodSpec, WeightShape};

/// A convolution under observation.
#[derive(Clone, Debug)]
pub struct ObservedLayer {
    /// PyTorch's module name, as `layer1.0.conv1`.
    pub name: String,
    /// Its method.
    pub method: MethodSpec,
    /// Its weight's shape.
    pub shape: WeightShape,
    /// Whether it counts for the whole network: it carries the network's method, or is any but the first convolution of a plain one.
    pub counts: bool,
    /// Parameter group.
    pub group: usize,
    /// Its place in the slabs.
    pub segment: Segment,
    /// Its place among the layers' counters.
    pub slot: usize,
}

impl ObservedLayer {
    /// PyTorch's shape.
    pub fn dims(&self) -> Vec<usize> {
        let WeightShape { cout, cin, k } = self.shape;
        [cout, cin, k, k].map(|n| n as usize).to_vec()
    }

    /// For each weight in PyTorch's order, its word in the weight slab.
    pub fn words(&self) -> impl Iterator<Item = usize> + '_ {
        let Segment { cin, cout, taps, .. } = self.segment;
        let weight = move |i: u32| (i % taps * cin + i / taps % cin) * cout + i / (taps * cin);
        (0..self.segment.count()).map(move |i| self.segment.indices(weight(i))[0])
    }
}

/// Layers under observation and their buffers.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Every convolution, in the graph's order.
    pub layers: Vec<ObservedLayer>,
    /// What was seen of each weight: a buffer a parameter group, laid out as its weight slab.
    pub seen: Vec<usize>,
    /// Counters, [`WORDS`] a layer.
    pub counters: usize,
}

impl Lowering<'_> {
    /// The program of an observation, with the buffers that it needs beside the others.
    pub(super) fn dynamics(&mut self) -> (Program, Observation) {
        let sizes: Vec<u32> = self.layout.groups.iter().map(|g| g.weights).collect();
        let buffer = |(i, words): (usize, &u32)| self.buffer(format!("signs seen {i}"), (*words).into(), Elem::U32);
        let seen: Vec<usize> = sizes.iter().enumerate().map(buffer).collect();
        let count = self.bound_layers.iter().map(Vec::len).sum::<usize>();
        let counters = self.buffer("weight counters", (count * WORDS) as u64, Elem::U32);
        let mut p = Program::default();
        self.compose(&mut p);
        let mut layers = Vec::new();
        for ((method, b), bound) in self.bound.iter().zip(&self.bound_layers) {
            let latent = method.quantizes_weight().into();
            let params = DynamicsParams { groups: b.groups, first: layers.len() as u32, latent };
            let [seen, counters] = [seen[b.group], counters].map(Ref::Buffer);
            p.call(Call::fixed(&WeightMax, &[b.table, b.params, b.weight, counters], params).label("dynamics"));
            let args = [b.table, b.params, b.weight, seen, counters];
            p.call(Call::fixed(&WeightChanges, &args, params).label("dynamics"));
            for at in bound {
                layers.push(self.observed(at, b.group, layers.len()));
            }
        }
        layers.sort_by_key(|(id, _)| *id);
        // Stem and classifier are left out whatever they are of, so that methods are compared on the same layers.
        let middle = |(i, (id, _)): (usize, &(LayerId, ObservedLayer))| i > 0 && self.graph.bias_behind(*id).is_none();
        let counts: Vec<_> = layers.iter().enumerate().map(middle).collect();
        let layers =
            layers.into_iter().zip(counts).map(|((_, layer), counts)| ObservedLayer { counts, ..layer }).collect();
        (p, Observation { layers, seen, counters })
    }

    fn observed(&self, (id, segment): &TableLayer, group: usize, slot: usize) -> (LayerId, ObservedLayer) {
        let layer = &self.graph.layers[*id];
        let LayerKind::Conv { shape, method } = layer.kind else { unreachable!("a segment is a convolution's") };
        let (name, segment) = (layer.name.clone(), *segment);
        (*id, ObservedLayer { name, method, shape, counts: false, group, segment, slot })
    }
}
