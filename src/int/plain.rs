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
        // Weights are in the order [Cout, kh, kw, Cin].
        let taps = (0..k).flat_map(|ky| (0..k).flat_map(move |kx| (0..cin).map(move |ci| (ky, kx, ci))));
        let digits = |(i, tap)| (tap, conv.weight.digits((co * k * k * cin) as usize + i));
        let terms: Vec<_> = taps.enumerate().map(digits).filter(|(_, digits)| !digits.is_empty()).collect();
        for (oy, ox) in (0..node.shape.h).flat_map(|y| (0..node.shape.w).map(move |x| (y, x))) {
            let mut acc = 0i32;
            for ((ky, kx, ci), digits) in &terms {
                let value = padded(from, x, *ci, [oy * conv.stride + ky, ox * conv.stride + kx], conv.pad);
                acc = acc.wrapping_add(times(value, digits));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int::model::{Kind, Weight};
    use crate::int::packing::ShiftWeight;

    #[test]
    fn rounding_is_half_up_for_both_signs() {
        // 2.5, 1.5, 0.5, −0.5, −1.5, −2.5 and their neighbours.
        let shifted = [10, 6, 2, -2, -6, -10, 1, 3, -1, -3].map(|x| round_shift(x, 2));
        assert_eq!(shifted, [3, 2, 1, 0, -1, -2, 0, 1, 0, -1]);
        assert_eq!((round_shift(7, 0), round_shift(-7, 0)), (7, -7), "a shift by 0 adds nothing");
        assert_eq!((round_shift(i32::MAX - (1 << 30), 31), round_shift(i32::MIN, 31)), (0, -1));
    }

    #[test]
    fn requantizing_by_hand() {
        // (10·5 + 3 + 4) >> 3 = 57 >> 3 = 7; (−10·5 + 3 + 4) >> 3 = −43 >> 3 = −6.
        assert_eq!(requantize(10, 5, 3, 3, Kind::I8.range()), 7);
        assert_eq!(requantize(-10, 5, 3, 3, Kind::I8.range()), -6);
        // 0.5 rounds to 1 and −0.5 to 0: (1 + 0 + 1) >> 1, (−1 + 0 + 1) >> 1.
        assert_eq!([1, -1].map(|x| requantize(x, 1, 0, 1, Kind::I8.range())), [1, 0]);
        // Saturation at both ends, and a ReLU is the low end 0.
        assert_eq!([500, -500].map(|x| requantize(x, 1, 0, 1, Kind::I8.range())), [127, -128]);
        assert_eq!([600, -500].map(|x| requantize(x, 1, 0, 1, Kind::U8.range())), [255, 0]);
        // A negative multiplier; a dead channel leaves its bias.
        assert_eq!(requantize(10, -3, 0, 2, Kind::I8.range()), -7);
        assert_eq!([1 << 20, -5].map(|x| requantize(x, 0, 40, 3, Kind::U8.range())), [5, 5]);
    }

    #[test]
    fn residuals_by_hand() {
        // Exponents −3 and −1 to −2: m = −3, ((5 << 0) + (−2 << 2) + 1) >> 1 = −2 >> 1 = −1.
        let shifts = addition([-3, -1], -2);
        assert_eq!(shifts, [0, 2, 1]);
        assert_eq!(residual([5, -2], shifts, Kind::I8.range()), -1);
        assert_eq!(residual([5, -2], shifts, Kind::U8.range()), 0);
        // An output finer than both sides: m = e_out, no rounding.
        assert_eq!(addition([0, 1], -1), [1, 2, 0]);
        assert_eq!(residual([3, 100], [1, 2, 0], Kind::U8.range()), 255);
    }

    fn node(shape: Shape, kind: Kind, op: Op) -> Node {
        Node { name: "n".into(), inputs: vec![0], shape, kind, exponent: 0, op }
    }

    #[test]
    fn a_convolution_by_hand() {
        // One channel 2x2, 3x3 window, weights +4 in the middle, −1 on its right, a pre-shift by 1.
        let mut codes = vec![ShiftWeight::default(); 9];
        codes[4] = ShiftWeight { index: 3, negative: false };
        codes[5] = ShiftWeight { index: 1, negative: true };
        let table = vec![None, Some(0), Some(1), Some(2)];
        let weight = Weight::Shift { bits: 3, table, exponent: 0, codes };
        let (kernel, stride, pad, preshift) = (3, 1, 1, 1);
        let conv = Conv { kernel, stride, pad, weight, preshift, multiplier: vec![3], bias: vec![-1], shift: vec![2] };
        let shape = Shape { h: 2, w: 2, c: 1 };
        let n = node(shape, Kind::I8, Op::Add);
        // acc = 4·1 − 2, 4·2, 4·3 + 5, −4·5; halves up: 1, 4, 9 (8.5), −10; then (3·acc − 1 + 2) >> 2.
        assert_eq!(convolve(&conv, &n, shape, &[1, 2, 3, -5]), [1, 3, 7, -8]);
    }

    #[test]
    fn pools_and_shortcuts_by_hand() {
        let from = Shape { h: 3, w: 3, c: 1 };
        let x = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let to = Shape { h: 2, w: 2, c: 3 };
        assert_eq!(pad_shortcut(2, to, from, &x), [0, 0, 0, 0, 1, 3, 7, 9, 0, 0, 0, 0]);
        assert_eq!(max_pool([3, 2, 1], Shape { c: 1, ..to }, from, &x), [5, 6, 8, 9]);
        let sum = |preshift| {
            let n = node(Shape { h: 1, w: 1, c: 1 }, Kind::I32, Op::GlobalSum { preshift });
            run(&n, &[(&node(from, Kind::I8, Op::Add), &x)], &[])
        };
        assert_eq!((sum(0), sum(1), sum(3)), (vec![45], vec![23], vec![6]));
        let linear = Linear { weight: vec![3, -1, 0, 7], bias: vec![-10, 1], scale: 1.0 };
        assert_eq!(classify(&linear, &[45, 2]), [45 * 3 - 2 - 10, 15]);
        assert_eq!(look_up(&Input { lut: (0..512).map(|i| (i % 256 - 128) as i8).collect() }, &[0, 255]), [-128, 127]);
    }
}
