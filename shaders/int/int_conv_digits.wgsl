// Integer convolution as its definition says: every weight is decoded into signed binary digits, and every digit shifts and adds.
//   acc[n, oy, ox, co] = Σ_{ky, kx, ci} Σ_digits ± (x[n, oy·stride + ky − pad, ox·stride + kx − pad, ci] << shift), then requantized.
// NHWC, four channels a word. One invocation computes 4 neighbouring pixels of a row times 4 output channels; no multiplication.
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
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;    // [k, k, cin4, cout4, planes]: lanes output, bytes input channels
@group(0) @binding(3) var<storage, read> channels: array<vec4<u32>>;  // [cout4, 5]: see common/requantize.wgsl
@group(0) @binding(4) var<storage, read_write> y: array<u32>;         // [n, oh, ow, cout4]

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> vec4<i32> {
    let last = i32(p.w) - 1;
    let word = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return unpack_bytes(select(0u, word, inside && ix >= 0 && ix <= last), p.signed_x == 1u);
}

@compute @workgroup_size(64)
fn int_conv_digits(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.ow + 3u) / 4u;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.oh * tiles * p.cout4) {
        return;
    }
    let co = i % p.cout4;
    let ox = i / p.cout4 % tiles * 4u;
    let oy = i / (p.cout4 * tiles) % p.oh;
    let image = i / (p.cout4 * tiles * p.oh);
    let left = i32(ox * p.stride) - i32(p.pad);
    var acc: array<vec4<i32>, 4>;
    for (var tap = 0u; tap < p.k * p.k; tap++) {
        let iy = i32(oy * p.stride + tap / p.k) - i32(p.pad);
        let inside = iy >= 0 && iy < i32(p.h);
        let row = (image * p.h + u32(clamp(iy, 0, i32(p.h) - 1))) * p.w;
        let ix = left + i32(tap % p.k);
        for (var ci = 0u; ci < p.cin4; ci++) {
            //#repeat q 4
            let x$q = column(row, inside, ix + i32($qu * p.stride), ci);
            //#end
            let first = ((tap * p.cin4 + ci) * p.cout4 + co) * p.planes;
            for (var plane = first; plane < first + p.planes; plane++) {
                let codes = weight[plane];
                //#repeat c 4
                {
                    let code = (codes >> vec4(8u * $cu)) & vec4(255u);
                    //#repeat q 4
                    acc[$q] += times_digit(vec4(x$q[$c]), code);
                    //#end
                }
                //#end
            }
        }
    }
    let after = channels_of(co);
    let out = ((image * p.oh + oy) * p.ow + ox) * p.cout4 + co;
    //#repeat q 4
    if (ox + $qu < p.ow) {
        y[out + $qu * p.cout4] = requantize(acc[$q] + start_of(co), after);
    }
    //#end
}
