// y[n, oy, ox, co] = Σ_{ky, kx, ci} x[n, oy·stride + ky − pad, ox·stride + kx − pad, ci] · weight[ky, kx, ci, co]
// and of each tile t of TM · ROWS pixels, in their order, part[t, 0, co] = mean, part[t, 1, co] = Σ (y − mean)².
// conv_forward_gemm, and bn_stats where the outputs still are in registers: a first sum for the mean, a second for the deviations
// from it. A workgroup computes TM · ROWS pixels times 8 · TN output channels, an invocation ROWS times 8 of them. Nobody leaves early.
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
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // [n, h, w, cin4]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;   // [k, k, cin, cout4] at offset
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // [n, oh, ow, cout4]
@group(0) @binding(4) var<storage, read_write> part: array<vec4<f32>>;  // [⌈n · oh · ow / (TM · ROWS)⌉, 2, cout4]

@compute @workgroup_size(64)
fn conv_forward_stats_gemm(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let blocks = (p.cout4 + 2u * TN - 1u) / (2u * TN);
    let g = group_index(group, groups);
    let co = g % blocks * 2u * TN;
    let first = g / blocks * ROWS * TM;
    var sums: Sums;
    conv_forward_tile(&sums, first, co, lane);
    conv_forward_store(&sums, first, co, lane);

    let pixels = p.n * p.oh * p.ow;
    let count = f32(min(TM * ROWS, max(pixels, first + 1u) - first));
    var total = Columns(vec4(0.0), vec4(0.0)); // rows behind the last pixel are 0
    //#repeat q ROWS
    total.a += sums[2 * $q];
    total.b += sums[2 * $q + 1];
    //#end
    total = column_sums(total, lane);
    let mean = Columns(total.a / count, total.b / count);
    var squares = Columns(vec4(0.0), vec4(0.0));
    //#repeat q ROWS
    if (first + $qu * TM + lane / TN < pixels) {
        let a = sums[2 * $q] - mean.a;
        let b = sums[2 * $q + 1] - mean.b;
        squares.a += a * a;
        squares.b += b * b;
    }
    //#end
    squares = column_sums(squares, lane);
    let column = co + lane;
    let out = g / blocks * 2u * p.cout4 + column;
    if (lane < TN && first < pixels) {
        if (column < p.cout4) {
            part[out] = mean.a;
            part[out + p.cout4] = squares.a;
        }
        if (column + TN < p.cout4) {
            part[out + TN] = mean.b;
            part[out + p.cout4 + TN] = squares.b;
        }
    }
}
