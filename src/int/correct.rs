//! Biases set right on real images: what rounding and clipping move on average, B_c moves back.
//!
//! A multiplier of few digits is off by up to some percent, so each channel's mean is off, always to the same side, and the layers
//! behind add that up. Layer by layer, with those before it done, B_c takes the difference between a channel's mean in the float
//! network and its mean as integers, both before ReLU and clamp. Nothing else changes: neither what is computed, nor its cost.

use rayon::prelude::*;

use super::check::classifier;
use super::fast::{Fast, Scratch};
use super::float::{FloatNet, FloatOp};
use super::model::{Kind, Model, Node, Op, len};
use super::proof;
use crate::data::Records;

/// Images at most: both means are of the same ones, so that few tell their difference.
const IMAGES: usize = 256;
/// Elements at most of one layer's activations of all images together.
const ELEMENTS: usize = 1 << 25;

/// Sets the biases of a frozen network right, as far as its proof allows.
pub(super) fn correct(net: &FloatNet, model: &mut Model, images: &Records) {
    let largest = model.nodes.iter().map(|n| len(n.shape)).max().unwrap_or(1);
    let count = images.len().min(IMAGES).min((ELEMENTS / largest).max(1));
    let wanted = float_means(net, images, count);
    // Its sorted weights stay those of the network that changes.
    let first = model.clone();
    let (fast, last_uses) = (Fast::new(&first), first.last_uses());
    let mut outputs = vec![Vec::<Vec<i32>>::new(); count];
    let run = |outputs: &[Vec<Vec<i32>>], i: usize, node: &Node| -> Vec<Vec<i32>> {
        let image = |scratch: &mut Scratch, k: usize| fast.run(i, node, &outputs[k], images.image(k), scratch);
        (0..count).into_par_iter().map_init(Scratch::default, image).collect()
    };
    for (i, wanted) in wanted.iter().enumerate() {
        // Convolutions and the classifier alone have biases.
        if !wanted.is_empty() {
            let unclamped = Node { kind: Kind::I32, ..model.nodes[i].clone() };
            let found = channel_means(&run(&outputs, i, &unclamped), wanted.len());
            shift(model, i, wanted, &found);
        }
        let done = run(&outputs, i, &model.nodes[i]);
        for (all, output) in outputs.iter_mut().zip(done) {
            all.push(output);
            model.nodes[i].inputs.iter().filter(|j| last_uses[**j] == i).for_each(|j| all[*j] = Vec::new());
        }
    }
}

/// For every convolution and the classifier, the mean of each channel before ReLU over the first images.
fn float_means(net: &FloatNet, images: &Records, count: usize) -> Vec<Vec<f64>> {
    let image = |k: usize| {
        let mut means = vec![Vec::new(); net.nodes.len()];
        net.forward_with(images.image(k), |i, out| {
            if let FloatOp::Conv { .. } | FloatOp::Linear { .. } = net.nodes[i].op {
                let pixels = out.len() / net.nodes[i].shape.c as usize;
                let mean = |plane: &[f32]| plane.iter().map(|v| f64::from(*v)).sum::<f64>() / pixels as f64;
                means[i] = out.chunks_exact(pixels).map(mean).collect();
            }
        });
        means
    };
    let all: Vec<_> = (0..count).into_par_iter().map(image).collect();
    // Images in order, so that the sums do not depend on the threads.
    let mean = |i: usize, c: usize| all.iter().map(|image| image[i][c]).sum::<f64>() / count as f64;
    (0..net.nodes.len()).map(|i| (0..all[0][i].len()).map(|c| mean(i, c)).collect()).collect()
}

/// The mean of each channel over all images.
fn channel_means(outputs: &[Vec<i32>], channels: usize) -> Vec<f64> {
    let pixels = outputs[0].len() / channels;
    let sum = |c: usize| {
        let planes = outputs.iter().map(|out| &out[c * pixels..][..pixels]);
        planes.flatten().map(|v| i64::from(*v)).sum::<i64>()
    };
    (0..channels).map(|c| sum(c) as f64 / (pixels * outputs.len()) as f64).collect()
}

/// Moves each bias of a node by what its channel's mean is off; one whose proof would break stays as it is.
fn shift(model: &mut Model, i: usize, wanted: &[f64], found: &[f64]) {
    let input = model.nodes[i].inputs[0];
    let (before, behind) = model.nodes.split_at_mut(i);
    let input = &before[input];
    let step = f64::from(behind[0].exponent).exp2();
    match &mut behind[0].op {
        Op::Conv(conv) => {
            let rows = conv.weight.len() / conv.bias.len();
            for c in 0..conv.bias.len() {
                let (m, n) = (conv.multiplier[c], conv.shift[c]);
                let moved = f64::from(conv.bias[c]) + ((wanted[c] / step - found[c]) * f64::from(n).exp2()).round();
                let magnitude = proof::magnitude(&conv.weight, c * rows..(c + 1) * rows);
                let largest = proof::shifted(proof::accumulator(magnitude, input.kind), conv.preshift);
                let fits = moved.abs() <= f64::from(i32::MAX);
                if fits && proof::requantized(largest, m, moved as i32, n) <= proof::LIMIT {
                    conv.bias[c] = moved as i32;
                }
            }
        }
        Op::Linear(linear) => {
            let first = linear.bias.clone();
            for (c, bias) in linear.bias.iter_mut().enumerate() {
                *bias = (f64::from(*bias) + (wanted[c] / linear.scale - found[c]).round()) as i32;
            }
            let Op::GlobalSum { preshift } = input.op else { unreachable!("a classifier follows a pool") };
            if classifier(linear, &before[input.inputs[0]], preshift).is_err() {
                linear.bias = first;
            }
        }
        _ => (),
    }
}
