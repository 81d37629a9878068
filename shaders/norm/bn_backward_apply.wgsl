// dx = gamma/√(var + eps) · (dy − Σdy/m − x̂ · Σ(dy·x̂)/m) with m = pixels and x̂ = (x − mean)/√(var + eps). One invocation eight vec4.
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
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // [pixels, c4]
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;        // [pixels, c4]
@group(0) @binding(3) var<storage, read> coef: array<vec4<f32>>;      // [4, c4], from the merge
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;  // [pixels, c4]

@compute @workgroup_size(64)
fn bn_backward_apply(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    // Eight elements a whole number of pixels apart share a channel, and with it the division and the parameters.
    let step = (p.pixels + 7u) / 8u * p.c4;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= step) {
        return;
    }
    let c = i % p.c4;
    let mean = coef[c];
    let scale = coef[p.c4 + c];
    let mean_g = coef[2u * p.c4 + c];
    let slope = coef[3u * p.c4 + c];
    for (var at = i; at < p.pixels * p.c4; at += step) {
        dx[at] = scale * (dy[at] - mean_g - (x[at] - mean) * slope);
    }
}
