// dx[n, iy, ix, ci] = Σ_{ky, kx, co} dy[n, (iy + pad − ky)/stride, (ix + pad − kx)/stride, co] · weight_t[ky, kx, co, ci]
// One invocation computes 2 rows of 8 pixels, STRIDE apart both ways, times 8 input channels in registers. Pixels STRIDE apart see
// the same taps kx = first + STRIDE·t, and for each t neighbouring dy columns, so the columns are loaded once for all t.
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

fn column(row: u32, inside: bool, ox: i32, co: u32) -> vec4<f32> {
    let last = i32(p.ow) - 1;
    let v = dy[(row + u32(clamp(ox, 0, last))) * p.cout4 + co];
    return select(vec4(0.0), v, inside && ox >= 0 && ox <= last);
}

@compute @workgroup_size(64)
fn conv_backward_input_direct(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let rows = ((p.h + STRIDE - 1u) / STRIDE + 1u) / 2u;
    let tiles = ((p.w + STRIDE - 1u) / STRIDE + 7u) / 8u;
    let blocks = (p.cin4 + 1u) / 2u;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * STRIDE * rows * STRIDE * tiles * blocks) {
        return;
    }
    let ci = (i % blocks) * 2u;
    let tile = i / blocks % tiles;
    let phase_x = i / (blocks * tiles) % STRIDE;
    let pair_of_rows = i / (blocks * tiles * STRIDE) % rows;
    let phase_y = i / (blocks * tiles * STRIDE * rows) % STRIDE;
    let image = i / (blocks * tiles * STRIDE * rows * STRIDE);
    let pair = min(ci + 1u, p.cin4 - 1u);
    let first = (phase_x + p.pad) % STRIDE;
    let iy = phase_y + STRIDE * 2u * pair_of_rows; // of the first row; the second is STRIDE below
    // dy column of pixel q and tap t: left + q + TAPS − 1 − t.
    let left = i32((phase_x + p.pad) / STRIDE + 8u * tile) - i32(TAPS - 1u);
    var a: array<vec4<f32>, 16>; // [row, pixel] of channels ci …
    var b: array<vec4<f32>, 16>; // … and of the next four
    for (var ky = (phase_y + p.pad) % STRIDE; ky < K; ky += STRIDE) {
        // Even, also where it is negative: iy + pad − ky is a multiple of STRIDE.
        let top = (i32(iy + p.pad) - i32(ky)) / i32(STRIDE);
        //#repeat r 2
        let inside$r = top + $r >= 0 && top + $r < i32(p.oh);
        let row$r = (image * p.oh + u32(clamp(top + $r, 0, i32(p.oh) - 1))) * p.ow;
        //#end
        for (var co = 0u; co < p.cout4; co++) {
            var col: array<vec4<f32>, 2u * COLS>;
            //#repeat r 2
            //#repeat j COLS
            col[$ru * COLS + $ju] = column(row$r, inside$r, left + $j, co);
            //#end
            //#end
            //#repeat t TAPS
            if (first + STRIDE * $tu < K) {
                let wi = p.offset + ((ky * K + first + STRIDE * $tu) * p.cout4 + co) * 4u * p.cin4;
                //#repeat c 4
                let u$c = weight_t[wi + $cu * p.cin4 + ci];
                let v$c = weight_t[wi + $cu * p.cin4 + pair];
                //#end
                //#repeat r 2
                //#repeat q 8
                {
                    let s = col[$ru * COLS + $qu + TAPS - 1u - $tu];
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
    if (iy + $ru * STRIDE < p.h) {
        let row_out = (image * p.h + iy + $ru * STRIDE) * p.w;
        //#repeat q 8
        {
            let ix = phase_x + STRIDE * (8u * tile + $qu);
            if (ix < p.w) {
                dx[(row_out + ix) * p.cin4 + ci] = a[8 * $r + $q];
                if (pair > ci) {
                    dx[(row_out + ix) * p.cin4 + ci + 1u] = b[8 * $r + $q];
                }
            }
        }
        //#end
    }
    //#end
}
