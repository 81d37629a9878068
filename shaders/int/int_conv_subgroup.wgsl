// Integer convolution, weights handed round in a subgroup. NHWC, four channels a word; inputs count as uint8 (an int8 with its sign bit
// turned over is x + 128; `channels` starts the sums at −128·Σw then). Where HALVES is 2, a weight word is w0 + (w1 << 16) of two output
// channels, so that one product adds to both sums; every `flush` rounds the halves are taken apart: it was proven from the weights that
// they fit 16 bits there. One invocation computes 4·HALVES neighbouring pixels of a row times 16 output channels, BLOCK taps of a row at
// once, whose x columns they share. A workgroup works on one block of 16 channels, so that a subgroup loads each of a tap's weight vec4
// once. Nobody leaves early: all lanes take part in every exchange.
const SUBGROUP: u32 = 8u;
const STRIDE: u32 = 1u;
const BLOCK: u32 = 3u;  // kx at once; divides k
const COLS: u32 = 10u;  // (PIXELS − 1) · STRIDE + BLOCK
const HALVES: u32 = 2u; // output channels in a weight word
const PIXELS: u32 = 8u; // 4 · HALVES
const VECS: u32 = 2u;   // vec4 of weights for an input channel: 4 / HALVES
const FETCH: u32 = 8u;  // lanes that fetch weights: min(SUBGROUP, 4 · VECS)
const LOADS: u32 = 1u;  // weights that each of them fetches: 4 · VECS / FETCH
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
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;    // [k, k, cin4, cout4 / 4, 4 ci, VECS]: lanes output channels
@group(0) @binding(3) var<storage, read> channels: array<vec4<u32>>;  // [cout4, 5]: see common/requantize.wgsl
@group(0) @binding(4) var<storage, read_write> y: array<u32>;         // [n, oh, ow, cout4]

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> u32 {
    let last = i32(p.w) - 1;
    let word = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(0u, word, inside && ix >= 0 && ix <= last) ^ (p.signed_x * 0x80808080u);
}

@compute @workgroup_size(64)
fn int_conv_subgroup(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32, @builtin(subgroup_invocation_id) id: u32) {
    let tiles = (p.ow + PIXELS - 1u) / PIXELS;
    let blocks = (p.cout4 + 3u) / 4u;
    let g = group_index(group, groups);
    let co = g % blocks * 4u;
    let i = g / blocks * 64u + lane;
    let ox = i % tiles * PIXELS;
    let oy = i / tiles % p.oh;
    let image = i / (tiles * p.oh);
    let left = i32(ox * STRIDE) - i32(p.pad);
    var total: array<vec4<i32>, 4u * PIXELS>; // [vec4][pixel]
    let rounds = p.k * (p.k / BLOCK) * p.cin4;
    var ky = 0u;
    var kx = 0u;
    var ci = 0u;
    for (var first = 0u; first < rounds; first += p.flush) {
        //#repeat v VECS
        var a$v: array<vec4<i32>, PIXELS>;
        //#end
        let end = min(first + p.flush, rounds);
        for (var r = first; r < end; r++) {
            let iy = i32(oy * STRIDE + ky) - i32(p.pad);
            let inside = image < p.n && iy >= 0 && iy < i32(p.h);
            let row = (min(image, p.n - 1u) * p.h + u32(clamp(iy, 0, i32(p.h) - 1))) * p.w;
            var col: array<u32, COLS>;
            //#repeat j COLS
            col[$j] = column(row, inside, left + i32(kx) + $j, ci);
            //#end
            //#repeat t BLOCK
            {
                let wi = (((ky * p.k + kx + $tu) * p.cin4 + ci) * blocks + co / 4u) * 4u * VECS;
                // Of the block's weights [4 ci, VECS], this lane fetches every FETCH-th.
                var mine: array<vec4<i32>, LOADS>;
                //#repeat m LOADS
                mine[$m] = bitcast<vec4<i32>>(weight[wi + id % FETCH + $mu * FETCH]);
                //#end
                //#repeat c 4
                {
                    //#repeat v VECS
                    let w$v = subgroupBroadcast(mine[($cu * VECS + $vu) / FETCH], ($cu * VECS + $vu) % FETCH);
                    //#end
                    //#repeat q PIXELS
                    {
                        let s = i32((col[$qu * STRIDE + $tu] >> (8u * $cu)) & 255u);
                        //#repeat v VECS
                        a$v[$q] += s * w$v;
                        //#end
                    }
                    //#end
                }
                //#end
            }
            //#end
            ci += 1u;
            let next = ci == p.cin4;
            ci = select(ci, 0u, next);
            kx += select(0u, BLOCK, next);
            let down = kx == p.k;
            kx = select(kx, 0u, down);
            ky += select(0u, 1u, down);
        }
        //#repeat v VECS
        //#repeat q PIXELS
        if (HALVES == 1u) {
            total[$vu * PIXELS + $qu] += a$v[$q];
        } else {
            let low = (a$v[$q] << vec4(16u)) >> vec4(16u);
            total[2u * $vu % 4u * PIXELS + $qu] += low;
            total[(2u * $vu + 1u) % 4u * PIXELS + $qu] += (a$v[$q] - low) >> vec4(16u);
        }
        //#end
        //#end
    }
    if (image < p.n) {
        let out = ((image * p.oh + oy) * p.ow + ox) * p.cout4 + co;
        //#repeat v 4
        if (co + $vu < p.cout4) {
            let after = channels_of(co + $vu);
            let m = multiplier_of(after);
            let start = start_of(co + $vu);
            //#repeat q PIXELS
            if (ox + $qu < p.ow) {
                y[out + $qu * p.cout4 + $vu] = requantize_by(total[$vu * PIXELS + $qu] + start, m, after);
            }
            //#end
        }
        //#end
    }
}
