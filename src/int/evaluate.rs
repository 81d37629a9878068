//! What logits say: classes, accuracy, loss, and one number that stands for all of them.

use super::fast::{Fast, Scratch};
use super::float::FloatNet;
use super::model::Model;
use crate::data::{Records, Source};
use crate::error::Result;
use crate::train::Figures;

/// FNV-1a, 64 bits, over the logits as little-endian int32.
pub fn logits_hash(logits: &[i32]) -> u64 {
    let bytes = logits.iter().flat_map(|l| l.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The first maximum.
pub fn class<T: PartialOrd + Copy>(logits: &[T]) -> usize {
    (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

/// Images read at a time, about.
const AT_ONCE: usize = 1024;

/// The logits of all of a source's images and their labels, in its order, by the reference on the processor.
///
/// # Errors
/// As [`Source::fill`].
pub fn run(model: &Model, source: &dyn Source) -> Result<(Vec<i32>, Vec<u32>)> {
    let fast = Fast::new(model);
    run_by(source, 1, |records| Ok(fast.logits(records)))
}

/// As [`run`], by any program that takes whole batches best; only so many images are in memory at a time.
///
/// # Errors
/// As [`Source::fill`] and `forward`.
pub fn run_by(
    source: &dyn Source,
    batch: usize,
    mut forward: impl FnMut(&Records) -> Result<Vec<i32>>,
) -> Result<(Vec<i32>, Vec<u32>)> {
    let (mut logits, mut labels) = (Vec::new(), Vec::new());
    let step = batch * (AT_ONCE / batch).max(1);
    for start in (0..source.len()).step_by(step) {
        let records = Records::of(source, start..(start + step).min(source.len()))?;
        logits.extend(forward(&records)?);
        labels.extend(records.labels);
    }
    Ok((logits, labels))
}

/// Probabilities of one image's logits: a float at the end of the way, for people.
pub fn softmax(logits: &[i32], scale: f64) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().max().unwrap_or(0));
    let terms: Vec<f64> = logits.iter().map(|l| ((f64::from(*l) - largest) * scale).exp()).collect();
    let sum: f64 = terms.iter().sum();
    terms.into_iter().map(|t| t / sum).collect()
}

/// Sums over all images: the cross-entropy of the scaled logits, and how many classes came first and among the first five,
/// equal logits in the order of the classes.
pub fn figures(model: &Model, logits: &[i32], labels: &[u32]) -> Figures {
    let mut sums = Figures::default();
    for (logits, label) in logits.chunks_exact(model.classes()).zip(labels) {
        let label = *label as usize;
        let before = |(i, l): (usize, &i32)| *l > logits[label] || (*l == logits[label] && i < label);
        let rank = logits.iter().enumerate().filter(|l| before(*l)).count();
        sums.loss -= softmax(logits, model.logit_scale())[label].max(f64::MIN_POSITIVE).ln();
        sums.correct += u64::from(rank == 0);
        sums.top5 += u64::from(rank < 5);
        sums.count += 1;
    }
    sums
}

/// How far a layer's integers are from the float network's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Difference {
    /// Largest |float − integer · 2^exponent|.
    pub largest: f64,
    /// Largest |float|.
    pub range: f64,
}

/// For each node, over the first `count` images. Both networks have the same nodes.
pub fn differences(net: &FloatNet, model: &Model, images: &Records, count: usize) -> Vec<Difference> {
    let (fast, mut scratch) = (Fast::new(model), Scratch::default());
    let mut found = vec![Difference::default(); model.nodes.len()];
    for i in 0..count.min(images.len()) {
        let floats = net.forward(images.image(i));
        fast.forward(images.image(i), &mut scratch, |n, out| {
            let unit = unit(model, n);
            for (f, q) in floats[n].iter().zip(out) {
                let (f, q) = (f64::from(*f), f64::from(*q) * unit);
                found[n].largest = found[n].largest.max((f - q).abs());
                found[n].range = found[n].range.max(f.abs());
            }
        });
    }
    found
}

/// What 1 of a node's output is in the float network: a pooled sum is a mean there.
fn unit(model: &Model, n: usize) -> f64 {
    use super::model::Op;
    let node = &model.nodes[n];
    match &node.op {
        Op::Linear(linear) => linear.scale,
        Op::GlobalSum { .. } => {
            let from = model.nodes[node.inputs[0]].shape;
            f64::from(node.exponent).exp2() / f64::from(from.h * from.w)
        }
        _ => f64::from(node.exponent).exp2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // FNV-1a of nothing, and of four bytes "abcd", as published.
        assert_eq!(logits_hash(&[]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(logits_hash(&[i32::from_le_bytes(*b"abcd")]), 0xfc17_9f83_ee07_24dd);
    }

    #[test]
    fn equal_logits_rank_in_the_order_of_the_classes() {
        use crate::graph::Shape;
        use crate::int::model::{Info, Kind, Linear, Node, Op};
        let op = Op::Linear(Linear { weight: Vec::new(), bias: Vec::new(), scale: 1.0 });
        let shape = Shape { h: 1, w: 1, c: 7 };
        let node = Node { name: "fc".into(), inputs: Vec::new(), shape, kind: Kind::I32, exponent: 0, op };
        let model = Model { info: Info::default(), nodes: vec![node] };
        // The first of two maxima is right; the last of six equal ones is behind five.
        let found = |logits: [i32; 7], label| figures(&model, &logits, &[label]);
        let [first, second] = [0, 1].map(|label| found([5, 5, 1, 1, 1, 1, 1], label));
        assert_eq!((first.correct, second.correct, first.top5, second.top5), (1, 0, 1, 1));
        let [fifth, sixth] = [4, 5].map(|label| found([3, 3, 3, 3, 3, 3, 9], label));
        assert_eq!((fifth.top5, sixth.top5), (0, 0));
        assert_eq!((found([3; 7], 4).top5, found([3; 7], 5).top5), (1, 0));
        assert_eq!((first.count, first.loss.is_finite()), (1, true));
    }

    #[test]
    fn the_class_is_the_first_maximum() {
        assert_eq!(class(&[1, 3, 3, 2]), 1);
        assert_eq!(class(&[-5, -5]), 0);
        let p = softmax(&[i32::MAX, i32::MIN, i32::MAX], 1.0);
        assert_eq!(p, [0.5, 0.0, 0.5]);
    }
}
