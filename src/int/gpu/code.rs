//! The network as code: a convolution whose weights are written out as WGSL additions, zeros gone. Native only, since it compiles for
//! seconds; every result is that of the other rungs, and nothing multiplies.
//!
//! Two sums in a word, as in `shaders/common/conv_pairs.wgsl`: x0 + (x1 << 16) of two neighbouring pixels, shifted and added where a
//! weight has a digit. Each channel's halves are taken apart just before they could overflow. Weights too large for that, as a stem's
//! int8, get a word for each sum. One kernel computes 4 pixels of a row times [`CHANNELS`] output channels.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::int::digits::digits;
use crate::kernels::int::conv::twin;
use crate::kernels::int::pack::{CHANNEL_WORDS, HALF_HIGH, HALF_LOW, Weights};
use crate::kernels::int::{CONV_DIGITS, IntConvParams};
use crate::kernels::{Args, Binding, Case, Const, Cost, Kernel, Source, Tolerance, groups_for, read_u32, write_u32};

/// The rung's name.
pub const NAME: &str = "int_conv_code";
/// Output channels of one kernel.
const CHANNELS: usize = 16;
/// Pixels of an invocation, two to a word.
const PIXELS: usize = 4;
/// Seconds that drivers take to compile one addition; seen on a software driver, others are faster.
const SECONDS_A_TERM: f64 = 0.3e-3;

/// A convolution's kernel for some of its output channels.
pub struct Code {
    source: Source,
    weights: Weights,
    channels: std::ops::Range<usize>,
}

/// About how long a layer's kernels take to compile.
pub fn compile_seconds(weights: &Weights) -> f64 {
    SECONDS_A_TERM * weights.values.iter().map(|v| digits(*v).len()).sum::<usize>() as f64
}

/// The kernels of a layer.
///
/// They live as long as the program: a pipeline is known by its kernel, and a process runs few networks.
pub fn kernels(weights: &Weights, p: &IntConvParams, layer: &str) -> Vec<&'static Code> {
    let block = |first: usize| {
        let channels = first..(first + CHANNELS).min(weights.cout);
        let name = format!("{NAME}_{}_{first}", layer.replace('.', "_"));
        let path = format!("int/{name}");
        let text = write(weights, p, &channels, &name);
        let source = Source { path: path.leak(), text: text.leak(), common: CONV_DIGITS.source.common };
        &*Box::leak(Box::new(Code { source, weights: weights.clone(), channels }))
    };
    (0..weights.cout).step_by(CHANNELS).map(block).collect()
}

/// Parameters and the activation's binding are those of every rung.
fn declarations() -> &'static str {
    let text = CONV_DIGITS.source.text;
    let start = text.find("struct Params").unwrap_or(0);
    let end = text.find("@group(0) @binding(2)").unwrap_or(text.len());
    &text[start..end]
}

const HEAD: &str = "
@group(0) @binding(2) var<storage, read> channels: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> u32 {
    let last = i32(p.w) - 1;
    let word = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(0u, word, inside && ix >= 0 && ix <= last) ^ (p.signed_x * 0x80808080u);
}

fn low(both: i32) -> i32 {
    return (both << 16u) >> 16u;
}

@compute @workgroup_size(64)
";

/// Ends a line; writing to a string cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{ let _ = writeln!($out, $($arg)*); }};
}

fn write(weights: &Weights, p: &IntConvParams, channels: &std::ops::Range<usize>, name: &str) -> String {
    let mut s = format!("{}{HEAD}", declarations());
    line!(s, "fn {name}(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,");
    line!(s, "    @builtin(local_invocation_index) lane: u32) {{");
    line!(s, "let tiles = (p.ow + {}u) / {PIXELS}u;", PIXELS - 1);
    line!(s, "let i = group_index(group, groups) * 64u + lane;");
    line!(s, "if (i >= p.n * p.oh * tiles) {{ return; }}");
    line!(s, "let ox = i % tiles * {PIXELS}u; let oy = i / tiles % p.oh; let image = i / (tiles * p.oh);");
    line!(s, "let left = i32(ox * {}u) - {};", p.stride, p.pad);
    let halves = if weights.flush(1).is_some() { 2 } else { 1 };
    for (co, q) in channels.clone().flat_map(|co| (0..PIXELS / halves).map(move |q| (co, q))) {
        line!(s, "var a{co}_{q} = 0;");
    }
    for (co, px) in channels.clone().flat_map(|co| (0..PIXELS).map(move |px| (co, px))) {
        line!(s, "var t{co}_{px} = 0;");
    }
    // How far each channel's sums may have gone up and down since they were taken apart.
    let mut reach = vec![[0i64; 2]; weights.cout];
    for ky in 0..p.k as usize {
        line!(s, "{{ let iy = i32(oy * {}u) + {};", p.stride, ky as i64 - i64::from(p.pad));
        line!(s, "let inside = iy >= 0 && iy < i32(p.h);");
        line!(s, "let row = (image * p.h + u32(clamp(iy, 0, i32(p.h) - 1))) * p.w;");
        for ci4 in 0..p.cin4 as usize {
            row(&mut s, weights, p, channels, [ky, ci4], halves, &mut reach);
        }
        line!(s, "}}");
    }
    for (co, q) in channels.clone().flat_map(|co| (0..PIXELS / halves).map(move |q| (co, q))) {
        take_apart(&mut s, co, q, halves);
    }
    line!(s, "let out = ((image * p.oh + oy) * p.ow + ox) * p.cout4;");
    for co4 in channels.start / 4..channels.end.div_ceil(4) {
        line!(s, "{{ let after = channels_of({co4}u); let start = start_of({co4}u);");
        for px in 0..PIXELS {
            let lane =
                |l: usize| if 4 * co4 + l < channels.end { format!("t{}_{px}", 4 * co4 + l) } else { "0".into() };
            let sums = [0, 1, 2, 3].map(lane).join(", ");
            line!(s, "if (ox + {px}u < p.ow) {{");
            line!(s, "y[out + {px}u * p.cout4 + {co4}u] = requantize(vec4({sums}) + start, after); }}");
        }
        line!(s, "}}");
    }
    s.push_str("}\n");
    s
}

/// Adds a word's sums to their totals.
fn take_apart(s: &mut String, co: usize, q: usize, halves: usize) {
    if halves == 1 {
        line!(s, "t{co}_{q} += a{co}_{q};");
        return;
    }
    let (even, odd) = (2 * q, 2 * q + 1);
    line!(s, "t{co}_{even} += low(a{co}_{q}); t{co}_{odd} += (a{co}_{q} - low(a{co}_{q})) >> 16u;");
}

/// The products of one row of the window with four input channels.
fn row(
    s: &mut String,
    weights: &Weights,
    p: &IntConvParams,
    channels: &std::ops::Range<usize>,
    [ky, ci4]: [usize; 2],
    halves: usize,
    reach: &mut [[i64; 2]],
) {
    let (k, stride) = (p.k as usize, p.stride as usize);
    line!(s, "{{");
    for c in 0..(PIXELS - 1) * stride + k {
        line!(s, "let c{c} = column(row, inside, left + {c}, {ci4}u);");
        line!(s, "let e{c} = c{c} & 0x00ff00ffu; let o{c} = (c{c} >> 8u) & 0x00ff00ffu;");
    }
    let mut named = BTreeSet::new();
    for (kx, j) in (0..k).flat_map(|kx| (0..4).map(move |j| (kx, j))) {
        for co in channels.clone() {
            let weight = weights.at(co, ky * k + kx, 4 * ci4 + j);
            let [up, down] = reach[co];
            let (w, mut next) = (i64::from(weight), [up + i64::from(weight.max(0)), down - i64::from(weight.min(0))]);
            if halves == 2 && (255 * next[0] > HALF_HIGH || 255 * next[1] > HALF_LOW) {
                next = [w.max(0), (-w).max(0)];
                for q in 0..PIXELS / 2 {
                    take_apart(s, co, q, halves);
                    line!(s, "a{co}_{q} = 0;");
                }
            }
            reach[co] = next;
            for (d, q) in digits(weight).into_iter().flat_map(|d| (0..PIXELS / halves).map(move |q| (d, q))) {
                let (a, b) = (halves * q * stride + kx, (halves * q + 1) * stride + kx);
                let pair = format!("z{a}_{b}_{j}");
                if named.insert(pair.clone()) {
                    let half = if j % 2 == 0 { 'e' } else { 'o' };
                    let (s0, s1) = (format!("{half}{a}"), format!("{half}{b}"));
                    match j {
                        _ if halves == 1 => line!(s, "let {pair} = i32((c{a} >> {}u) & 255u);", 8 * j),
                        0 | 1 => line!(s, "let {pair} = i32(({s0} & 0xffffu) | ({s1} << 16u));"),
                        _ => line!(s, "let {pair} = i32(({s0} >> 16u) | ({s1} & 0xffff0000u));"),
                    }
                }
                let term = format!("{pair}_{}", d.shift);
                if named.insert(term.clone()) {
                    line!(s, "let {term} = {pair} << {}u;", d.shift);
                }
                line!(s, "a{co}_{q} {}= {term};", if d.negative { '-' } else { '+' });
            }
        }
    }
    line!(s, "}}");
}

impl Kernel for Code {
    type Params = IntConvParams;
    fn source(&self) -> Source {
        self.source
    }
    fn bindings(&self) -> &'static [Binding] {
        const { &[read_u32("x"), read_u32("channels"), write_u32("y")] }
    }
    fn consts(&self, _: &IntConvParams) -> Vec<Const> {
        Vec::new()
    }
    fn groups(&self, p: &IntConvParams) -> u64 {
        groups_for(p.runs(PIXELS as u32))
    }
    fn lens(&self, p: &IntConvParams) -> Vec<usize> {
        vec![p.input(), CHANNEL_WORDS * p.cout4 as usize, p.output()]
    }
    fn twin(&self, p: &IntConvParams, a: &mut Args) {
        let (x, channels, y) = (a.u(0), a.u(1), a.out_u32(2));
        let weight = |co: usize, tap: usize, ci: usize| i64::from(self.weights.at(co, tap, ci));
        twin(p, [x, channels], y, self.channels.start..self.channels.end.next_multiple_of(4), weight);
    }
    fn tolerance(&self, _: &IntConvParams) -> Tolerance {
        Tolerance::Exact
    }
    /// Its weights are one network's: [`super::Network::check`] holds it against its twin there.
    fn cases(&self) -> Vec<Case<IntConvParams>> {
        Vec::new()
    }
    fn cost(&self, p: &IntConvParams) -> Cost {
        let products = p.runs(1) as f64 * (self.weights.taps * self.weights.cin * self.channels.len()) as f64;
        Cost { flops: 2.0 * products, bytes: 4.0 * (p.input() + p.output()) as f64 }
    }
    fn subgroup(&self, _: &IntConvParams) -> Option<u32> {
        None
    }
}
