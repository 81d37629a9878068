// dx = Σ dy over the windows whose largest element this is, rows first; where the input is a ReLU's output only with its gate open.
// One invocation a vec4.
const RELU: u32 = 0u;
struct Params {
    n: u32,
    h: u32,      // input
    w: u32,
    c4: u32,
    oh: u32,     // output
    ow: u32,
    k: u32,
    stride: u32,
    pad: u32,
    relu: u32, // 1: a ReLU gates the gradient
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;        // [n, oh, ow, c4]
@group(0) @binding(2) var<storage, read> tap: array<vec4<u32>>;       // [n, oh, ow, c4]
@group(0) @binding(3) var<storage, read> gate: array<vec4<f32>>;      // [n, h, w, c4]: the ReLU's output; dy where there is none
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;  // [n, h, w, c4]

@compute @workgroup_size(64)
fn max_pool_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.h * p.w * p.c4) {
        return;
    }
    let c = i % p.c4;
    let ix = i / p.c4 % p.w;
    let iy = i / (p.c4 * p.w) % p.h;
    let image = i / (p.c4 * p.w * p.h);
    var sum = vec4(0.0);
    for (var ky = 0u; ky < p.k; ky++) {
        let sy = iy + p.pad - ky; // wraps above the image, and is then beyond oh
        let oy = sy / p.stride;
        for (var kx = 0u; kx < p.k; kx++) {
            let sx = ix + p.pad - kx;
            let ox = sx / p.stride;
            if (sy % p.stride == 0u && sx % p.stride == 0u && oy < p.oh && ox < p.ow) {
                let o = ((image * p.oh + oy) * p.ow + ox) * p.c4 + c;
                sum += select(vec4(0.0), dy[o], tap[o] == vec4(ky * p.k + kx));
            }
        }
    }
    if (RELU == 1u) {
        sum = select(vec4(0.0), sum, gate[i] > vec4(0.0));
    }
    dx[i] = sum;
}
