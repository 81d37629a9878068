// y = (x − mean) · (gamma / √(var + eps)) + beta with the batch's statistics. One invocation a vec4.
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
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // [pixels, c4]
@group(0) @binding(2) var<storage, read> stats: array<vec4<f32>>;    // [2, c4]: mean, 1/√(var + eps)
@group(0) @binding(3) var<storage, read> params: array<vec4<f32>>;   // gamma, beta
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;  // [pixels, c4]

@compute @workgroup_size(64)
fn bn_apply(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.pixels * p.c4) {
        return;
    }
    let c = i % p.c4;
    y[i] = fma(x[i] - stats[c], stats[p.c4 + c] * params[p.weight + c], params[p.bias + c]);
}
