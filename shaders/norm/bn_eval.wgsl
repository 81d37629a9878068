// y = relu((x − running mean) · (gamma / √(running variance + eps)) + beta + residual); residual and ReLU as the constants say.
// One invocation eight vec4.
const RESIDUAL: u32 = 0u;
const RELU: u32 = 0u;
struct Params {
    pixels: u32,       // n · h · w
    c4: u32,           // channels / 4, rounded up
    tile: u32,         // pixels in one partial result
    tiles: u32,        // ⌈pixels / tile⌉
    weight: u32,       // first vec4 of gamma in the parameter and gradient slabs
    bias: u32,         // first vec4 of beta there
    running_mean: u32, // first vec4 in the state slab
    running_var: u32,
    eps: f32,
    momentum: f32,
    residual: u32,     // 1: a residual is added behind the normalization
    relu: u32,         // 1: a ReLU follows
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // [pixels, c4]
@group(0) @binding(2) var<storage, read> state: array<vec4<f32>>;    // running values
@group(0) @binding(3) var<storage, read> params: array<vec4<f32>>;   // gamma, beta
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>; // [pixels, c4]; x where there is none
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;  // [pixels, c4]

@compute @workgroup_size(64)
fn bn_eval(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    // Eight elements a whole number of pixels apart share a channel, and with it the division and the parameters.
    let step = (p.pixels + 7u) / 8u * p.c4;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= step) {
        return;
    }
    let c = i % p.c4;
    let mean = state[p.running_mean + c];
    let scale = rsqrt(state[p.running_var + c] + p.eps) * params[p.weight + c];
    let bias = params[p.bias + c];
    for (var at = i; at < p.pixels * p.c4; at += step) {
        var v = fma(x[at] - mean, scale, bias);
        if (RESIDUAL == 1u) {
            v += residual[at];
        }
        if (RELU == 1u) {
            v = select(v, vec4(0.0), v <= vec4(0.0)); // unlike max, lets NaN through to the loss
        }
        y[at] = v;
    }
}
