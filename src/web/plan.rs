//! A network's plan for WebGPU as JSON and a file of constants: the native plan, of the rungs that run in any browser.

use std::ops::Range;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gpu::{UNIFORM_STRIDE, fold, shader, uniform_size};
use crate::graph::{Plan, Shape, Vars};
use crate::int::Model;
use crate::int::gpu::{Adapter, Choice, lower, multiplies};
use crate::int::model::Kind;
use crate::kernels::int::{CONV_DIGITS, CONV_PAIRS, CONV_PAIRS_SHIFT};
use crate::kernels::{Access, AnyKernel, Const};

/// What `format` says.
const FORMAT: &str = "s3gpu-plan 1";
/// Images at a time, where memory and time allow.
const BATCH: u32 = 32;
/// Operations in one submission, as the native executor has it; browsers end work that lasts some seconds.
const MOST_OPERATIONS: f64 = 5e10;

/// The plan's two files.
pub(super) struct Files {
    pub json: Vec<u8>,
    pub constants: Vec<u8>,
}

#[derive(Serialize)]
struct Json {
    format: &'static str,
    /// Of the network that it was written for.
    crc32: String,
    /// Bytes of the constants.
    constants: usize,
    /// Images of the largest pass, bytes of an image, logits of an image.
    batch: u32,
    image: usize,
    classes: usize,
    /// Whether a shader multiplies.
    multiplies: bool,
    /// The buffers that pixels go into and logits come from.
    pixels: usize,
    logits: usize,
    /// Bytes that are read back at most.
    staging: u64,
    buffers: Vec<Buffer>,
    pipelines: Vec<Pipeline>,
    /// For one image, and for a batch.
    passes: Vec<Pass>,
    activations: Vec<Activation>,
}

#[derive(Serialize)]
struct Buffer {
    name: String,
    bytes: u64,
    /// What it holds from the start: first byte and number of bytes in the constants.
    data: Option<[usize; 2]>,
}

#[derive(Serialize, PartialEq)]
struct Pipeline {
    /// Entry point.
    name: &'static str,
    /// What the joiner has set in the code already; for people.
    constants: Vec<Const>,
    /// `read` or `write` for bindings 1 …; binding 0 is the uniform.
    bindings: Vec<&'static str>,
    code: String,
}

#[derive(Serialize)]
struct Pass {
    images: u32,
    /// First byte and number of bytes in the constants.
    uniforms: [usize; 2],
    dispatches: Vec<Dispatch>,
}

#[derive(Serialize)]
struct Dispatch {
    node: String,
    pipeline: usize,
    /// First byte and number of bytes in the pass's uniforms.
    params: [u64; 2],
    buffers: Vec<usize>,
    groups: [u32; 2],
}

/// Where a node's output of one image is, right behind a dispatch.
#[derive(Serialize)]
struct Activation {
    after: usize,
    buffer: usize,
    bytes: u64,
    kind: Kind,
    shape: Shape,
}

/// Appends to the constants and says where.
fn append(constants: &mut Vec<u8>, bytes: impl IntoIterator<Item = u8>) -> [usize; 2] {
    let first = constants.len();
    constants.extend(bytes);
    let Range { start, end } = first..constants.len();
    [start, end - start]
}

/// The native plan for a batch, and the buffers of pixels and logits.
fn native(model: &Model, batch: u32, shift_only: bool) -> Result<(Plan, [usize; 2])> {
    let rungs = [&CONV_PAIRS, &CONV_PAIRS_SHIFT, &CONV_DIGITS];
    let forced = rungs.into_iter().filter(|r| !shift_only || !r.multiplies).map(|r| AnyKernel::name(r).to_string());
    let choice = Choice { forced: forced.collect(), shift_only, ..Choice::default() };
    let lowered = lower(model, batch, &choice, Adapter { software: true, subgroup: None })?;
    let ends = [lowered.pixels, lowered.logits];
    Ok((Plan::new(lowered.buffers, vec![lowered.program]), ends))
}

/// The largest batch that fits the limits that every browser grants.
fn largest(model: &Model, shift_only: bool) -> Result<(Plan, [usize; 2], u32)> {
    let mut batch = BATCH;
    loop {
        let (plan, ends) = native(model, batch, shift_only)?;
        let quick = plan.flops(0, &Vars { n: batch, ..Vars::default() }) <= MOST_OPERATIONS;
        match plan.check(&wgpu::Limits::default(), batch) {
            Ok(()) if quick || batch == 1 => return Ok((plan, ends, batch)),
            Err(e) if batch == 1 => return Err(e),
            _ => batch /= 2,
        }
    }
}

/// A checked network's plan; `crc32` is of its file.
///
/// # Errors
/// [`Error::AdapterTooSmall`] where WebGPU's default limits hold not even one image.
pub(super) fn plan(model: &Model, crc32: &str, shift_only: bool) -> Result<Files> {
    let (native, [pixels, logits], batch) = largest(model, shift_only)?;
    let steps = native.sections.first().expect("one section");
    let mut constants = Vec::new();
    let buffers = native.buffers.iter().map(|b| Buffer {
        name: b.name.clone(),
        bytes: 4 * b.words.max(4),
        data: b.contents.as_ref().map(|words| append(&mut constants, words.iter().flat_map(|w| w.to_le_bytes()))),
    });
    let buffers = buffers.collect();
    let (mut pipelines, mut passes) = (Vec::new(), Vec::new());
    let sizes = if batch > 1 { vec![1, batch] } else { vec![1] };
    for images in sizes {
        let mut uniforms = Vec::new();
        let mut dispatches = Vec::new();
        for step in steps {
            let params = (step.params)(&Vars { n: images, ..Vars::default() });
            let at = uniforms.len() as u64;
            uniforms.extend(&params);
            uniforms.resize((at + UNIFORM_STRIDE) as usize, 0);
            let made = pipeline(step.kernel, &params);
            let pipeline = pipelines.iter().position(|p| *p == made).unwrap_or_else(|| {
                pipelines.push(made);
                pipelines.len() - 1
            });
            dispatches.push(Dispatch {
                node: step.label.clone(),
                pipeline,
                params: [at, uniform_size(step.kernel)],
                buffers: step.args.clone(),
                groups: fold(step.kernel.groups(&params)),
            });
        }
        passes.push(Pass { images, uniforms: append(&mut constants, uniforms), dispatches });
    }
    let activations = activations(model, &native)?;
    let (classes, read) = (model.classes(), activations.iter().map(|a| a.bytes).sum());
    let json = Json {
        format: FORMAT,
        crc32: crc32.into(),
        constants: constants.len(),
        batch,
        image: crate::int::model::len(model.input()),
        classes,
        multiplies: pipelines.iter().any(|p| multiplies(p.name)),
        pixels,
        logits,
        staging: (4 * u64::from(batch) * classes as u64).max(read),
        buffers,
        pipelines,
        passes,
        activations,
    };
    Ok(Files { json: serde_json::to_vec(&json).expect("names and numbers are always JSON"), constants })
}

fn pipeline(kernel: &dyn AnyKernel, params: &[u8]) -> Pipeline {
    let constants = kernel.consts(params);
    let access = |access| if access == Access::Read { "read" } else { "write" };
    Pipeline {
        name: kernel.name(),
        bindings: kernel.bindings().iter().map(|b| access(b.access)).collect(),
        code: shader::expand(&kernel.source(), &constants),
        constants,
    }
}

/// Each node's output: the last argument of its last dispatch.
fn activations(model: &Model, native: &Plan) -> Result<Vec<Activation>> {
    let steps = native.sections.first().expect("one section");
    let of = |node: &crate::int::model::Node| {
        let missing = || Error::shape(&node.name, "has no dispatch in the plan");
        let after = steps.iter().rposition(|s| s.label == node.name).ok_or_else(missing)?;
        let buffer = *steps[after].args.last().ok_or_else(missing)?;
        let Shape { h, w, c } = node.shape;
        let bytes = match node.kind {
            // The logits lie close; sums have filler behind them, which the page does not look at.
            Kind::I32 => 4 * u64::from(c),
            Kind::I8 | Kind::U8 => u64::from(h) * u64::from(w) * u64::from(c.next_multiple_of(4)),
        };
        Ok(Activation { after, buffer, bytes, kind: node.kind, shape: node.shape })
    };
    model.nodes.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let path = "tests/fixtures/int/shapes-resnet8-s3-3bit.safetensors";
        Model::read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{e}"))
    }

    fn json(shift_only: bool) -> (serde_json::Value, Vec<u8>) {
        let files = plan(&model(), "6a2d13ea", shift_only).unwrap_or_else(|e| panic!("{e}"));
        (serde_json::from_slice(&files.json).expect("JSON"), files.constants)
    }

    #[test]
    fn the_plan_is_whole() {
        let (json, constants) = json(false);
        let list = |v: &serde_json::Value| v.as_array().cloned().unwrap_or_default();
        let number = |v: &serde_json::Value| v.as_u64().expect("a number") as usize;
        assert_eq!(number(&json["constants"]), constants.len());
        assert_eq!((number(&json["passes"][0]["images"]), number(&json["passes"][1]["images"])), (1, 32));
        let (buffers, pipelines) = (list(&json["buffers"]), list(&json["pipelines"]));
        for pass in list(&json["passes"]) {
            assert_eq!(list(&pass["dispatches"]).len(), model().nodes.len());
            for d in list(&pass["dispatches"]) {
                let p = &pipelines[number(&d["pipeline"])];
                assert_eq!(list(&d["buffers"]).len(), list(&p["bindings"]).len());
                assert!(list(&d["buffers"]).iter().all(|b| number(b) < buffers.len()));
                assert!(
                    p["code"]
                        .as_str()
                        .is_some_and(|c| c.contains(&format!("fn {}(", p["name"].as_str().expect("a name"))))
                );
                // Uniforms and copies start where WebGPU wants them.
                assert!(number(&d["params"][0]) % 256 == 0 && number(&d["params"][1]) % 16 == 0);
            }
        }
        assert_eq!(list(&json["activations"]).len(), model().nodes.len());
        assert!(list(&json["activations"]).iter().all(|a| number(&a["bytes"]) % 4 == 0));
    }

    #[test]
    fn shift_only_keeps_multiplication_out() {
        for shift_only in [false, true] {
            let (json, _) = json(shift_only);
            let text = json["pipelines"].to_string();
            assert_eq!(json["multiplies"], !shift_only);
            assert_eq!(text.contains("\"int_conv_pairs\""), !shift_only);
            assert!(text.contains("\"int_conv_digits\""), "the stem");
        }
    }
}
