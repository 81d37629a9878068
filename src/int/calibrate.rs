//! Exponents of activations: for each, the one that loses least on real images.

use rayon::prelude::*;

use super::float::{FloatNet, FloatOp};
use super::model::Kind;
use crate::data::Records;
use crate::error::{Error, Result};

/// Training images that exponents are chosen on, where nothing else is asked for.
pub const IMAGES: u64 = 1024;

/// Exponents tried: the smallest at which nothing is clipped, and those below it.
const TRIED: usize = 10;

/// What is kept of each node's output: its integers and their exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// int8, or uint8 after a ReLU.
    pub kind: Kind,
    /// The integers stand for themselves times 2^exponent.
    pub exponent: i32,
}

/// The smallest exponent at which `largest` is not clipped.
fn unclipped(largest: f32, kind: Kind) -> i32 {
    let ratio = f64::from(largest) / f64::from(kind.range()[1]);
    if ratio > 0.0 { ratio.log2().ceil() as i32 } else { 0 }
}

/// Σ (x − q(x))² with q the nearest of the integers of `kind` times 2^exponent.
fn squared_error(x: &[f32], kind: Kind, exponent: i32) -> f64 {
    // Added and subtracted again, it leaves an integer; a tie's side does not change the error.
    const ROUND: f32 = 12_582_912.0;
    let (unit, [low, high]) = ((exponent as f32).exp2(), kind.range().map(|v| v as f32));
    let inverse = 1.0 / unit;
    let error = |x: &f32| {
        let q = ((x * inverse).max(low).min(high) + ROUND) - ROUND;
        let d = x - q * unit;
        d * d
    };
    x.chunks(256).map(|chunk| f64::from(chunk.iter().map(error).sum::<f32>())).sum()
}

/// Kind and exponent of every node's output, on the first `count` images. Nodes that only pass values on take their input's.
///
/// # Errors
/// [`Error::Shape`] naming a layer whose output is not finite.
pub fn calibrate(net: &FloatNet, images: &Records, count: usize) -> Result<Vec<Scale>> {
    let count = count.min(images.len());
    let kind = |i: usize| if net.nodes[i].relu { Kind::U8 } else { Kind::I8 };
    let own = |op: &FloatOp| matches!(op, FloatOp::Input | FloatOp::Conv { .. } | FloatOp::Add);
    let largest = |outputs: Vec<Vec<f32>>| -> Vec<f32> {
        // NaN would be lost in a maximum, so it counts as infinite.
        let abs = |v: &f32| if v.is_nan() { f32::INFINITY } else { v.abs() };
        outputs.iter().map(|out| out.iter().map(abs).fold(0.0, f32::max)).collect()
    };
    let all: Vec<_> = (0..count).into_par_iter().map(|i| largest(net.forward(images.image(i)))).collect();
    let largest: Vec<f32> =
        (0..net.nodes.len()).map(|n| all.iter().map(|image| image[n]).fold(0.0, f32::max)).collect();
    if let Some(n) = largest.iter().position(|v| !v.is_finite()) {
        return Err(Error::shape(&net.nodes[n].name, "its output is not finite: choose an earlier checkpoint"));
    }

    let tried = |n: usize| {
        let top = unclipped(largest[n], kind(n));
        (0..TRIED).map(move |i| top - i as i32)
    };
    let errors = |i: usize| -> Vec<Vec<f64>> {
        let outputs = net.forward(images.image(i));
        let each = |(n, out): (usize, &Vec<f32>)| match own(&net.nodes[n].op) {
            true => tried(n).map(|e| squared_error(out, kind(n), e)).collect(),
            false => Vec::new(),
        };
        outputs.iter().enumerate().map(each).collect()
    };
    // Images in order, so that the sums do not depend on the threads.
    let all: Vec<_> = (0..count).into_par_iter().map(errors).collect();
    let mut scales: Vec<Scale> = Vec::new();
    for (n, node) in net.nodes.iter().enumerate() {
        scales.push(match node.inputs.first() {
            Some(input) if !own(&node.op) => scales[*input],
            _ => {
                let total = |i: usize| all.iter().map(|image| image[n][i]).sum::<f64>();
                let best = (0..TRIED).min_by(|a, b| total(*a).total_cmp(&total(*b))).unwrap_or(0);
                Scale { kind: kind(n), exponent: unclipped(largest[n], kind(n)) - best as i32 }
            }
        });
    }
    Ok(scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_a_little_for_finer_steps_is_worth_it() {
        use crate::graph::Shape;
        use crate::int::float::FloatNode;
        let shape = Shape { h: 16, w: 16, c: 1 };
        let node = FloatNode { name: "input".into(), op: FloatOp::Input, inputs: Vec::new(), shape, relu: false };
        let net = FloatNet { nodes: vec![node], mean: vec![0.5], std: vec![0.25] };
        let images = Records { pixels: (0..=255).collect(), labels: vec![0], image_len: 256 };
        // Pixels are −2 … 2. Steps of 2^−5 clip nothing; of 2^−6 they end at 127/64, 0.016 short, and are half as coarse.
        assert_eq!(unclipped(2.0, Kind::I8), -5);
        assert_eq!(calibrate(&net, &images, 1).unwrap(), [Scale { kind: Kind::I8, exponent: -6 }]);
    }

    #[test]
    fn errors_are_those_of_the_nearest_integers() {
        let e = squared_error(&[0.3, 127.4, -200.0, 1.75], Kind::I8, 0);
        assert!((e - (0.09 + 0.16 + 72.0 * 72.0 + 0.0625)).abs() < 1e-2, "{e}");
        let e = squared_error(&[0.3, -1.0, 300.0], Kind::U8, 0);
        assert!((e - (0.09 + 1.0 + 45.0 * 45.0)).abs() < 1e-2, "{e}");
        assert_eq!((unclipped(127.0, Kind::I8), unclipped(127.1, Kind::I8), unclipped(255.0, Kind::U8)), (0, 1, 0));
        assert_eq!((unclipped(0.0, Kind::I8), unclipped(63.5, Kind::I8)), (0, -1));
    }
}
