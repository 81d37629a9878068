//! The reference to read: every operation as its definition says, one element after another.
//!
//! Activations are [C, H, W] of i32. [`super::fast`] gives the same integers sooner.

use super::digits::{digits, times};
use super::model::{Conv, Input, Linear, Model, Node, Op, len};
use super::proof::addition;
use crate::graph::Shape;

/// (x + 2^(shift − 1)) >> shift: half up; a shift by 0 adds nothing.
pub fn round_shift(x: i32, shift: u32) -> i32 {
    if shift == 0 { x } else { x.wrapping_add(1 << (shift - 1)) >> shift }
}

/// clamp((acc · multiplier + bias + 2^(shift − 1)) >> shift).
pub fn requantize(acc: i32, multiplier: i32, bias: i32, shift: u32, [low, high]: [i32; 2]) -> i32 {
    round_shift(times(acc, &digits(multiplier)).wrapping_add(bias), shift).clamp(low, high)
}

/// clamp(((a << s_a) + (b << s_b) + half) >> s_out).
pub fn residual([a, b]: [i32; 2], [left, right, out]: [u32; 3], [low, high]: [i32; 2]) -> i32 {
    round_shift((a << left).wrapping_add(b << right), out).clamp(low, high)
}

/// Logits of one image, u8 [C, H, W]; `each(node, output)` sees every activation.
pub fn forward(model: &Model, image: &[u8], mut each: impl FnMut(usize, &[i32])) -> Vec<i32> {
    let last_uses = model.last_uses();
    let mut outputs: Vec<Vec<i32>> = Vec::new();
    for (i, node) in model.nodes.iter().enumerate() {
        let inputs: Vec<_> = node.inputs.iter().map(|n| (&model.nodes[*n], &outputs[*n][..])).collect();
        let output = run(node, &inputs, image);
        each(i, &output);
        outputs.push(output);
        for (j, last) in last_uses.iter().enumerate() {
            if *last == i && j < i {
                outputs[j] = Vec::new();
            }
        }
    }
    outputs.pop().unwrap_or_default()
}

fn run(node: &Node, inputs: &[(&Node, &[i32])], image: &[u8]) -> Vec<i32> {
    match (&node.op, inputs) {
        (Op::Input(input), _) => look_up(input, image),
        (Op::Conv(conv), [(from, x)]) => convolve(conv, node, from.shape, x),
        (Op::Add, [(a, x), (b, y)]) => {
            let shifts = addition([a.exponent, b.exponent], node.exponent);
            x.iter().zip(*y).map(|(x, y)| residual([*x, *y], shifts, node.kind.range())).collect()
        }
        (Op::PadShortcut { stride }, [(from, x)]) => pad_shortcut(*stride, node.shape, from.shape, x),
        (Op::MaxPool { kernel, stride, pad }, [(from, x)]) => {
            max_pool([*kernel, *stride, *pad], node.shape, from.shape, x)
        }
        (Op::GlobalSum { preshift }, [(from, x)]) => {
            let pixels = (from.shape.h * from.shape.w) as usize;
            let sum = |plane: &[i32]| plane.iter().fold(0i32, |sum, v| sum.wrapping_add(*v));
            x.chunks_exact(pixels).map(|plane| round_shift(sum(plane), *preshift)).collect()
        }
        (Op::Linear(linear), [(_, x)]) => classify(linear, x),
        _ => unreachable!("a checked graph"),
    }
}

/// LUT\[channel\]\[pixel\].
pub fn look_up(input: &Input, image: &[u8]) -> Vec<i32> {
    let channels = input.lut.len() / 256;
    let planes = image.chunks_exact(image.len() / channels).zip(input.lut.chunks_exact(256));
    planes.flat_map(|(plane, lut)| plane.iter().map(|p| i32::from(lut[usize::from(*p)]))).collect()
}

/// The element at (c, y, x), coordinates within the padded image; the padding is 0.
fn padded(shape: Shape, values: &[i32], c: u32, [y, x]: [u32; 2], pad: u32) -> i32 {
    match (y.checked_sub(pad), x.checked_sub(pad)) {
        (Some(y), Some(x)) if y < shape.h && x < shape.w => values[((c * shape.h + y) * shape.w + x) as usize],
        _ => 0,
    }
}

fn convolve(conv: &Conv, node: &Node, from: Shape, x: &[i32]) -> Vec<i32> {
    let (k, cin) = (conv.kernel, from.c);
    let mut out = Vec::with_capacity(len(node.shape));
    for co in 0..node.shape.c {
        for (oy, ox) in (0..node.shape.h).flat_map(|y| (0..node.shape.w).map(move |x| (y, x))) {
            let mut acc = 0i32;
            for (ky, kx) in (0..k).flat_map(|y| (0..k).map(move |x| (y, x))) {
                for ci in 0..cin {
                    let value = padded(from, x, ci, [oy * conv.stride + ky, ox * conv.stride + kx], conv.pad);
                    let weight = ((co * k + ky) * k + kx) * cin + ci;
                    acc = acc.wrapping_add(times(value, &conv.weight.digits(weight as usize)));
                }
            }
            let c = co as usize;
            let acc = round_shift(acc, conv.preshift);
            out.push(requantize(acc, conv.multiplier[c], conv.bias[c], conv.shift[c], node.kind.range()));
        }
    }
    out
}

/// y[c, i, j] = x[c − p, stride·i, stride·j], zero outside x's channels, p = (Cout − Cin)/2.
pub fn pad_shortcut(stride: u32, shape: Shape, from: Shape, x: &[i32]) -> Vec<i32> {
    let front = (shape.c - from.c) / 2;
    let mut out = Vec::with_capacity(len(shape));
    for c in 0..shape.c {
        for (i, j) in (0..shape.h).flat_map(|i| (0..shape.w).map(move |j| (i, j))) {
            let inside = c.checked_sub(front).filter(|c| *c < from.c);
            out.push(inside.map_or(0, |c| x[((c * from.h + stride * i) * from.w + stride * j) as usize]));
        }
    }
    out
}

/// The largest of each window, padding included: its zeros are what a ReLU's output has anyway.
pub fn max_pool([kernel, stride, pad]: [u32; 3], shape: Shape, from: Shape, x: &[i32]) -> Vec<i32> {
    let mut out = Vec::with_capacity(len(shape));
    for c in 0..shape.c {
        for (oy, ox) in (0..shape.h).flat_map(|y| (0..shape.w).map(move |x| (y, x))) {
            let window = (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| [oy * stride + ky, ox * stride + kx]));
            out.push(window.map(|at| padded(from, x, c, at, pad)).max().unwrap_or(0));
        }
    }
    out
}

fn classify(linear: &Linear, x: &[i32]) -> Vec<i32> {
    let logit = |(row, bias): (&[i8], &i32)| {
        row.iter().zip(x).fold(*bias, |sum, (w, x)| sum.wrapping_add(times(*x, &digits((*w).into()))))
    };
    linear.weight.chunks_exact(x.len()).zip(&linear.bias).map(logit).collect()
}
