//! From a trained float network to integers: batch norms folded, weights packed, scales as few shifts and additions, and
//! the proof that no int32 overflows.

use super::calibrate::{Scale, calibrate};
use super::correct::correct;
use super::digits::Constants;
use super::float::{FloatNet, FloatOp, Norm};
use super::model::{Conv, Info, Input, Kind, Linear, Model, Node, Op, Weight};
use super::packing::{ShiftWeight, quantize};
use super::proof;
use crate::data::Records;
use crate::error::{Error, Result};
use crate::graph::LOGIT_SCALE;
use crate::methods::levels::Levels;

/// Multipliers of channels that matter have at least this magnitude, that is five bits and more.
const LEAST_MULTIPLIER: i32 = 32;

/// A frozen network, and what had to be given up for it.
#[derive(Debug)]
pub struct Frozen {
    /// The network.
    pub model: Model,
    /// A line for each layer that lost weights.
    pub notes: Vec<String>,
}

/// Freezes a network; exponents come from the first `info.calibration` of `images`.
///
/// # Errors
/// [`Error::Shape`] naming the layer that cannot be frozen, and why.
pub fn freeze(net: &FloatNet, images: &Records, mut info: Info) -> Result<Frozen> {
    info.calibration = info.calibration.min(images.len() as u64);
    let scales = calibrate(net, images, info.calibration as usize)?;
    let constants = Constants::new(info.terms);
    let (mut nodes, mut notes) = (Vec::<Node>::new(), Vec::new());
    for (node, scale) in net.nodes.iter().zip(&scales) {
        let refused = |what: String| {
            Error::shape(
                &node.name,
                format!("cannot be frozen: {what}\n  train it longer, or export another checkpoint"),
            )
        };
        let mut frozen = Node {
            name: node.name.clone(),
            inputs: node.inputs.clone(),
            shape: node.shape,
            kind: scale.kind,
            exponent: scale.exponent,
            op: Op::Add,
        };
        frozen.op = match &node.op {
            FloatOp::Input => Op::Input(Input { lut: look_up_table(net, scale.exponent) }),
            FloatOp::Conv { window: [kernel, stride, pad], weight, levels, norm } => {
                let input = &nodes[node.inputs[0]];
                let layer = Folding { input: (input.kind, input.exponent), out: *scale, constants: &constants };
                let (weight, solved) =
                    layer.conv(weight, levels.as_ref(), norm, &node.name, &mut notes).map_err(refused)?;
                let [kernel, stride, pad] = [*kernel, *stride, *pad];
                let Solved { preshift, multiplier, bias, shift } = solved;
                Op::Conv(Conv { kernel, stride, pad, weight, preshift, multiplier, bias, shift })
            }
            FloatOp::Add => Op::Add,
            FloatOp::PadShortcut { stride } => Op::PadShortcut { stride: *stride },
            FloatOp::MaxPool { window: [kernel, stride, pad] } => {
                Op::MaxPool { kernel: *kernel, stride: *stride, pad: *pad }
            }
            // The classifier's proof decides on the pre-shift.
            FloatOp::GlobalAvgPool => {
                frozen.kind = Kind::I32;
                Op::GlobalSum { preshift: 0 }
            }
            FloatOp::Linear { weight, levels, bias } => {
                let at = node.inputs[0];
                let pooled = nodes[nodes[at].inputs[0]].clone();
                let weight = match levels {
                    None => Ok(to_int8(weight)),
                    Some(levels) => single_digits(weight, levels, &node.name, &mut notes),
                };
                let linear = weight.and_then(|weight| classifier(weight, bias, &pooled));
                let (linear, preshift) = linear.map_err(refused)?;
                nodes[at].op = Op::GlobalSum { preshift };
                nodes[at].exponent = pooled.exponent + preshift as i32;
                (frozen.kind, frozen.exponent) = (Kind::I32, 0);
                Op::Linear(linear)
            }
        };
        nodes.push(frozen);
    }
    let mut model = Model { info, nodes };
    let hint = "\n  train it longer, or export another checkpoint";
    let refused = |what| Error::shape("network", format!("cannot be frozen: {what}{hint}"));
    model.check().map_err(refused)?;
    correct(net, &mut model, images);
    model.check().map_err(refused)?;
    Ok(Frozen { model, notes })
}

/// Half up.
fn round(x: f64) -> f64 {
    (x + 0.5).floor()
}

/// LUT\[channel\]\[pixel\] of (x/255 − mean)/std at 2^exponent.
fn look_up_table(net: &FloatNet, exponent: i32) -> Vec<i8> {
    let unit = f64::from(exponent).exp2();
    let entry = |c: usize, x: u32| {
        let normal = (f64::from(x) / 255.0 - f64::from(net.mean[c])) / f64::from(net.std[c]);
        round(normal / unit).clamp(-128.0, 127.0) as i8
    };
    (0..net.mean.len()).flat_map(|c| (0..256).map(move |x| entry(c, x))).collect()
}

/// int8 weights and what 1 stands for; a scale of 0 where all are zero.
fn to_int8(weights: &[f32]) -> (Vec<i8>, f64) {
    let scale = f64::from(weights.iter().fold(0f32, |m, w| m.max(w.abs()))) / 127.0;
    let int8 = |w: &f32| if scale > 0.0 { round(f64::from(*w) / scale) as i8 } else { 0 };
    (weights.iter().map(int8).collect(), scale)
}

/// A classifier's weights on levels as int8 of one digit each, so that a product stays one shift, and what 1 stands for. Levels further
/// below the largest than int8 reaches are zeros; where each class has a scale of its own, no such form is left.
fn single_digits(
    weight: &[f32],
    levels: &Levels,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<(Vec<i8>, f64), String> {
    const LARGEST: f64 = 64.0;
    let largest = f64::from(weight.iter().fold(0f32, |m, w| m.max(w.abs())));
    let unit = if levels.scaled { largest } else { f64::from(LOGIT_SCALE) * f64::from(levels.exponent).exp2() };
    let on_none = |w: &&f32| **w != 0.0 && levels.index(f64::from(w.abs()) / unit).is_none();
    match weight.iter().find(on_none) {
        Some(_) if levels.scaled => {
            notes.push(format!("{name}: each class has a scale of its own, so its weights are int8 of several digits"));
            return Ok(to_int8(weight));
        }
        Some(w) => return Err(format!("weight {} is on no level", w / LOGIT_SCALE)),
        None => (),
    }
    // A power of two.
    let raise = (largest / unit / LARGEST).max(1.0);
    let int8: Vec<i8> = weight.iter().map(|w| (f64::from(*w) / (unit * raise)) as i8).collect();
    let dropped = int8.iter().zip(weight).filter(|(q, w)| **q == 0 && **w != 0.0).count();
    if dropped > 0 {
        let (raise, share) = (raise.log2(), 100.0 * dropped as f64 / weight.len() as f64);
        notes.push(format!("{name}: its scale rose by 2^{raise} to fit int8; {share:.2} % of its weights became 0"));
    }
    Ok((int8, unit * raise))
}

/// The classifier at one scale, and the pre-shift of the pooled sums with which its logits are proven.
fn classifier((weight, unit): (Vec<i8>, f64), bias: &[f32], pooled: &Node) -> Result<(Linear, u32), String> {
    let unit = if unit > 0.0 { unit } else { 1.0 };
    let pixels = f64::from(pooled.shape.h) * f64::from(pooled.shape.w);
    let largest = u128::from(pooled.kind.max_abs()) * pixels as u128;
    let features = weight.len() / bias.len();
    for preshift in 0..=30 {
        let scale = unit * f64::from(pooled.exponent + preshift as i32).exp2() / pixels;
        let int: Vec<f64> = bias.iter().map(|b| round(f64::from(*b) / scale)).collect();
        let weights = Weight::Int8 { values: weight.clone() };
        let fits = int.iter().enumerate().all(|(c, b)| {
            let sum = proof::magnitude(&weights, c * features..(c + 1) * features) * proof::shifted(largest, preshift);
            b.abs() <= f64::from(i32::MAX) && sum + b.abs() as u128 <= proof::LIMIT
        });
        if fits && largest + proof::half(preshift) <= proof::LIMIT {
            let bias = int.into_iter().map(|b| b as i32).collect();
            return Ok((Linear { weight, bias, scale }, preshift));
        }
    }
    Err("its logits do not fit 32 bits".into())
}

/// A convolution between two activations.
struct Folding<'a> {
    input: (Kind, i32),
    out: Scale,
    constants: &'a Constants,
}

/// What follows a convolution's sums.
#[derive(Debug, Default, PartialEq)]
struct Solved {
    preshift: u32,
    multiplier: Vec<i32>,
    bias: Vec<i32>,
    shift: Vec<u32>,
}

/// A channel's sums: their largest magnitude, and the float y in output steps as (sum − mean) · factor + at_mean.
struct Channel {
    largest: u128,
    factor: f64,
    mean: f64,
    at_mean: f64,
}

impl Folding<'_> {
    fn conv(
        &self,
        weight: &[f32],
        levels: Option<&Levels>,
        norm: &Norm,
        name: &str,
        notes: &mut Vec<String>,
    ) -> Result<(Weight, Solved), String> {
        let rows = weight.len() / norm.gamma.len();
        let Some(levels) = levels else {
            let int8: Vec<_> = weight.chunks_exact(rows).map(to_int8).collect();
            let scales: Vec<f64> = int8.iter().map(|(_, scale)| *scale).collect();
            let weight = Weight::Int8 { values: int8.into_iter().flat_map(|(values, _)| values).collect() };
            let channels = self.channels(&weight, &scales, norm);
            return match self.solve(&channels)? {
                Some(solved) => Ok((weight, solved)),
                None => Err("its sums do not fit 32 bits".into()),
            };
        };
        let scale = |row: &[f32]| match levels.scaled {
            true => Some(f64::from(row.iter().fold(0f32, |m, w| m.max(w.abs())))).filter(|s| *s > 0.0).unwrap_or(1.0),
            false => 1.0,
        };
        let scales: Vec<f64> = weight.chunks_exact(rows).map(scale).collect();
        let coded = weight.chunks_exact(rows).zip(&scales).map(|(row, scale)| quantize(levels, *scale, row));
        let codes = coded.collect::<Result<Vec<_>, f32>>().map_err(|w| format!("weight {w} is on no level"))?.concat();
        let has_zero = levels.has_zero();
        let zeros = weight.iter().filter(|w| **w == 0.0).count();
        if zeros > 0 && !has_zero {
            notes.push(format!("{name}: {zeros} zeros became the smallest level, as its method has no zero"));
        }
        for raise in 0..=30 {
            let weight = raised(levels, &codes, raise);
            let Weight::Shift { exponent, codes: kept, table, .. } = &weight else { unreachable!("raised is shifts") };
            let units: Vec<f64> = scales.iter().map(|s| s * f64::from(*exponent).exp2()).collect();
            let channels = self.channels(&weight, &units, norm);
            if let Some(solved) = self.solve(&channels)? {
                let is_zero = |c: &&ShiftWeight, table: &[Option<u8>]| table[usize::from(c.index)].is_none();
                let before = codes.iter().filter(|c| is_zero(c, &levels.table)).count();
                let dropped = kept.iter().filter(|c| is_zero(c, table)).count() - before;
                if raise > 0 {
                    let share = 100.0 * dropped as f64 / codes.len() as f64;
                    notes.push(format!(
                        "{name}: its scale rose by 2^{raise} to fit 32 bits; {share:.2} % of its weights became 0"
                    ));
                }
                return Ok((weight, solved));
            }
        }
        Err("its sums do not fit 32 bits".into())
    }

    fn channels(&self, weight: &Weight, units: &[f64], norm: &Norm) -> Vec<Channel> {
        let rows = weight.len() / units.len();
        let (kind, exponent) = self.input;
        let step = f64::from(self.out.exponent).exp2();
        let channel = |(c, [factor, offset]): (usize, [f64; 2])| {
            let largest = proof::accumulator(proof::magnitude(weight, c * rows..(c + 1) * rows), kind);
            let unit = units[c] * f64::from(exponent).exp2();
            // Without any weight the sums are 0, whatever the running mean says.
            let mean = if largest > 0 { f64::from(norm.mean[c]) / unit } else { 0.0 };
            let factor = factor * unit / step;
            Channel { largest, factor, mean, at_mean: offset / step + mean * factor }
        };
        norm.affine().into_iter().enumerate().map(channel).collect()
    }

    /// The least pre-shift with which every channel that matters keeps its multiplier's bits; none where sums do not fit.
    ///
    /// # Errors
    /// Where they fit, but no pre-shift will do.
    fn solve(&self, channels: &[Channel]) -> Result<Option<Solved>, String> {
        for preshift in 0..=30 {
            if channels.iter().any(|c| c.largest + proof::half(preshift) > proof::LIMIT) {
                return Ok(None);
            }
            let found: Option<Vec<_>> = channels.iter().map(|c| self.channel(c, preshift)).collect();
            let Some(found) = found else { continue };
            let weak = |(c, (m, ..)): (&Channel, &(i32, i32, u32))| {
                c.largest as f64 * c.factor.abs() >= 1.0 && m.abs() < LEAST_MULTIPLIER
            };
            if channels.iter().zip(&found).any(weak) {
                continue;
            }
            let mut solved = Solved { preshift, ..Solved::default() };
            for (m, b, n) in found.into_iter().map(without_trailing_zeros) {
                solved.multiplier.push(m);
                solved.bias.push(b);
                solved.shift.push(n);
            }
            return Ok(Some(solved));
        }
        Err("no pre-shift keeps its scales within 32 bits".into())
    }

    /// M_c, B_c and the largest n_c for which the proof holds. B_c makes y exact where the sum is its mean, so that rounding M_c to few
    /// digits costs only what a sum is away from there.
    fn channel(&self, c: &Channel, preshift: u32) -> Option<(i32, i32, u32)> {
        let largest = proof::shifted(c.largest, preshift);
        (1..=31u32).rev().find_map(|n| {
            let unit = f64::from(n).exp2();
            let shifted = f64::from(preshift).exp2();
            let m = self.constants.nearest(c.factor * shifted * unit)?;
            let b = round(c.at_mean * unit - f64::from(m) * c.mean / shifted);
            let fits = b.abs() <= f64::from(i32::MAX) && proof::requantized(largest, m, b as i32, n) <= proof::LIMIT;
            fits.then_some((m, b as i32, n))
        })
    }
}

/// Exactly the same results with an odd multiplier: floor((2^t·a + c) / 2^n) = floor((a + floor(c / 2^t)) / 2^(n − t)).
fn without_trailing_zeros((m, b, n): (i32, i32, u32)) -> (i32, i32, u32) {
    let t = if m == 0 { n - 1 } else { m.trailing_zeros().min(n - 1) };
    let constant = (i64::from(b) + (1 << (n - 1))) >> t;
    (m >> t, (constant - (1 << (n - t - 1))) as i32, n - t)
}

/// The weights after their scale rose; what falls below it is a zero without sign.
fn raised(levels: &Levels, codes: &[ShiftWeight], by: u8) -> Weight {
    let Levels { bits, table, exponent, .. } = levels.raised(by);
    let code = |c: &ShiftWeight| ShiftWeight { negative: c.negative && table[usize::from(c.index)].is_some(), ..*c };
    let codes = codes.iter().map(code).collect();
    Weight::Shift { bits, table, exponent, codes }
}

#[cfg(test)]
#[path = "freeze_tests.rs"]
mod tests;
