// part[t, 0, c] = Σ dy and part[t, 1, c] = Σ dy · x̂ over tile t, with x̂ = (x − mean)/√(var + eps).
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
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;           // [pixels, c4]
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;          // [pixels, c4]
@group(0) @binding(3) var<storage, read> stats: array<vec4<f32>>;       // [2, c4]
@group(0) @binding(4) var<storage, read_write> part: array<vec4<f32>>;  // [tiles, 2, c4]

@compute @workgroup_size(64)
fn bn_backward_stats(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.tiles * p.c4) {
        return;
    }
    let c = i % p.c4;
    let tile = i / p.c4;
    let start = tile * p.tile;
    let mean = stats[c];
    var sum = vec4(0.0);
    var dot = vec4(0.0);
    for (var pixel = start; pixel < min(start + p.tile, p.pixels); pixel++) {
        let g = dy[pixel * p.c4 + c];
        sum += g;
        dot = fma(g, x[pixel * p.c4 + c] - mean, dot);
    }
    part[tile * 2u * p.c4 + c] = sum;
    part[(tile * 2u + 1u) * p.c4 + c] = dot * stats[p.c4 + c];
}
