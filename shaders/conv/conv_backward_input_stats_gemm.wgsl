// dx as conv_backward_input_gemm, which is the gradient dy of the batch norm in front of this convolution (and of the ReLU between them),
// and of each tile t of TM · ROWS pixels of a phase part[t, 0, ci] = Σ dx, part[t, 1, ci] = Σ dx · x̂, as bn_backward_stats, where dx still
// is in registers. A workgroup computes TM · ROWS pixels times 8 · TN input channels, an invocation ROWS times 8. Nobody leaves early.
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
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;        // [n, oh, ow, cout4]
@group(0) @binding(2) var<storage, read> weight_t: array<vec4<f32>>;  // [k, k, cout, cin4] at offset
@group(0) @binding(3) var<storage, read> skip: array<vec4<f32>>;      // [n, h, w, cin4]; dy where there is none
@group(0) @binding(4) var<storage, read> gate: array<vec4<f32>>;      // [n, h, w, cin4]; dy where there is none
@group(0) @binding(5) var<storage, read> x: array<vec4<f32>>;         // [n, h, w, cin4]: what the batch norm got
@group(0) @binding(6) var<storage, read> stats: array<vec4<f32>>;     // [2, cin4]: mean, 1/√(var + eps)
@group(0) @binding(7) var<storage, read_write> dx: array<vec4<f32>>;  // [n, h, w, cin4]
@group(0) @binding(8) var<storage, read_write> part: array<vec4<f32>>;  // [tiles, 2, cin4]

@compute @workgroup_size(64)
fn conv_backward_input_stats_gemm(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let blocks = (p.cin4 + 2u * TN - 1u) / (2u * TN);
    let g = group_index(group, groups);
    let ci = g % blocks * 2u * TN;
    let phase = vec2(g / blocks % p.stride, g / (blocks * p.stride) % p.stride);
    let first = g / (blocks * p.stride * p.stride) * ROWS * TM;
    var sums: Sums;
    conv_backward_input_tile(&sums, first, phase, ci, lane);
    let column = ci + lane % TN;
    let column_b = column + TN;
    let mean = Columns(stats[min(column, p.cin4 - 1u)], stats[min(column_b, p.cin4 - 1u)]);
    var total = Columns(vec4(0.0), vec4(0.0));
    var dots = Columns(vec4(0.0), vec4(0.0));
    //#repeat q ROWS
    {
        let pixel = phase_pixel(first + $qu * TM + lane / TN, phase);
        let out = pixel.at + column;
        if (pixel.inside && column < p.cin4) {
            let v = epilogue(out, sums[2 * $q]);
            dx[out] = v;
            total.a += v;
            dots.a += v * (x[out] - mean.a);
        }
        if (pixel.inside && column_b < p.cin4) {
            let v = epilogue(out + TN, sums[2 * $q + 1]);
            dx[out + TN] = v;
            total.b += v;
            dots.b += v * (x[out + TN] - mean.b);
        }
    }
    //#end
    total = column_sums(total, lane);
    dots = column_sums(dots, lane);
    let tile = g / blocks;
    let own = ci + lane;
    if (lane < TN && first < p.n * phase_size().x * phase_size().y) {
        if (own < p.cin4) {
            part[tile * 2u * p.cin4 + own] = total.a;
            part[(tile * 2u + 1u) * p.cin4 + own] = dots.a * stats[p.cin4 + own];
        }
        if (own + TN < p.cin4) {
            part[tile * 2u * p.cin4 + own + TN] = total.b;
            part[(tile * 2u + 1u) * p.cin4 + own + TN] = dots.b * stats[p.cin4 + own + TN];
        }
    }
}
