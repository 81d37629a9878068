//! The network of a weight file on the host, and its composed weights: what its latents mean, as a plain fp32 network has them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::checkpoint::{self, Identity};
use crate::error::{Error, Result};
use crate::files::tensors::{Tensor, TensorFile};
use crate::graph::{Graph, LOGIT_SCALE, LayerKind, Layout, Shape};
use crate::methods::MethodSpec;
use crate::methods::convert::Fit;
use crate::model::resnet::ModelOptions;
use crate::model::{Arch, FirstLast, Values};

/// A network of a weight file with its values, for work on the host.
pub struct Network {
    /// What the file says about itself.
    pub identity: Identity,
    /// The network; its images' height and width are placeholders, which no weight depends on.
    pub graph: Graph,
    /// Where its tensors lie.
    layout: Layout,
    /// Latents, batch norms and classifier.
    pub values: Values,
}

impl Network {
    /// From a weight file that says which network it is.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that does not say, or whose tensors are another network's.
    pub fn read(file: &TensorFile, path: &Path) -> Result<Self> {
        let identity = Identity::read(file, path)?;
        let classes = checkpoint::classes(file, path)?;
        // Its weight may be latents of any name.
        let stem = file.tensors.iter().find(|(name, _)| name.starts_with("conv1.")).map(|(_, t)| &t.shape[..]);
        let Some([_, channels, _, _]) = stem else {
            let hint = "is it a ResNet's file?";
            return Err(Error::checkpoint(path, "it has no stem `conv1` [Cout, Cin, k, k]", hint));
        };
        let side = if Arch::find(&identity.model)?.is_imagenet() { 224 } else { 32 };
        let graph = build(&identity, Shape { h: side, w: side, c: *channels as u32 }, classes)?;
        let layout = Layout::new(&graph, 1 << 30);
        let values = Values::from_file(&graph, &layout, file, path)?;
        Ok(Self { identity, graph, layout, values })
    }

    /// A plain fp32 network's weights brought to a method's levels; `file` is what the network was read from.
    ///
    /// # Errors
    /// [`Error::Usage`] where the network is of another method already.
    pub fn convert(
        &self,
        method: MethodSpec,
        first_last: FirstLast,
        file: &TensorFile,
        path: &Path,
    ) -> Result<Converted> {
        if self.identity.method != MethodSpec::FP32 {
            let what = format!("{} is of {} already", path.display(), self.identity.method.title());
            return Err(Error::usage(what, "convert takes fp32 weights, as `s3gpu train --method fp32` makes them"));
        }
        let identity = Identity { method, first_last, ..self.identity.clone() };
        let graph = build(&identity, self.graph.nodes[0].shape, self.graph.classes())?;
        let layout = Layout::new(&graph, u64::MAX);
        let mut values = Values::start_from(&graph, &layout, file, path)?;
        values.freeze(&graph, &layout, 1.0);
        let network = Self { identity, graph, layout, values };
        let composed = network.composed();
        let compare = |name: &str| {
            let name = format!("{name}.weight");
            ConvertedLayer::new(&name, &self.values.0[&name].data, &composed[&name].data)
        };
        let layers = network.shift_layers().map(compare).collect();
        Ok(Converted { network, layers })
    }

    /// Names of the convolutions that carry the file's method, in order.
    pub fn shift_layers(&self) -> impl Iterator<Item = &str> {
        let carries = |k: &LayerKind| matches!(k, LayerKind::Conv { method, .. } if *method == self.identity.method);
        self.graph.layers.iter().filter(move |l| carries(&l.kind)).map(|l| &l.name[..])
    }

    /// As [`Network::composed`], but as a plain fp32 network has it: a classifier's weight of two dimensions, and at its logits' scale.
    pub fn plain(&self) -> BTreeMap<String, Tensor> {
        let mut plain = self.composed();
        let classifiers = self.graph.layers.iter().enumerate().filter(|(id, _)| self.graph.bias_behind(*id).is_some());
        for (_, layer) in classifiers {
            let weight = plain.get_mut(&format!("{}.weight", layer.name)).expect("a layer's weight");
            weight.shape.truncate(2);
            weight.data.iter_mut().for_each(|w| *w *= LOGIT_SCALE);
        }
        plain
    }

    /// Every value under the name that a plain fp32 network gives it: W in place of its latents, as `LAYER.weight` in PyTorch's order.
    pub fn composed(&self) -> BTreeMap<String, Tensor> {
        let mut plain = BTreeMap::new();
        for (id, layer) in self.graph.layers.iter().enumerate() {
            let own: Vec<_> = self.layout.tensors.iter().filter(|t| t.layer == id).map(|t| &t.name).collect();
            match layer.kind {
                LayerKind::Conv { method, shape } => {
                    // Flags lie behind the latents.
                    let latents = own.iter().take(method.method.latents(method.bits).len());
                    let latents: Vec<_> = latents.map(|name| &self.values.0[*name].data[..]).collect();
                    let data = method.method.weight(method.bits, shape, &latents);
                    let shape = self.values.0[own[0]].shape.clone();
                    plain.insert(format!("{}.weight", layer.name), Tensor { shape, data });
                }
                _ => plain.extend(own.into_iter().map(|name| (name.clone(), self.values.0[name].clone()))),
            }
        }
        plain
    }
}

/// The graph of an identity.
fn build(identity: &Identity, input: Shape, classes: u32) -> Result<Graph> {
    let Identity { method, first_last, shortcut, width, .. } = *identity;
    Arch::find(&identity.model)?.build(&ModelOptions { input, classes, method, first_last, shortcut, width })
}

/// An fp32 network brought to a method.
pub struct Converted {
    /// The network of the method.
    pub network: Network,
    /// What became of each layer that carries it.
    pub layers: Vec<ConvertedLayer>,
}

/// What became of a layer's weights w, now W: c and ‖w − W/c‖ / ‖w‖.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConvertedLayer {
    /// PyTorch's module name.
    pub name: String,
    /// Weights.
    pub weights: usize,
    /// c: the least squares scale from w to W.
    pub factor: f64,
    /// ‖w − W/c‖ / ‖w‖; 0 for a layer of zeros.
    pub distance: f64,
    /// Share of zeros among W.
    pub zeros: f64,
}

impl ConvertedLayer {
    fn new(name: &str, plain: &[f32], composed: &[f32]) -> Self {
        let factor = Fit::factor(plain, composed);
        let norm = plain.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
        let off =
            plain.iter().zip(composed).map(|(w, q)| (f64::from(*w) - f64::from(*q) / factor).powi(2)).sum::<f64>();
        let zeros = composed.iter().filter(|w| **w == 0.0).count() as f64 / composed.len().max(1) as f64;
        let name = name.trim_end_matches(".weight").to_string();
        let distance = if norm > 0.0 { (off / norm).sqrt() } else { 0.0 };
        Self { name, weights: plain.len(), factor, distance, zeros }
    }
}

/// How often each value occurs, from the smallest to the largest.
pub fn levels(weights: &[f32]) -> Vec<(f32, usize)> {
    let mut sorted = weights.to_vec();
    sorted.sort_by(f32::total_cmp);
    // −0 and 0 are one level.
    let runs = sorted.chunk_by(|a, b| a == b);
    runs.map(|run| (run[0] + 0.0, run.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::WeightShape;

    #[test]
    fn levels_are_counted_in_order() {
        assert_eq!(levels(&[2.0, -1.0, 0.0, -0.0, 2.0, 2.0]), [(-1.0, 1), (0.0, 2), (2.0, 3)]);
        assert_eq!(levels(&[]), []);
    }

    /// Weights of a float64 program that computes the same formulae; those with a scale are rounded once.
    #[test]
    fn weights_are_the_golden_ones() {
        let mut seen = 0;
        for entry in std::fs::read_dir("tests/fixtures/golden/compose").unwrap() {
            let path = entry.unwrap().path();
            let file = crate::files::tensors::read(&path).unwrap();
            let bits = file.meta["bits"].parse().unwrap();
            let spec = MethodSpec::find(&file.meta["method"], Some(bits)).unwrap();
            let composed = &file.tensors["composed"];
            let [cout, cin, k, _] = composed.shape[..] else { panic!("{path:?}") };
            let shape = WeightShape { cout: cout as u32, cin: cin as u32, k: k as u32 };
            let names = spec.method.latents(bits);
            let mut latents: Vec<_> = names.iter().map(|n| file.tensors[&format!("latent.{n}")].data.clone()).collect();
            if !spec.method.portions().is_empty() {
                let mut flags = vec![0.0; shape.count()];
                spec.method.freeze(bits, 1.0, &mut latents[0], &mut flags);
            }
            let latents: Vec<_> = latents.iter().map(|l| &l[..]).collect();
            let got = spec.method.weight(bits, shape, &latents);
            let exact = spec.method.levels(bits, &got).is_some_and(|l| !l.scaled);
            for (got, want) in got.iter().zip(&composed.data) {
                let most = if exact { 0.0 } else { 1e-6 * want.abs() };
                assert!((got - want).abs() <= most, "{}: {got}, not {want}", path.display());
            }
            seen += 1;
        }
        assert_eq!(seen, 9);
    }
}
