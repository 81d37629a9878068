// part[c, ky, kx, ci, co] = Σ_{n in chunk c} Σ_{oy, ox} x[n, oy·stride + ky − pad, ox·stride + kx − pad, ci] · dy[n, oy, ox, co]
// One invocation computes one weight's partial sum over the chunk's images; sum_partials adds the chunks up.
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
@group(0) @binding(2) var<storage, read> dy: array<f32>;           // [n, oh, ow, cout]
@group(0) @binding(3) var<storage, read_write> part: array<f32>;   // [⌈n / chunk⌉, k, k, cin, cout]

@compute @workgroup_size(64)
fn conv_backward_weight_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let cin = 4u * p.cin4;
    let cout = 4u * p.cout4;
    let chunks = (p.n + p.chunk - 1u) / p.chunk;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= chunks * p.k * p.k * cin * cout) {
        return;
    }
    let co = i % cout;
    let ci = (i / cout) % cin;
    let kx = (i / (cout * cin)) % p.k;
    let ky = (i / (cout * cin * p.k)) % p.k;
    let start = i / (cout * cin * p.k * p.k) * p.chunk;
    var sum = 0.0;
    for (var image = start; image < min(start + p.chunk, p.n); image++) {
        for (var oy = 0u; oy < p.oh; oy++) {
            let iy = oy * p.stride + ky - p.pad; // wraps above the image
            if (iy >= p.h) {
                continue;
            }
            for (var ox = 0u; ox < p.ow; ox++) {
                let ix = ox * p.stride + kx - p.pad;
                if (ix < p.w) {
                    sum = fma(x[((image * p.h + iy) * p.w + ix) * cin + ci], dy[((image * p.oh + oy) * p.ow + ox) * cout + co], sum);
                }
            }
        }
    }
    part[i] = sum;
}
