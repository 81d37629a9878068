//! From a checked network to calls of kernels.

use std::collections::BTreeMap;

use super::code;
use super::rungs::{Adapter, COMPILE_BUDGET, Choice, Layer, Pick};
use crate::error::{Error, Result};
use crate::graph::{BufferSpec, Call, Program, Ref, Shape};
use crate::int::model::{Conv, Kind, Linear, Model, Node, Op};
use crate::int::proof::addition;
use crate::kernels::int::IntConvParams;
use crate::kernels::int::ops::{
    ClassifierParams, GlobalSumParams, IntAdd, IntAddParams, IntClassifier, IntGlobalSum, IntLookup, IntMaxPool,
    IntMaxPoolParams, IntPadShortcut, IntPadShortcutParams, LookupParams,
};
use crate::kernels::int::pack::{bytes, channels, int8_digits};
use crate::kernels::{AnyKernel, Elem};

/// A program with the buffers that it reads and writes.
pub(crate) struct Lowered {
    pub program: Program,
    pub buffers: Vec<BufferSpec>,
    pub pixels: usize,
    pub logits: usize,
    pub rungs: BTreeMap<String, &'static str>,
    /// Seconds left to compile layers as code.
    budget: f64,
}

impl Lowered {
    fn buffer(&mut self, name: String, contents: Vec<u32>) -> Ref {
        let words = contents.len() as u64;
        self.buffers.push(BufferSpec { name, words, elem: Elem::U32, contents: Some(contents) });
        Ref::Buffer(self.buffers.len() - 1)
    }

    fn empty(&mut self, name: &str, words: u64) -> usize {
        self.buffers.push(BufferSpec { name: name.into(), words, elem: Elem::U32, contents: None });
        self.buffers.len() - 1
    }
}

fn signed(node: &Node) -> u32 {
    (node.kind == Kind::I8).into()
}

/// Words of one image of a node's output: four 8-bit numbers each, or one int32.
fn words(node: &Node) -> u64 {
    let Shape { h, w, c } = node.shape;
    let pixel = if node.kind == Kind::I32 { c.next_multiple_of(4) } else { c.div_ceil(4) };
    u64::from(h) * u64::from(w) * u64::from(pixel)
}

pub(crate) fn lower(model: &Model, batch: u32, choice: &Choice, adapter: Adapter) -> Result<Lowered> {
    choice.check()?;
    let (program, buffers, rungs) = (Program::default(), Vec::new(), BTreeMap::new());
    let budget = choice.compile_budget.unwrap_or(COMPILE_BUDGET);
    let mut to = Lowered { program, buffers, pixels: 0, logits: 0, rungs, budget };
    let image = u64::from(batch) * crate::int::model::len(model.input()) as u64;
    to.pixels = to.empty("batch", image.div_ceil(4));
    to.logits = to.empty("logits", u64::from(batch) * model.classes() as u64);
    let mut outputs: Vec<Ref> = Vec::new();
    for node in &model.nodes {
        let output = match node.op {
            Op::Linear(_) => Ref::Buffer(to.logits),
            _ => to.program.tensor(&node.name, u64::from(batch) * words(node), Elem::U32),
        };
        let inputs: Vec<_> = node.inputs.iter().map(|i| (&model.nodes[*i], outputs[*i])).collect();
        let calls = match (&node.op, &inputs[..]) {
            (Op::Conv(conv), [from]) => convolution(&mut to, conv, (node, output), *from, batch, choice, adapter)?,
            _ => vec![other(&mut to, (node, output), &inputs)?],
        };
        calls.into_iter().for_each(|call| to.program.call(call.label(&node.name)));
        outputs.push(output);
    }
    Ok(to)
}

fn convolution(
    to: &mut Lowered,
    conv: &Conv,
    (node, y): (&Node, Ref),
    (from, x): (&Node, Ref),
    batch: u32,
    choice: &Choice,
    adapter: Adapter,
) -> Result<Vec<Call>> {
    let layer = Layer::new(conv, node, from, batch, adapter);
    let fault = || Error::shape(&node.name, "no rung of the integer convolution computes it");
    match layer.pick(choice, adapter.software, to.budget).ok_or_else(fault)? {
        Pick::Code(seconds) => {
            to.budget -= seconds;
            let (kernels, start) = layer.code(&node.name);
            let after = channels(&conv.multiplier, &conv.bias, &conv.shift, &start);
            let after = to.buffer(format!("{}.channels", node.name), after);
            to.rungs.insert(node.name.clone(), code::NAME);
            let call = |kernel| Call::new(kernel, &[x, after, y], move |v| IntConvParams { n: v.n, ..layer.params });
            Ok(kernels.into_iter().map(call).collect())
        }
        Pick::Rung(rung, p, prepared) => {
            let after = channels(&conv.multiplier, &conv.bias, &conv.shift, &prepared.start);
            let weight = to.buffer(format!("{}.weight", node.name), prepared.words);
            let after = to.buffer(format!("{}.channels", node.name), after);
            to.rungs.insert(node.name.clone(), AnyKernel::name(rung));
            Ok(vec![Call::new(rung, &[x, weight, after, y], move |v| IntConvParams { n: v.n, ..p })])
        }
    }
}

fn other(to: &mut Lowered, (node, y): (&Node, Ref), inputs: &[(&Node, Ref)]) -> Result<Call> {
    let Shape { h, w, c } = node.shape;
    Ok(match (&node.op, inputs) {
        (Op::Input(input), _) => {
            let lut = to.buffer(format!("{}.lut", node.name), bytes(&input.lut));
            Call::new(&IntLookup, &[Ref::Buffer(to.pixels), lut, y], move |v| LookupParams { n: v.n, h, w, c })
        }
        (Op::Add, [(a, left), (b, right)]) => {
            let shifts = addition([a.exponent, b.exponent], node.exponent);
            let (each, signs) = (words(node) as u32, [signed(a), signed(b), signed(node)]);
            Call::new(&IntAdd, &[*left, *right, y], move |v| {
                let ([left, right, out], [signed_a, signed_b, signed_y]) = (shifts, signs);
                IntAddParams { words: v.n * each, left, right, out, signed_a, signed_b, signed_y }
            })
        }
        (Op::PadShortcut { stride }, [(from, x)]) => {
            let (from, stride) = (from.shape, *stride);
            let params = move |n| IntPadShortcutParams::new(n, [from.h, from.w, from.c], c, stride);
            Call::new(&IntPadShortcut, &[*x, y], move |v| params(v.n))
        }
        (Op::MaxPool { kernel, stride, pad }, [(from, x)]) => {
            let (from, window) = (from.shape, [*kernel, *stride, *pad]);
            let params = move |n| IntMaxPoolParams::new(n, [from.h, from.w, from.c], window);
            Call::new(&IntMaxPool, &[*x, y], move |v| params(v.n))
        }
        (Op::GlobalSum { preshift }, [(from, x)]) => {
            let (hw, c4) = (from.shape.h * from.shape.w, c.div_ceil(4));
            let (preshift, signed_x) = (*preshift, signed(from));
            Call::new(&IntGlobalSum, &[*x, y], move |v| GlobalSumParams { n: v.n, hw, c4, preshift, signed_x })
        }
        (Op::Linear(Linear { weight, bias, .. }), [(from, x)]) => {
            let digits = weight.iter().map(|w| int8_digits(*w)).collect();
            let weight = to.buffer(format!("{}.weight", node.name), digits);
            let bias = to.buffer(format!("{}.bias", node.name), bias.iter().map(|b| *b as u32).collect());
            let (features, stride) = (from.shape.c, from.shape.c.next_multiple_of(4));
            let params = move |n| ClassifierParams { n, features, stride, classes: c };
            Call::new(&IntClassifier, &[*x, weight, bias, y], move |v| params(v.n))
        }
        _ => return Err(Error::shape(&node.name, "has the wrong number of inputs")),
    })
}
