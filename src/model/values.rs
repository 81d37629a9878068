//! A network's values on the host, by PyTorch's names and in PyTorch's order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::files::tensors::{Tensor, TensorFile};
use crate::graph::{Graph, LOGIT_SCALE, Layer, LayerKind, Layout};
use crate::methods::{Converted, LatentInit, MethodSpec};

/// Every parameter and running value of a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(pub BTreeMap<String, Tensor>);

/// Where a run keeps what its optimizer needs: names begin so, and go on with what it is and whose.
pub const OPTIMIZER_PREFIX: &str = "optimizer.";
/// Momenta, or first moments.
pub const MOMENTUM_PREFIX: &str = "optimizer.momentum.";
/// Second moments.
pub const SECOND_PREFIX: &str = "optimizer.second.";
/// Where a run keeps what it saw of each weight's sign, to compare with at the next observation.
pub const SEEN_PREFIX: &str = "dynamics.seen.";

/// Whether a tensor of this name is a run's own, and none of its network's.
pub fn is_of_run(name: &str) -> bool {
    [OPTIMIZER_PREFIX, SEEN_PREFIX].iter().any(|prefix| name.starts_with(prefix))
}

impl Values {
    /// Fresh values: convolutions and latents ~ N(0, 2/(k·k·Cout)), batch norm 1 and 0, a plain classifier and any one's bias U(±1/√fan-in).
    pub fn init(graph: &Graph, layout: &Layout, how: LatentInit, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut values = BTreeMap::new();
        for (id, layer) in graph.layers.iter().enumerate() {
            let fresh: Vec<Vec<f32>> = match layer.kind {
                LayerKind::Conv { shape, method } => {
                    let flags = method.method.flags().iter().map(|_| vec![0.0; shape.count()]);
                    method.method.init(method.bits, shape, how, &mut rng).into_iter().chain(flags).collect()
                }
                LayerKind::BatchNorm { channels } => [1.0, 0.0, 0.0, 1.0].map(|v| vec![v; channels as usize]).to_vec(),
                LayerKind::Linear { features, classes } => {
                    vec![uniform(features * classes, features, &mut rng), uniform(classes, features, &mut rng)]
                }
                LayerKind::Bias { features, classes } => vec![uniform(classes, features, &mut rng)],
            };
            for (tensor, data) in layout.tensors.iter().filter(|t| t.layer == id).zip(fresh) {
                values.insert(tensor.name.clone(), Tensor { shape: tensor.shape.clone(), data });
            }
        }
        Self(values)
    }

    /// From a file with PyTorch's names, or with those that a method's authors use.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that lists every tensor that is missing, left over or of another shape, or names one that holds
    /// a value that is not finite.
    pub fn from_file(graph: &Graph, layout: &Layout, file: &TensorFile, path: &Path) -> Result<Self> {
        let mut values = BTreeMap::new();
        let (mut wrong, mut not_finite) = (Vec::new(), Vec::new());
        let mut used = BTreeSet::new();
        for tensor in &layout.tensors {
            let foreign = foreign_name(graph, tensor.layer, tensor.index);
            // The authors' names clash with ours (`weight` is their sign latent), so a layer is read by one scheme or the other.
            let name =
                [Some(tensor.name.clone()), foreign].into_iter().flatten().find(|n| file.tensors.contains_key(n));
            let Some(name) = name else {
                wrong.push(format!("missing {}", tensor.name));
                continue;
            };
            let found = &file.tensors[&name];
            if found.data.iter().any(|v| !v.is_finite()) {
                not_finite.push(name.clone());
            }
            if found.shape == tensor.shape {
                values.insert(tensor.name.clone(), found.clone());
            } else {
                wrong.push(format!("{name} is {:?}, not {:?}", found.shape, tensor.shape));
            }
            used.insert(name);
        }
        let extra = file.tensors.keys().filter(|n| !used.contains(*n) && !is_of_run(n));
        wrong.extend(extra.map(|n| format!("unexpected {n}")));
        if let (true, Some(name)) = (wrong.is_empty(), not_finite.first()) {
            let what = format!("{} of its tensors hold values that are not finite, {name} first", not_finite.len());
            return Err(Error::checkpoint(path, what, "what wrote it had diverged: choose an earlier checkpoint"));
        }
        if wrong.is_empty() {
            return Ok(Self(values));
        }
        let shown = 12;
        let mut list = wrong.iter().take(shown).cloned().collect::<Vec<_>>().join("\n    ");
        if wrong.len() > shown {
            list += &format!("\n    … and {} more", wrong.len() - shown);
        }
        let what = format!("its tensors are not those of this model and method:\n    {list}");
        let hint = "check --model, --method, --bits, --first-last, --shortcut and --width against the file's";
        Err(Error::checkpoint(path, what, hint))
    }

    /// To start from: as [`Values::from_file`], or where the file is a plain fp32 network's and this one is not, its weights brought to the
    /// methods' levels. A file that does not say its method counts as fp32 where it has no latents of the network's methods but `weight`.
    ///
    /// # Errors
    /// As [`Values::from_file`].
    pub fn start_from(graph: &Graph, layout: &Layout, file: &TensorFile, path: &Path) -> Result<Self> {
        let is_fp32 = match file.meta.get("method") {
            Some(method) => method == MethodSpec::FP32.method.name(),
            None => !graph.layers.iter().any(|layer| has_latents(layer, file)),
        };
        let plain = graph.with_all_fp32();
        let method = |l: &Layer| if let LayerKind::Conv { method, .. } = l.kind { Some(method) } else { None };
        let own = graph.layers.iter().filter_map(method).find(|m| *m != MethodSpec::FP32).unwrap_or(MethodSpec::FP32);
        if let Some(other) = file.meta.get("method").filter(|m| !is_fp32 && *m != own.method.name()) {
            let what = format!("its weights are of the method {other}, and this network is of {}", own.title());
            return Err(Error::checkpoint(path, what, "give weights of the same --method, or plain fp32 ones"));
        }
        // Levels that are frozen, and a scale that batch norm has learned to expect, are no start for others.
        let key = if own.method.flags().is_empty() { "scale" } else { "bits" };
        let ours = if key == "bits" { Some(own.bits.to_string()) } else { own.method.scale().map(|s| s.name().into()) };
        if let (false, Some(theirs), Some(ours)) =
            (is_fp32, file.meta.get(key), ours.filter(|_| own != MethodSpec::FP32))
            && *theirs != ours
        {
            let what = format!("its weights were trained with --{key} {theirs}, and this network is of --{key} {ours}");
            return Err(Error::checkpoint(path, what, format!("give weights of the same --{key}, or plain fp32 ones")));
        }
        if !is_fp32 || plain.layers == graph.layers {
            return Self::from_file(graph, layout, file, path);
        }
        Ok(Self::from_file(&plain, &Layout::new(&plain, u64::MAX), file, path)?.converted(graph, layout))
    }

    /// The values of a plain fp32 network, brought to the levels of the methods of `graph`. What is behind a layer follows its scale: a batch
    /// norm's running values, and a classifier's bias. Then all logits are as many times larger, which changes no class. Nothing is frozen.
    fn converted(mut self, graph: &Graph, layout: &Layout) -> Self {
        for (id, layer) in graph.layers.iter().enumerate() {
            let LayerKind::Conv { shape, method } = layer.kind else { continue };
            let Some(Tensor { mut data, .. }) = self.0.remove(&format!("{}.weight", layer.name)) else { continue };
            let bias = graph.bias_behind(id);
            if bias.is_some() {
                data.iter_mut().for_each(|w| *w /= LOGIT_SCALE);
            }
            let Converted { latents, factor } = method.method.convert(method.bits, shape, &data);
            let flags = method.method.flags().iter().map(|_| vec![0.0; shape.count()]);
            let tensors = layout.tensors.iter().filter(|t| t.layer == id);
            for (t, data) in tensors.zip(latents.into_iter().chain(flags)) {
                self.0.insert(t.name.clone(), Tensor { shape: t.shape.clone(), data });
            }
            let mut behind = Vec::new();
            behind.extend(bias.map(|_| (format!("{}.bias", layer.name), factor)));
            for (value, factor) in [("running_mean", factor), ("running_var", factor * factor)] {
                behind.extend(graph.norm_behind(id).map(|norm| (format!("{norm}.{value}"), factor)));
            }
            for (name, factor) in behind {
                let tensor = self.0.get_mut(&name);
                tensor.into_iter().flat_map(|t| &mut t.data).for_each(|v| *v = (f64::from(*v) * factor) as f32);
            }
        }
        self
    }

    /// Multiplies the latents of methods whose W does not show their size.
    pub fn scale_latents(&mut self, graph: &Graph, layout: &Layout, factor: f32) {
        for t in &layout.tensors {
            if matches!(graph.layers[t.layer].kind, LayerKind::Conv { method, .. } if method.method.scales_latent_rate())
            {
                let latent = &mut self.0.get_mut(&t.name).expect("a tensor of the layout").data;
                latent.iter_mut().for_each(|v| *v *= factor);
            }
        }
    }

    /// Freezes the largest weights of each layer whose method freezes them, up to this share.
    pub fn freeze(&mut self, graph: &Graph, layout: &Layout, share: f64) {
        for (id, layer) in graph.layers.iter().enumerate() {
            let LayerKind::Conv { method, .. } = layer.kind else { continue };
            if method.method.portions().is_empty() {
                continue;
            }
            let names: Vec<_> = layout.tensors.iter().filter(|t| t.layer == id).map(|t| &t.name).collect();
            let [weight, flags] = &names[..] else { continue };
            let mut frozen = std::mem::take(&mut self.0.get_mut(*flags).expect("a tensor of the layout").data);
            let weight = &mut self.0.get_mut(*weight).expect("a tensor of the layout").data;
            method.method.freeze(method.bits, share, weight, &mut frozen);
            self.0.get_mut(*flags).expect("a tensor of the layout").data = frozen;
        }
    }

    /// The words of each buffer that the tensors of `layout` lie in, as `(is state, group) → words`.
    ///
    /// # Panics
    /// Where a tensor of the layout is missing; [`Values::from_file`] and [`Values::init`] give all.
    pub fn slab(&self, layout: &Layout, role: crate::graph::Role, group: usize, words: usize) -> Vec<u32> {
        let mut slab = vec![0u32; words];
        for t in
            layout.tensors.iter().filter(|t| t.role == role && (t.group == group || role == crate::graph::Role::State))
        {
            for (word, v) in t.words().zip(&self.0[&t.name].data) {
                slab[word] = v.to_bits();
            }
        }
        slab
    }

    /// Takes a role's tensors of a group out of a slab's words; names get `prefix`.
    pub fn take(&mut self, layout: &Layout, role: crate::graph::Role, group: usize, slab: &[u32], prefix: &str) {
        for t in
            layout.tensors.iter().filter(|t| t.role == role && (t.group == group || role == crate::graph::Role::State))
        {
            let data = t.words().map(|w| f32::from_bits(slab[w])).collect();
            self.0.insert(format!("{prefix}{}", t.name), Tensor { shape: t.shape.clone(), data });
        }
    }
}

/// `count` values ~ U(±1/√features).
fn uniform(count: u32, features: u32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let bound = 1.0 / f64::from(features).sqrt();
    (0..count).map(|_| rng.random_range(-bound..bound) as f32).collect()
}

/// Whether a file has a latent of the layer's method, other than a `weight`.
fn has_latents(layer: &Layer, file: &TensorFile) -> bool {
    let LayerKind::Conv { method, .. } = layer.kind else { return false };
    let own = method.method.latents(method.bits).into_iter().chain(method.method.foreign_names(method.bits));
    own.filter(|n| n != "weight").any(|n| file.tensors.contains_key(&format!("{}.{n}", layer.name)))
}

/// A latent's name in its method's authors' files.
fn foreign_name(graph: &Graph, layer: usize, index: usize) -> Option<String> {
    let layer = &graph.layers[layer];
    let LayerKind::Conv { method, .. } = layer.kind else { return None };
    let suffix = method.method.foreign_names(method.bits).into_iter().nth(index)?;
    Some(format!("{}.{suffix}", layer.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;
    use crate::model::resnet::ModelOptions;
    use crate::model::{Arch, FirstLast, Shortcut};

    #[test]
    fn w_does_not_show_the_latents_size() {
        let method = MethodSpec::find("s3", Some(3)).unwrap();
        let (first_last, shortcut) = (FirstLast::Fp32, Shortcut::Pad);
        let options =
            ModelOptions { input: Shape { h: 32, w: 32, c: 3 }, classes: 10, method, first_last, shortcut, width: 1 };
        let graph = Arch::find("resnet8").unwrap().build(&options).unwrap();
        let layout = Layout::new(&graph, u64::MAX);
        let plain = Values::init(&graph, &layout, LatentInit::Normal, 1);
        let mut scaled = plain.clone();
        scaled.scale_latents(&graph, &layout, 4.0);
        let layers = graph.layers.iter().enumerate();
        let mut seen = 0;
        for (id, layer) in layers {
            let of = |values: &Values| -> Vec<Vec<f32>> {
                layout.tensors.iter().filter(|t| t.layer == id).map(|t| values.0[&t.name].data.clone()).collect()
            };
            let (a, b) = (of(&plain), of(&scaled));
            let LayerKind::Conv { shape, method: own } = layer.kind else {
                assert_eq!(a, b);
                continue;
            };
            let weight = |latents: &[Vec<f32>]| {
                own.method.weight(own.bits, shape, &latents.iter().map(Vec::as_slice).collect::<Vec<_>>())
            };
            assert_eq!(weight(&a), weight(&b), "{}", layer.name);
            let factor = if own == method { 4.0 } else { 1.0 };
            seen += usize::from(own == method);
            assert!(a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| a * factor == *b), "{}", layer.name);
        }
        assert_eq!(seen, 6, "the layers of ResNet-8 that are of the method");
    }
}
