// dbeta = Σ g and dgamma = Σ g · x̂ over all tiles, with m pixels; and what the input gradient needs of a channel:
// coef[·, c] = mean, gamma/√(var + eps), dbeta/m, dgamma/(m·√(var + eps)). One workgroup a vec4 of channels.
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
@group(0) @binding(1) var<storage, read> part: array<vec4<f32>>;         // [tiles, 2, c4]
@group(0) @binding(2) var<storage, read> stats: array<vec4<f32>>;        // [2, c4]: mean, 1/√(var + eps)
@group(0) @binding(3) var<storage, read> params: array<vec4<f32>>;       // gamma
@group(0) @binding(4) var<storage, read_write> coef: array<vec4<f32>>;   // [4, c4]
@group(0) @binding(5) var<storage, read_write> grads: array<vec4<f32>>;  // dgamma, dbeta

@compute @workgroup_size(64)
fn bn_backward_merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let c = group_index(group, groups);
    var sum = vec4(0.0);
    var dot = vec4(0.0);
    if (c < p.c4) {
        for (var t = lane; t < p.tiles; t += 64u) {
            sum += part[t * 2u * p.c4 + c];
            dot += part[(t * 2u + 1u) * p.c4 + c];
        }
    }
    sum = reduce_sum(lane, sum);
    dot = reduce_sum(lane, dot);
    if (lane == 0u && c < p.c4) {
        let inv = stats[p.c4 + c];
        let m = f32(p.pixels);
        coef[c] = stats[c];
        coef[p.c4 + c] = inv * params[p.weight + c];
        coef[2u * p.c4 + c] = sum / m;
        coef[3u * p.c4 + c] = inv * dot / m;
        grads[p.bias + c] = sum;
        grads[p.weight + c] = dot;
    }
}
