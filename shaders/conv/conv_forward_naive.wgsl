// y[n, oy, ox, co] = Σ_{ky, kx, ci} x[n, oy·stride + ky − pad, ox·stride + kx − pad, ci] · weight[ky, kx, ci, co]
// NHWC, channels padded to a multiple of 4. One invocation computes one output, in the order of the sum above.
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
@group(0) @binding(1) var<storage, read> x: array<f32>;            // [n, h, w, cin]
@group(0) @binding(2) var<storage, read> weight: array<f32>;       // [k, k, cin, cout] at 4 · offset
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // [n, oh, ow, cout]

@compute @workgroup_size(64)
fn conv_forward_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let cin = 4u * p.cin4;
    let cout = 4u * p.cout4;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.oh * p.ow * cout) {
        return;
    }
    let co = i % cout;
    let ox = (i / cout) % p.ow;
    let oy = (i / (cout * p.ow)) % p.oh;
    let image = i / (cout * p.ow * p.oh);
    var sum = 0.0;
    for (var ky = 0u; ky < p.k; ky++) {
        // Unsigned: a row above the image wraps to a huge number and is skipped too.
        let iy = oy * p.stride + ky - p.pad;
        if (iy >= p.h) {
            continue;
        }
        for (var kx = 0u; kx < p.k; kx++) {
            let ix = ox * p.stride + kx - p.pad;
            if (ix >= p.w) {
                continue;
            }
            let xi = ((image * p.h + iy) * p.w + ix) * cin;
            let wi = 4u * p.offset + (ky * p.k + kx) * cin * cout + co;
            for (var ci = 0u; ci < cin; ci++) {
                sum = fma(x[xi + ci], weight[wi + ci * cout], sum);
            }
        }
    }
    y[i] = sum;
}
