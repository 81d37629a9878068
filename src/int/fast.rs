//! The reference that runs fast: a convolution is, for every output channel, a list of offsets by shift and sign.
//!
//! acc = Σ_p ((Σ plus − Σ minus) << p), from the largest shift down, so that each shift is made once a sum and a weight
//! costs one addition. Lanes run over neighbouring positions ([`super::planes`]), which compilers turn into vectors.

use rayon::prelude::*;

use super::digits::{Digit, digits, times};
use super::model::{Conv, Linear, Model, Node, Op, len};
use super::plain::{self, look_up, max_pool, pad_shortcut, round_shift};
use super::planes::{LANES, Sliding, block};
use super::proof::addition;
use crate::data::Records;

/// Terms of one shift: ranges of offsets that are added and subtracted.
#[derive(Debug)]
struct Level {
    shift: u32,
    plus: std::ops::Range<usize>,
    minus: std::ops::Range<usize>,
}

/// A convolution's weights, sorted.
#[derive(Debug)]
struct Sorted {
    sliding: Sliding,
    offsets: Vec<u32>,
    /// For each output channel, largest shift first.
    channels: Vec<Vec<Level>>,
    /// Digits of each multiplier.
    multipliers: Vec<Vec<Digit>>,
}

impl Sorted {
    fn new(conv: &Conv, node: &Node, from: &Node) -> Self {
        let sliding = Sliding::new(from.shape, conv.kernel, conv.stride, conv.pad);
        let (k, cin) = (conv.kernel as usize, from.shape.c as usize);
        let per_channel = k * k * cin;
        let (mut offsets, mut channels) = (Vec::new(), Vec::new());
        for co in 0..node.shape.c as usize {
            let mut terms = Vec::new();
            for i in 0..per_channel {
                let (tap, ci) = (i / cin, i % cin);
                let offset = sliding.offset(ci, tap / k, tap % k) as u32;
                let digits = conv.weight.digits(co * per_channel + i);
                terms.extend(digits.into_iter().map(|d| (std::cmp::Reverse(d.shift), d.negative, offset)));
            }
            terms.sort_unstable();
            let mut levels = Vec::new();
            for level in terms.chunk_by(|a, b| a.0 == b.0) {
                let start = offsets.len();
                let middle = start + level.iter().filter(|t| !t.1).count();
                offsets.extend(level.iter().map(|t| t.2));
                levels.push(Level { shift: level[0].0.0, plus: start..middle, minus: middle..offsets.len() });
            }
            channels.push(levels);
        }
        Self { sliding, offsets, channels, multipliers: conv.multiplier.iter().map(|m| digits(*m)).collect() }
    }

    /// The accumulators of LANES positions from `at`.
    fn sum(&self, levels: &[Level], planes: &[i32], at: usize) -> [i32; LANES] {
        let mut acc = [0i32; LANES];
        for (i, level) in levels.iter().enumerate() {
            for offset in &self.offsets[level.plus.clone()] {
                let x = block(planes, at + *offset as usize);
                (0..LANES).for_each(|i| acc[i] = acc[i].wrapping_add(x[i]));
            }
            for offset in &self.offsets[level.minus.clone()] {
                let x = block(planes, at + *offset as usize);
                (0..LANES).for_each(|i| acc[i] = acc[i].wrapping_sub(x[i]));
            }
            let down = level.shift - levels.get(i + 1).map_or(0, |next| next.shift);
            acc.iter_mut().for_each(|a| *a <<= down);
        }
        acc
    }

    fn run(&self, conv: &Conv, node: &Node, x: &[i32], scratch: &mut Scratch) -> Vec<i32> {
        let Scratch { planes, positions } = scratch;
        self.sliding.fill(x, planes);
        positions.resize(self.sliding.span(), 0);
        let mut out = vec![0; len(node.shape)];
        let plane = (node.shape.h * node.shape.w) as usize;
        let [low, high] = node.kind.range();
        for (c, to) in out.chunks_exact_mut(plane).enumerate() {
            let (bias, shift) = (conv.bias[c].wrapping_add(1 << (conv.shift[c] - 1)), conv.shift[c]);
            let multiplier = &self.multipliers[c];
            for (b, q) in positions.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                let mut acc = self.sum(&self.channels[c], planes, b * LANES);
                if conv.preshift > 0 {
                    acc.iter_mut().for_each(|a| *a = round_shift(*a, conv.preshift));
                }
                let mut sum = [bias; LANES];
                for d in multiplier {
                    match d.negative {
                        false => (0..LANES).for_each(|i| sum[i] = sum[i].wrapping_add(acc[i] << d.shift)),
                        true => (0..LANES).for_each(|i| sum[i] = sum[i].wrapping_sub(acc[i] << d.shift)),
                    }
                }
                (0..LANES).for_each(|i| q[i] = (sum[i] >> shift).clamp(low, high));
            }
            self.sliding.take(positions, to);
        }
        out
    }
}

/// Memory that images use one after another.
#[derive(Debug, Default)]
pub struct Scratch {
    planes: Vec<i32>,
    positions: Vec<i32>,
}

/// A network with its weights sorted.
#[derive(Debug)]
pub struct Fast<'a> {
    model: &'a Model,
    sorted: Vec<Option<Sorted>>,
    classifier: Vec<Vec<Digit>>,
    last_uses: Vec<usize>,
}

impl<'a> Fast<'a> {
    /// Sorts the weights of a checked network.
    pub fn new(model: &'a Model) -> Self {
        let sorted = |node: &Node| match &node.op {
            Op::Conv(conv) => Some(Sorted::new(conv, node, &model.nodes[node.inputs[0]])),
            _ => None,
        };
        let classifier = match model.nodes.last().map(|n| &n.op) {
            Some(Op::Linear(Linear { weight, .. })) => weight.iter().map(|w| digits((*w).into())).collect(),
            _ => Vec::new(),
        };
        let sorted = model.nodes.iter().map(sorted).collect();
        Self { model, sorted, classifier, last_uses: model.last_uses() }
    }

    /// As [`plain::forward`].
    pub fn forward(&self, image: &[u8], scratch: &mut Scratch, mut each: impl FnMut(usize, &[i32])) -> Vec<i32> {
        let mut outputs: Vec<Vec<i32>> = Vec::new();
        for (i, node) in self.model.nodes.iter().enumerate() {
            let output = self.run(i, node, &outputs, image, scratch);
            each(i, &output);
            outputs.push(output);
            node.inputs.iter().filter(|j| self.last_uses[**j] == i).for_each(|j| outputs[*j] = Vec::new());
        }
        outputs.pop().unwrap_or_default()
    }

    /// One node: weights and shapes are those of node `i`, all else is `node`'s, which may differ.
    pub(super) fn run(
        &self,
        i: usize,
        node: &Node,
        outputs: &[Vec<i32>],
        image: &[u8],
        scratch: &mut Scratch,
    ) -> Vec<i32> {
        let input = |n: usize| (&self.model.nodes[node.inputs[n]], &outputs[node.inputs[n]][..]);
        match (&node.op, &self.sorted[i]) {
            (Op::Conv(conv), Some(sorted)) => sorted.run(conv, node, input(0).1, scratch),
            (Op::Input(input), _) => look_up(input, image),
            (Op::Add, _) => {
                let [(a, x), (b, y)] = [input(0), input(1)];
                let shifts = addition([a.exponent, b.exponent], node.exponent);
                x.iter().zip(y).map(|(x, y)| plain::residual([*x, *y], shifts, node.kind.range())).collect()
            }
            (Op::PadShortcut { stride }, _) => pad_shortcut(*stride, node.shape, input(0).0.shape, input(0).1),
            (Op::MaxPool { kernel, stride, pad }, _) => {
                max_pool([*kernel, *stride, *pad], node.shape, input(0).0.shape, input(0).1)
            }
            (Op::GlobalSum { preshift }, _) => {
                let (from, x) = input(0);
                let planes = x.chunks_exact((from.shape.h * from.shape.w) as usize);
                planes.map(|p| round_shift(p.iter().fold(0, |s: i32, v| s.wrapping_add(*v)), *preshift)).collect()
            }
            (Op::Linear(linear), _) => {
                let x = input(0).1;
                let logit = |(row, bias): (&[Vec<Digit>], &i32)| {
                    row.iter().zip(x).fold(*bias, |sum, (w, x)| sum.wrapping_add(times(*x, w)))
                };
                self.classifier.chunks_exact(x.len()).zip(&linear.bias).map(logit).collect()
            }
            (Op::Conv(_), None) => unreachable!("every convolution is sorted"),
        }
    }

    /// Logits of all images, one after another, on all cores.
    pub fn logits(&self, records: &Records) -> Vec<i32> {
        let image = |scratch: &mut Scratch, i: usize| self.forward(records.image(i), scratch, |_, _| ());
        (0..records.len()).into_par_iter().map_init(Scratch::default, image).flatten_iter().collect()
    }
}
