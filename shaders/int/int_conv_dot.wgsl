// Integer convolution by products of four int8 pairs and their sum, one instruction on many GPUs. A uint8 input with its top bit
// turned over is x − 128; `channels` starts the sums at 128·Σw then.
// NHWC, four channels a word. One invocation computes 8 neighbouring pixels of a row times 8 output channels.
struct Params {
    n: u32,        // images
    h: u32,        // input
    w: u32,
    cin4: u32,     // input channels / 4, rounded up
    oh: u32,       // output
    ow: u32,
    cout4: u32,    // output channels / 4, rounded up
    k: u32,        // kernel size
    stride: u32,
    pad: u32,
    planes: u32,   // digits of a weight, or channels in a word
    flush: u32,    // steps whose products a 16-bit sum holds
    preshift: u32,
    terms: u32,    // digits of M, at most 5
    signed_x: u32, // 1: int8, 0: uint8
    signed_y: u32,
    subgroup: u32, // lanes of a subgroup, 0 where the adapter has none of a fixed size
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;               // [n, h, w, cin4]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;    // int8 [k, k, cin4, cout4]: lanes output, bytes input channels
@group(0) @binding(3) var<storage, read> channels: array<vec4<u32>>;  // [cout4, 5]: see common/requantize.wgsl
@group(0) @binding(4) var<storage, read_write> y: array<u32>;         // [n, oh, ow, cout4]

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> u32 {
    let last = i32(p.w) - 1;
    let word = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(0u, word, inside && ix >= 0 && ix <= last) ^ ((1u - p.signed_x) * 0x80808080u);
}

fn products(s: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4(dot4I8Packed(s, w.x), dot4I8Packed(s, w.y), dot4I8Packed(s, w.z), dot4I8Packed(s, w.w));
}

@compute @workgroup_size(64)
fn int_conv_dot(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.ow + 7u) / 8u;
    let blocks = (p.cout4 + 1u) / 2u;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.oh * tiles * blocks) {
        return;
    }
    let co = (i % blocks) * 2u;
    let ox = i / blocks % tiles * 8u;
    let oy = i / (blocks * tiles) % p.oh;
    let image = i / (blocks * tiles * p.oh);
    let pair = min(co + 1u, p.cout4 - 1u); // the last block of an odd count computes its only vec4 twice
    let left = i32(ox * p.stride) - i32(p.pad);
    var a: array<vec4<i32>, 8>; // channels co …
    var b: array<vec4<i32>, 8>; // … and the next four
    var ky = 0u;
    var kx = 0u;
    var ci = 0u;
    for (var step = 0u; step < p.k * p.k * p.cin4; step++) {
        let iy = i32(oy * p.stride + ky) - i32(p.pad);
        let inside = iy >= 0 && iy < i32(p.h);
        let row = (image * p.h + u32(clamp(iy, 0, i32(p.h) - 1))) * p.w;
        let u = weight[step * p.cout4 + co];
        let v = weight[step * p.cout4 + pair];
        //#repeat q 8
        {
            let s = column(row, inside, left + i32(kx + $qu * p.stride), ci);
            a[$q] += products(s, u);
            b[$q] += products(s, v);
        }
        //#end
        ci += 1u;
        let next = ci == p.cin4;
        ci = select(ci, 0u, next);
        kx += select(0u, 1u, next);
        let down = kx == p.k;
        kx = select(kx, 0u, down);
        ky += select(0u, 1u, down);
    }
    let out = ((image * p.oh + oy) * p.ow + ox) * p.cout4 + co;
    let after = channels_of(co);
    let m = multiplier_of(after);
    let start = start_of(co);
    let after_pair = channels_of(pair);
    let m_pair = multiplier_of(after_pair);
    let start_pair = start_of(pair);
    //#repeat q 8
    if (ox + $qu < p.ow) {
        y[out + $qu * p.cout4] = requantize_by(a[$q] + start, m, after);
        if (pair > co) {
            y[out + $qu * p.cout4 + 1u] = requantize_by(b[$q] + start_pair, m_pair, after_pair);
        }
    }
    //#end
}
