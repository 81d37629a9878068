// dx[n, iy, ix, ci] = Σ_{ky, kx, co} dy[n, (iy + pad − ky)/stride, (ix + pad − kx)/stride, co] · weight_t[ky, kx, co, ci]
// One invocation computes 8 pixels of a row, STRIDE apart, times 8 input channels in registers. Pixels STRIDE apart see the same
// taps kx = first + STRIDE·t, and for each t neighbouring dy columns, so the columns are loaded once for all t.
const K: u32 = 3u;
const STRIDE: u32 = 1u;
const TAPS: u32 = 3u;  // ⌈K / STRIDE⌉
const COLS: u32 = 10u; // 7 + TAPS
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
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;        // [n, oh, ow, cout4]
@group(0) @binding(2) var<storage, read> weight_t: array<vec4<f32>>;  // [k, k, cout, cin4] at offset
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>;  // [n, h, w, cin4]

fn column(row: u32, ox: i32, co: u32) -> vec4<f32> {
    let last = i32(p.ow) - 1;
    let v = dy[(row + u32(clamp(ox, 0, last))) * p.cout4 + co];
    return select(vec4(0.0), v, ox >= 0 && ox <= last);
}

@compute @workgroup_size(64)
fn conv_backward_input_direct(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let tiles = ((p.w + STRIDE - 1u) / STRIDE + 7u) / 8u;
    let blocks = (p.cin4 + 1u) / 2u;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.h * STRIDE * tiles * blocks) {
        return;
    }
    let ci = (i % blocks) * 2u;
    let tile = i / blocks % tiles;
    let phase = i / (blocks * tiles) % STRIDE;
    let iy = i / (blocks * tiles * STRIDE) % p.h;
    let image = i / (blocks * tiles * STRIDE * p.h);
    let pair = min(ci + 1u, p.cin4 - 1u);
    let first = (phase + p.pad) % STRIDE;
    // dy column of pixel q and tap t: left + q + TAPS − 1 − t.
    let left = i32((phase + p.pad) / STRIDE + 8u * tile) - i32(TAPS - 1u);
    var a: array<vec4<f32>, 8>;
    var b: array<vec4<f32>, 8>;
    for (var ky = (iy + p.pad) % STRIDE; ky < K; ky += STRIDE) {
        let oy = (i32(iy + p.pad) - i32(ky)) / i32(STRIDE);
        if (iy + p.pad < ky || oy >= i32(p.oh)) {
            continue;
        }
        let row = (image * p.oh + u32(oy)) * p.ow;
        for (var co = 0u; co < p.cout4; co++) {
            var col: array<vec4<f32>, COLS>;
            //#repeat j COLS
            col[$j] = column(row, left + $j, co);
            //#end
            //#repeat t TAPS
            if (first + STRIDE * $tu < K) {
                let wi = p.offset + ((ky * K + first + STRIDE * $tu) * p.cout4 + co) * 4u * p.cin4;
                //#repeat c 4
                let u$c = weight_t[wi + $cu * p.cin4 + ci];
                let v$c = weight_t[wi + $cu * p.cin4 + pair];
                //#end
                //#repeat q 8
                {
                    let s = col[$qu + TAPS - 1u - $tu];
                    a[$q] = fma(s.xxxx, u0, fma(s.yyyy, u1, fma(s.zzzz, u2, fma(s.wwww, u3, a[$q]))));
                    b[$q] = fma(s.xxxx, v0, fma(s.yyyy, v1, fma(s.zzzz, v2, fma(s.wwww, v3, b[$q]))));
                }
                //#end
            }
            //#end
        }
    }
    let row_out = (image * p.h + iy) * p.w;
    //#repeat q 8
    {
        let ix = phase + STRIDE * (8u * tile + $qu);
        if (ix < p.w) {
            dx[(row_out + ix) * p.cin4 + ci] = a[$q];
            if (pair > ci) {
                dx[(row_out + ix) * p.cin4 + ci + 1u] = b[$q];
            }
        }
    }
    //#end
}
