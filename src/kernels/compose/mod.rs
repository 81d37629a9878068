//! From latents to weights and back: one dispatch covers every layer, those of a method and the plain ones beside them.
//!
//! A dispatch learns from its segment table which layer each workgroup works on. Latents lie in the parameter slab, ordered
//! [kh, kw, Cin, Cout] without padding; W lies in the weight slabs with channels padded to a multiple of 4, once as
//! [kh, kw, Cin, Cout] and once transposed as [kh, kw, Cout, Cin].

pub mod bwn;
pub mod deep_shift;
pub mod dense_shift;
pub mod fp32;
pub mod inq;
mod pack;
pub mod s3;
mod shifts;
pub mod twn;

pub use pack::{PackWeights, PackWeightsParams, byte_of, value_of};

use super::{Case, Fill};

/// Weights of one layer that a workgroup works on: several an invocation, so that it looks its layer up once for all of them.
pub(super) const SHARE: u32 = 256;

/// Weights of one layer that a workgroup sums over, where a method wants sums of whole layers.
const PART: u32 = 16384;

/// Such workgroups in the largest of these layers.
pub fn parts(segments: &[Segment]) -> u32 {
    segments.iter().map(|s| s.count().div_ceil(PART)).max().unwrap_or(1)
}

/// One layer in a segment table; offsets in words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// First latent in the parameter slab.
    pub base: u32,
    /// Words from one latent tensor of the layer to the next.
    pub stride: u32,
    /// Input channels.
    pub cin: u32,
    /// Output channels.
    pub cout: u32,
    /// kh · kw.
    pub taps: u32,
    /// First word in the weight slabs.
    pub w: u32,
    /// Whether its one latent is the weight, in a dispatch of whatever method.
    pub plain: bool,
    /// First word of what else the method keeps for the layer: scales, flags.
    pub aux: u32,
}

impl Segment {
    /// Weights of the layer.
    pub fn count(&self) -> u32 {
        self.cin * self.cout * self.taps
    }
    /// Workgroups of the layer.
    pub fn groups(&self) -> u32 {
        self.count().div_ceil(SHARE)
    }
    /// Where weight `i` stands in the padded W and in the transposed one.
    pub fn indices(&self, i: u32) -> [usize; 2] {
        let (cin, cout) = (self.cin.next_multiple_of(4), self.cout.next_multiple_of(4));
        let (tap, ci, co) = (i / self.cout / self.cin, i / self.cout % self.cin, i % self.cout);
        [(tap * cin + ci) * cout + co, (tap * cout + co) * cin + ci].map(|at| (self.w + at) as usize)
    }
    /// Words of the padded W.
    pub fn padded(&self) -> u32 {
        self.cin.next_multiple_of(4) * self.cout.next_multiple_of(4) * self.taps
    }
}

/// A dispatch's segment table as the shaders read it, and its number of workgroups.
pub fn table(segments: &[Segment]) -> (Vec<u32>, u32) {
    let mut words = Vec::new();
    let mut tail = Vec::new();
    for (s, layer) in segments.iter().enumerate() {
        let first = words.len() as u32;
        words.extend(std::iter::repeat_n(s as u32, layer.groups() as usize));
        let (cin, cout) = (layer.cin.next_multiple_of(4), layer.cout.next_multiple_of(4));
        tail.extend([
            layer.base,
            layer.stride,
            layer.count(),
            layer.cin,
            layer.cout,
            cin,
            cout,
            layer.w,
            first,
            layer.taps,
            layer.plain.into(),
            layer.aux,
        ]);
    }
    let groups = words.len() as u32;
    words.extend(tail);
    (words, groups)
}

/// Reads a table back, for the twins.
pub(super) fn segments(table: &[u32], groups: u32) -> Vec<Segment> {
    let layer = |s: &[u32]| Segment {
        base: s[0],
        stride: s[1],
        cin: s[3],
        cout: s[4],
        taps: s[9],
        w: s[7],
        plain: s[10] == 1,
        aux: s[11],
    };
    table[groups as usize..].chunks_exact(12).map(layer).collect()
}

/// As [`example`] of a method with one latent, which only the second layer has without the method.
fn example_of_one() -> Vec<Segment> {
    let mut layers = example(1);
    layers.iter_mut().enumerate().for_each(|(i, s)| s.plain = i == 1);
    layers
}

/// Layers with odd channel counts, with gaps between them, for the cases: one of them plain, or all where there is one latent.
fn example(latents: u32) -> Vec<Segment> {
    let shapes = [(3, 5, 9, latents), (7, 6, 4, 1), (4, 8, 1, latents), (16, 16, 9, latents)];
    let (mut base, mut w, mut aux) = (8, 4, 12);
    let mut layers = Vec::new();
    for (cin, cout, taps, latents) in shapes {
        let mut s = Segment { base, stride: 0, cin, cout, taps, w, plain: latents == 1, aux };
        s.stride = s.count().next_multiple_of(4);
        base += latents * s.stride + 4;
        w += s.padded() + 8;
        aux += s.stride + 4;
        layers.push(s);
    }
    layers
}

/// As [`example_of_one`], the last layer so large that it has three [`parts`], the last of them small. Its latents are the last in the slab.
fn example_of_parts() -> Vec<Segment> {
    let mut layers = example_of_one();
    let last = layers.last_mut().expect("layers");
    (last.cin, last.cout) = (60, 62);
    layers
}

/// The slab of [`example_of_parts`].
fn latents_of_parts() -> Fill {
    let last = *example_of_parts().last().expect("layers");
    latents((last.base + last.count()) as usize)
}

/// Words that the slabs of [`example`] need: parameters, weights.
fn example_words(latents: u32) -> [usize; 2] {
    let last = *example(latents).last().expect("layers");
    [(last.base + latents * last.stride) as usize, (last.w + last.padded()) as usize]
}

/// Words of what a method keeps for each weight of [`example_of_one`] beside its latent.
fn example_aux() -> usize {
    let last = *example(1).last().expect("layers");
    (last.aux + last.stride) as usize
}

/// Latents that sit on every edge: zeros of both signs among normal values.
fn latents(words: usize) -> Fill {
    let mut x = 0.5f64;
    let mut next = || {
        // A logistic map is random enough to mix the gates and needs no generator.
        x = 3.99 * x * (1.0 - x);
        (x - 0.5) as f32
    };
    let edge = |i: usize, v: f32| match i % 17 {
        3 => 0.0,
        11 => -0.0,
        _ => v,
    };
    Fill::Floats((0..words).map(|i| edge(i, next())).collect())
}

fn one_case<P>(name: &str, params: P, latent_count: u32, rest: &[Fill]) -> Case<P> {
    let (words, _) = table(&example(latent_count));
    let slab = latents(example_words(latent_count)[0]);
    Case::new(name, params, [Fill::Table(words), slab].into_iter().chain(rest.iter().cloned()).collect())
}
