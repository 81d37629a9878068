//! Where parameters lie: slabs of f32, each tensor starting at a multiple of four words.
//!
//! Layers are dealt into groups such that a group's parameter slab fits the adapter's largest binding. A group owns six buffers:
//! parameters, their gradients, their momenta (the same offsets in all three), and W, W transposed and dL/dW (padded channels, the
//! same offsets in all three). Running batch-norm values and methods'
//! flags lie in one state buffer.

use super::builder::{Graph, LayerId, LayerKind};
use crate::methods::MethodSpec;

/// What a tensor in a slab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trained: a weight, a latent, a bias.
    Param,
    /// Running mean or variance, or a method's flag: no optimizer touches it.
    State,
}

/// A tensor as files name it, and where it lies.
#[derive(Clone, Debug)]
pub struct NamedTensor {
    /// PyTorch's name, as `layer1.0.conv1.sign`.
    pub name: String,
    /// The layer and which of its tensors.
    pub layer: LayerId,
    /// Position among the layer's tensors.
    pub index: usize,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Trained or running.
    pub role: Role,
    /// Parameter group.
    pub group: usize,
    /// First word.
    pub offset: usize,
}

impl NamedTensor {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// For each element in PyTorch's order, its word in the slab: convolutions are kept [kh, kw, Cin, Cout].
    pub fn words(&self) -> impl Iterator<Item = usize> + '_ {
        let permuted = |i: usize| match self.shape[..] {
            [cout, cin, kh, kw] => {
                let (co, ci, tap) = (i / (cin * kh * kw), i / (kh * kw) % cin, i % (kh * kw));
                (tap * cin + ci) * cout + co
            }
            _ => i,
        };
        (0..self.len()).map(move |i| self.offset + permuted(i))
    }
}

/// One layer's place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Parameter group.
    pub group: usize,
    /// First word of its first parameter.
    pub params: u32,
    /// Words from one of its tensors to the next.
    pub stride: u32,
    /// First word in the weight slabs.
    pub weight: u32,
    /// First word in the state slab.
    pub state: u32,
}

/// Sizes of one group's buffers in words.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupSize {
    /// Parameters (gradients, momenta).
    pub params: u32,
    /// First word of what weights are composed from; batch norms and classifiers come before.
    pub composed: u32,
    /// First word of the latents that `--latent-lr` speeds up; they are the slab's last.
    pub latents: u32,
    /// W (W transposed, dL/dW).
    pub weights: u32,
}

/// All parameters' places.
#[derive(Clone, Debug)]
pub struct Layout {
    /// One a layer of the graph.
    pub places: Vec<Place>,
    /// One a group.
    pub groups: Vec<GroupSize>,
    /// Words of the state slab.
    pub state: u32,
    /// Every tensor that a file may hold, in the graph's order.
    pub tensors: Vec<NamedTensor>,
}

/// Words of one of the layer's parameter tensors, rounded up to a multiple of four.
fn stride(kind: &LayerKind) -> u32 {
    let words = match kind {
        LayerKind::Conv { shape, .. } => shape.count() as u32,
        LayerKind::BatchNorm { channels } => *channels,
        LayerKind::Linear { features, classes } => features * classes,
        LayerKind::Bias { classes, .. } => *classes,
    };
    words.next_multiple_of(4)
}

/// The layer's parameter tensors: name suffix and PyTorch shape.
fn parameters(kind: &LayerKind) -> Vec<(String, Vec<usize>)> {
    match kind {
        LayerKind::Conv { shape, method } => {
            let dims = vec![shape.cout as usize, shape.cin as usize, shape.k as usize, shape.k as usize];
            method.method.latents(method.bits).into_iter().map(|l| (l, dims.clone())).collect()
        }
        LayerKind::BatchNorm { channels } => {
            ["weight", "bias"].map(|s| (s.to_string(), vec![*channels as usize])).to_vec()
        }
        LayerKind::Linear { features, classes } => {
            let (features, classes) = (*features as usize, *classes as usize);
            vec![("weight".into(), vec![classes, features]), ("bias".into(), vec![classes])]
        }
        LayerKind::Bias { classes, .. } => vec![("bias".into(), vec![*classes as usize])],
    }
}

/// The tensors of a layer that no optimizer touches: name suffix and PyTorch shape.
fn states(kind: &LayerKind) -> Vec<(String, Vec<usize>)> {
    let all = |names: &[&str], shape: &[usize]| names.iter().map(|n| (n.to_string(), shape.to_vec())).collect();
    match kind {
        LayerKind::Conv { shape, method } => {
            let [cout, cin, k] = [shape.cout, shape.cin, shape.k].map(|d| d as usize);
            all(method.method.flags(), &[cout, cin, k, k])
        }
        LayerKind::BatchNorm { channels } => all(&["running_mean", "running_var"], &[*channels as usize]),
        LayerKind::Linear { .. } | LayerKind::Bias { .. } => Vec::new(),
    }
}

/// Words of the padded W.
fn padded(kind: &LayerKind) -> u32 {
    match kind {
        LayerKind::Conv { shape: s, .. } => s.k * s.k * s.cin.next_multiple_of(4) * s.cout.next_multiple_of(4),
        _ => 0,
    }
}

/// The method of a convolution's layer.
pub fn method_of(kind: &LayerKind) -> Option<MethodSpec> {
    match kind {
        LayerKind::Conv { method, .. } => Some(*method),
        _ => None,
    }
}

/// Where in a slab a layer's parameters lie: plain ones, weights that composition only copies, latents.
fn section(kind: &LayerKind) -> u32 {
    method_of(kind).map_or(0, |m| 1 + u32::from(m.method.scales_latent_rate()))
}

impl Layout {
    /// Deals the graph's layers into slabs of at most `max_words`.
    pub fn new(graph: &Graph, max_words: u64) -> Self {
        let mut layout = Self { places: Vec::new(), groups: vec![GroupSize::default()], state: 0, tensors: Vec::new() };
        // First the groups, by size; then within each group section by section.
        let mut used = [0u64; 2];
        for layer in &graph.layers {
            let tensors = parameters(&layer.kind).len() as u64;
            let need = [u64::from(stride(&layer.kind)) * tensors, u64::from(padded(&layer.kind))];
            if used.iter().zip(need).any(|(u, n)| u + n > max_words) && used != [0, 0] {
                layout.groups.push(GroupSize::default());
                used = [0, 0];
            }
            used = [used[0] + need[0], used[1] + need[1]];
            let group = layout.groups.len() - 1;
            layout.places.push(Place { group, stride: stride(&layer.kind), ..Default::default() });
        }
        for at in 0..=2 {
            for (layer, place) in graph.layers.iter().zip(&mut layout.places).filter(|(l, _)| section(&l.kind) == at) {
                let group = &mut layout.groups[place.group];
                place.params = group.params;
                place.weight = group.weights;
                group.params += place.stride * parameters(&layer.kind).len() as u32;
                group.weights += padded(&layer.kind);
                if at == 0 {
                    group.composed = group.params;
                }
                if at <= 1 {
                    group.latents = group.params;
                }
                place.state = layout.state;
                layout.state += place.stride * states(&layer.kind).len() as u32;
            }
        }
        layout.name_tensors(graph);
        layout
    }

    fn name_tensors(&mut self, graph: &Graph) {
        for (id, (layer, place)) in graph.layers.iter().zip(&self.places).enumerate() {
            let mut add = |suffix: &str, shape: Vec<usize>, role: Role, index: usize, base: u32| {
                let offset = (base + index as u32 * place.stride) as usize;
                let name = format!("{}.{suffix}", layer.name);
                self.tensors.push(NamedTensor { name, layer: id, index, shape, role, group: place.group, offset });
            };
            for (i, (suffix, shape)) in parameters(&layer.kind).into_iter().enumerate() {
                add(&suffix, shape, Role::Param, i, place.params);
            }
            for (i, (suffix, shape)) in states(&layer.kind).into_iter().enumerate() {
                add(&suffix, shape, Role::State, i, place.state);
            }
        }
    }
}
