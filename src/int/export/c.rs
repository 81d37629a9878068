//! The network as C99: static arrays and one function; integers only, no allocation, nothing undefined.

use std::fmt::{Display, Write};

use crate::int::model::{Conv, Kind, Model, Node, Op, Weight, len};
use crate::int::packing::pack;
use crate::int::proof::addition;

/// The fixed part, in sections by operation: only what a network uses is written, as compilers warn of the rest.
const RUNTIME: &str = include_str!("runtime.c");

/// A header and its source.
#[derive(Debug)]
pub struct CFiles {
    /// `NAME.h`.
    pub header: String,
    /// `NAME.c`, which includes it.
    pub source: String,
}

/// What a name becomes in C.
pub fn identifier(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if plain.starts_with(|c: char| c.is_ascii_alphabetic()) { plain } else { format!("net_{plain}") }
}

fn section(name: &str) -> &'static str {
    let mut parts = RUNTIME.split("//- ").filter_map(|part| part.split_once('\n'));
    parts.find(|(title, _)| *title == name).map(|(_, text)| text).expect("every operation has its section")
}

/// `static const TYPE NAME[] = { … };`, sixteen values a line.
fn array(out: &mut String, kind: &str, name: &str, values: impl IntoIterator<Item = impl Display>) {
    let values: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
    let lines: Vec<String> = values.chunks(16).map(|line| format!("    {}", line.join(", "))).collect();
    put(out, format_args!("static const {kind} {name}[{}] = {{\n{}\n}};", values.len(), lines.join(",\n")));
}

fn put(out: &mut String, line: std::fmt::Arguments) {
    writeln!(out, "{line}").expect("a string takes every line");
}

/// A string's literal, whatever it holds.
fn literal(text: &str) -> String {
    let byte = |b: u8| match b {
        b'"' | b'\\' | b'?' => format!("\\{}", b as char),
        b' '..=b'~' => (b as char).to_string(),
        _ => format!("\\{b:03o}"),
    };
    format!("\"{}\"", text.bytes().map(byte).collect::<String>())
}

fn sign(kind: Kind) -> u32 {
    if kind == Kind::I8 { 0x80 } else { 0 }
}

/// Buffers of 8-bit activations: each node's, and all sizes. A buffer is free after its node's last use.
fn buffers(model: &Model) -> (Vec<Option<usize>>, Vec<usize>) {
    let last = model.last_uses();
    let (mut of, mut sizes) = (Vec::new(), Vec::<usize>::new());
    for (i, node) in model.nodes.iter().enumerate() {
        if node.kind == Kind::I32 {
            of.push(None);
            continue;
        }
        let busy = |b: &usize| (0..i).any(|j| of[j] == Some(*b) && last[j] >= i);
        let free = (0..sizes.len()).find(|b| !busy(b)).unwrap_or(sizes.len());
        sizes.resize(sizes.len().max(free + 1), 0);
        sizes[free] = sizes[free].max(len(node.shape));
        of.push(Some(free));
    }
    (of, sizes)
}

/// The two files; `name` is their stem.
pub fn write(model: &Model, name: &str) -> CFiles {
    let prefix = identifier(name);
    CFiles { header: header(model, name, &prefix), source: source(model, name, &prefix) }
}

fn header(model: &Model, name: &str, prefix: &str) -> String {
    let (guard, input, i) = (prefix.to_ascii_uppercase(), model.input(), &model.info);
    let mut out = String::new();
    put(&mut out, format_args!("/* {name}.h: a {}-bit shift network, written by s3gpu. */", i.bits));
    put(&mut out, format_args!("#ifndef {guard}_H\n#define {guard}_H\n\n#include <stdint.h>\n"));
    let sizes = [
        ("CHANNELS", input.c),
        ("HEIGHT", input.h),
        ("WIDTH", input.w),
        ("PIXELS", input.c * input.h * input.w),
        ("CLASSES", model.classes() as u32),
    ];
    sizes.iter().for_each(|(what, size)| put(&mut out, format_args!("#define {guard}_{what} {size}")));
    put(&mut out, format_args!("\n/* In the order of the logits. */"));
    put(&mut out, format_args!("extern const char *const {prefix}_class_names[{guard}_CLASSES];\n"));
    put(
        &mut out,
        format_args!(
            "/* Logits of an image of u8 pixels [channels][height][width]; its class is the first of the largest.\n   \
             Activations lie in static memory, so one call at a time. */"
        ),
    );
    put(
        &mut out,
        format_args!("void {prefix}_infer(const uint8_t pixels[{guard}_PIXELS], int32_t logits[{guard}_CLASSES]);"),
    );
    put(&mut out, format_args!("\n#endif"));
    out
}

fn source(model: &Model, name: &str, prefix: &str) -> String {
    let uses = |pick: fn(&Op) -> bool| model.nodes.iter().any(|n| pick(&n.op));
    let int8 = |op: &Op| matches!(op, Op::Conv(Conv { weight: Weight::Int8 { .. }, .. }));
    let shifts = |op: &Op| matches!(op, Op::Conv(Conv { weight: Weight::Shift { .. }, .. }));
    let conv_plane = |n: &&Node| matches!(n.op, Op::Conv(_)).then_some((n.shape.h * n.shape.w) as usize);
    let largest_plane = model.nodes.iter().filter_map(|n| conv_plane(&n)).max();
    let (of, sizes) = buffers(model);

    let mut out = String::new();
    put(&mut out, format_args!("/* {name}.c: written by s3gpu. Shifts and additions of integers; see {name}.h. */"));
    put(&mut out, format_args!("#include \"{name}.h\"\n\n#include <string.h>\n"));
    for (i, size) in sizes.iter().enumerate() {
        put(&mut out, format_args!("static uint8_t buffer{i}[{size}];"));
    }
    if let Some(size) = largest_plane {
        put(&mut out, format_args!("static uint32_t sums[{size}];"));
    }
    let pooled = model.nodes.iter().filter(|n| matches!(n.op, Op::GlobalSum { .. })).map(|n| n.shape.c).max();
    put(&mut out, format_args!("static int32_t pooled[{}];\n", pooled.unwrap_or(1)));
    let sections = [
        ("base", true),
        ("digits", true),
        ("conv", largest_plane.is_some()),
        ("conv_int8", uses(int8)),
        ("conv_shift", uses(shifts)),
        ("input", true),
        ("add", uses(|op| matches!(op, Op::Add))),
        ("pad_shortcut", uses(|op| matches!(op, Op::PadShortcut { .. }))),
        ("max_pool", uses(|op| matches!(op, Op::MaxPool { .. }))),
        ("global_sum", true),
        ("linear", true),
    ];
    for (title, used) in sections {
        if used {
            put(&mut out, format_args!("{}", section(title)));
        }
    }
    let names = model.info.class_names.iter().map(|n| literal(n));
    let names: Vec<_> = names.map(|n| format!("    {n}")).collect();
    put(&mut out, format_args!("const char *const {prefix}_class_names[] = {{\n{}\n}};\n", names.join(",\n")));

    let mut body = String::new();
    for (i, node) in model.nodes.iter().enumerate() {
        let input = |n: usize| (&model.nodes[node.inputs[n]], of[node.inputs[n]].unwrap_or_default());
        let to = of[i].unwrap_or_default();
        call(&mut out, &mut body, node, &input, (i, to));
    }
    let guard = prefix.to_ascii_uppercase();
    put(
        &mut out,
        format_args!(
            "void {prefix}_infer(const uint8_t pixels[{guard}_PIXELS], int32_t logits[{guard}_CLASSES])\n{{\n{body}}}"
        ),
    );
    out
}

/// A node's arrays into `out`, its call into `body`; `input` gives an input and its buffer, `to` is the node's.
fn call<'a>(
    out: &mut String,
    body: &mut String,
    node: &Node,
    input: &dyn Fn(usize) -> (&'a Node, usize),
    (i, to): (usize, usize),
) {
    let s = node.shape;
    let line = match &node.op {
        Op::Input(table) => {
            array(out, "int8_t", &format!("table{i}"), &table.lut);
            format!("look_up(table{i}, {}, {}, pixels, buffer{to})", s.c, s.h * s.w)
        }
        Op::Conv(conv) => {
            let (from, x) = input(0);
            array(out, "int16_t", &format!("multiplier{i}"), &conv.multiplier);
            // The rounding of the shift is in round_shift.
            array(out, "int32_t", &format!("bias{i}"), conv.bias.iter().map(int32));
            array(out, "uint8_t", &format!("shift{i}"), &conv.shift);
            let f = from.shape;
            let sizes = [f.c, f.h, f.w, s.c, s.h, s.w, conv.kernel, conv.stride, conv.pad, conv.preshift];
            let sizes = sizes.map(|v| v.to_string()).join(", ");
            let signs = format!("{}, {}", sign(from.kind), sign(node.kind));
            put(
                out,
                format_args!(
                    "static const conv_layer layer{i} = {{ {sizes}, {signs}, multiplier{i}, bias{i}, shift{i} }};"
                ),
            );
            match &conv.weight {
                Weight::Int8 { values } => {
                    array(out, "int8_t", &format!("weight{i}"), values);
                    format!("conv_int8(&layer{i}, weight{i}, buffer{x}, buffer{to})")
                }
                Weight::Shift { bits, table, codes, .. } => {
                    let words = pack(codes, *bits);
                    array(out, "uint32_t", &format!("weight{i}"), words.iter().map(|w| format!("0x{w:08x}")));
                    array(out, "uint8_t", &format!("levels{i}"), table.iter().map(|p| p.unwrap_or(255)));
                    format!("conv_shift(&layer{i}, weight{i}, {bits}, levels{i}, buffer{x}, buffer{to})")
                }
            }
        }
        Op::Add => {
            let [(a, x), (b, y)] = [input(0), input(1)];
            let [left, right, down] = addition([a.exponent, b.exponent], node.exponent);
            let signs = [a.kind, b.kind, node.kind].map(|k| sign(k).to_string()).join(", ");
            put(
                out,
                format_args!(
                    "static const add_layer layer{i} = {{ {}, {left}, {right}, {down}, {signs} }};",
                    len(node.shape)
                ),
            );
            format!("add(&layer{i}, buffer{x}, buffer{y}, buffer{to})")
        }
        Op::PadShortcut { stride } => {
            let (from, x) = input(0);
            let f = from.shape;
            let sizes = [f.c, f.h, f.w, s.c, s.h, s.w, *stride].map(|v| v.to_string()).join(", ");
            format!("pad_shortcut({sizes}, buffer{x}, buffer{to})")
        }
        Op::MaxPool { kernel, stride, pad } => {
            let (from, x) = input(0);
            let sizes = [s.c, from.shape.h, from.shape.w, s.h, s.w, *kernel, *stride, *pad];
            format!("max_pool({}, buffer{x}, buffer{to})", sizes.map(|v| v.to_string()).join(", "))
        }
        Op::GlobalSum { preshift } => {
            let (from, x) = input(0);
            let pixels = from.shape.h * from.shape.w;
            format!("global_sum({}, {pixels}, {}, {preshift}, buffer{x}, pooled)", s.c, sign(from.kind))
        }
        Op::Linear(linear) => {
            array(out, "int8_t", &format!("weight{i}"), &linear.weight);
            array(out, "int32_t", &format!("bias{i}"), linear.bias.iter().map(int32));
            format!("linear({}, {}, weight{i}, bias{i}, pooled, logits)", input(0).0.shape.c, s.c)
        }
    };
    put(body, format_args!("    {line};"));
}

/// −2^31 is no literal of its type.
fn int32(value: &i32) -> String {
    if *value == i32::MIN { "INT32_MIN".into() } else { value.to_string() }
}
