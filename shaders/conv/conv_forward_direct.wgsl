// y[n, oy, ox, co] = Σ_{ky, kx, ci} x[n, oy·stride + ky − pad, ox·stride + kx − pad, ci] · weight[ky, kx, ci, co]
// NHWC, vec4 over channels. One invocation computes 2 rows of 8 neighbouring pixels times 8 output channels in registers: the columns
// that the pixels see are loaded once for all kx, a weight once for all 16 pixels, and no workgroup memory is used.
const K: u32 = 3u;
const STRIDE: u32 = 1u;
const COLS: u32 = 10u; // 7 · STRIDE + K
struct Params {
    n: u32,       // images
    h: u32,       // input
    w: u32,
    cin4: u32,    // input channels / 4, rounded up
    oh: u32,      // output
    ow: u32,
    cout4: u32,   // output channels / 4, rounded up
    k: u32,       // kernel size
    stride: u32,
    pad: u32,
    offset: u32,  // of the layer in the weight slab, in vec4
    chunk: u32,   // images in one partial sum of the weight gradient
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // [n, h, w, cin4]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;   // [k, k, cin, cout4] at offset
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // [n, oh, ow, cout4]

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> vec4<f32> {
    let last = i32(p.w) - 1;
    let v = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(vec4(0.0), v, inside && ix >= 0 && ix <= last);
}

@compute @workgroup_size(64)
fn conv_forward_direct(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let rows = (p.oh + 1u) / 2u;
    let tiles = (p.ow + 7u) / 8u;
    let blocks = (p.cout4 + 1u) / 2u;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * rows * tiles * blocks) {
        return;
    }
    let co = (i % blocks) * 2u;
    let ox = (i / blocks) % tiles * 8u;
    let oy = i / (blocks * tiles) % rows * 2u;
    let image = i / (blocks * tiles * rows);
    let pair = min(co + 1u, p.cout4 - 1u); // the last block of an odd count computes its only vec4 twice
    let left = i32(ox * STRIDE) - i32(p.pad);
    var a: array<vec4<f32>, 16>; // [row, pixel] of channels co …
    var b: array<vec4<f32>, 16>; // … and of the next four
    for (var ky = 0u; ky < K; ky++) {
        //#repeat r 2
        let iy$r = i32((oy + $ru) * STRIDE + ky) - i32(p.pad);
        let inside$r = iy$r >= 0 && iy$r < i32(p.h);
        let row$r = (image * p.h + u32(clamp(iy$r, 0, i32(p.h) - 1))) * p.w;
        //#end
        for (var ci = 0u; ci < p.cin4; ci++) {
            var col: array<vec4<f32>, 2u * COLS>;
            //#repeat r 2
            //#repeat j COLS
            col[$ru * COLS + $ju] = column(row$r, inside$r, left + $j, ci);
            //#end
            //#end
            //#repeat kx K
            {
                let wi = p.offset + ((ky * K + $kxu) * p.cin4 + ci) * 4u * p.cout4;
                //#repeat c 4
                let u$c = weight[wi + $cu * p.cout4 + co];
                let v$c = weight[wi + $cu * p.cout4 + pair];
                //#end
                //#repeat r 2
                //#repeat q 8
                {
                    let s = col[$ru * COLS + $qu * STRIDE + $kxu];
                    a[8 * $r + $q] = fma(s.xxxx, u0, fma(s.yyyy, u1, fma(s.zzzz, u2, fma(s.wwww, u3, a[8 * $r + $q]))));
                    b[8 * $r + $q] = fma(s.xxxx, v0, fma(s.yyyy, v1, fma(s.zzzz, v2, fma(s.wwww, v3, b[8 * $r + $q]))));
                }
                //#end
                //#end
            }
            //#end
        }
    }
    //#repeat r 2
    if (oy + $ru < p.oh) {
        let out = ((image * p.oh + oy + $ru) * p.ow + ox) * p.cout4 + co;
        //#repeat q 8
        if (ox + $qu < p.ow) {
            y[out + $qu * p.cout4] = a[8 * $r + $q];
            if (pair > co) {
                y[out + $qu * p.cout4 + 1u] = b[8 * $r + $q];
            }
        }
        //#end
    }
    //#end
}
