// part[c, ky, kx, ci, co] = Σ_{n in chunk c} Σ_{oy, ox} x[n, oy·stride + ky − pad, ox·stride + kx − pad, ci] · dy[n, oy, ox, co]
// One invocation keeps BLOCK kx times 4 ci times 4 co in registers and walks along the rows of its images; the x columns slide
// through registers, so that a pixel costs STRIDE loads of x and one of dy.
const STRIDE: u32 = 1u;
const BLOCK: u32 = 3u; // kx of one invocation: min(k, 3)
const COLS: u32 = 4u;  // BLOCK + STRIDE
const ROWS: u32 = 12u; // 4 · BLOCK
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
    subgroup: u32, // lanes of a subgroup, 0 where the adapter has none of a fixed size
    epilogue: u32, // what becomes of the input gradient on its way out: see common/epilogue.wgsl
    packed: u32,   // 1: each weight is 0 or ± 2^k, and the slab is there as bytes too
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;           // [n, h, w, cin4]
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;          // [n, oh, ow, cout4]
@group(0) @binding(3) var<storage, read_write> part: array<vec4<f32>>;  // [⌈n / chunk⌉, k, k, cin, cout4]

fn column(row: u32, ix: i32, ci: u32) -> vec4<f32> {
    let last = i32(p.w) - 1;
    let v = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(vec4(0.0), v, ix >= 0 && ix <= last);
}

@compute @workgroup_size(64)
fn conv_backward_weight_direct(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let kxs = (p.k + BLOCK - 1u) / BLOCK;
    let chunks = (p.n + p.chunk - 1u) / p.chunk;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= chunks * p.k * kxs * p.cin4 * p.cout4) {
        return;
    }
    let co = i % p.cout4;
    let ci = i / p.cout4 % p.cin4;
    let kx = i / (p.cout4 * p.cin4) % kxs * BLOCK;
    let ky = i / (p.cout4 * p.cin4 * kxs) % p.k;
    let chunk = i / (p.cout4 * p.cin4 * kxs * p.k);
    let left = i32(kx) - i32(p.pad);
    var sum: array<vec4<f32>, ROWS>;
    for (var image = chunk * p.chunk; image < min((chunk + 1u) * p.chunk, p.n); image++) {
        for (var oy = 0u; oy < p.oh; oy++) {
            let iy = i32(oy * STRIDE + ky) - i32(p.pad);
            if (iy < 0 || iy >= i32(p.h)) {
                continue;
            }
            let row = (image * p.h + u32(iy)) * p.w;
            let row_out = (image * p.oh + oy) * p.ow;
            // col[j] is the column of tap kx + j; at each pixel the ones that two pixels share move down by STRIDE.
            var col: array<vec4<f32>, COLS>;
            //#repeat j BLOCK
            if ($ju + STRIDE < BLOCK) {
                col[$ju + STRIDE] = column(row, left + $j, ci);
            }
            //#end
            for (var ox = 0u; ox < p.ow; ox++) {
                let g = dy[(row_out + ox) * p.cout4 + co];
                //#repeat j BLOCK
                if ($ju + STRIDE < BLOCK) {
                    col[$j] = col[$ju + STRIDE];
                } else {
                    col[$j] = column(row, left + i32(ox * STRIDE) + $j, ci);
                }
                //#end
                //#repeat j BLOCK
                sum[4 * $j] += col[$j].x * g;
                sum[4 * $j + 1] += col[$j].y * g;
                sum[4 * $j + 2] += col[$j].z * g;
                sum[4 * $j + 3] += col[$j].w * g;
                //#end
            }
        }
    }
    //#repeat j BLOCK
    if (kx + $ju < p.k) {
        let out = (((chunk * p.k + ky) * p.k + kx + $ju) * p.cin4 + ci) * 4u * p.cout4 + co;
        part[out] = sum[4 * $j];
        part[out + p.cout4] = sum[4 * $j + 1];
        part[out + 2u * p.cout4] = sum[4 * $j + 2];
        part[out + 3u * p.cout4] = sum[4 * $j + 3];
    }
    //#end
}
