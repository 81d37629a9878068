// y[n, c] = (1/hw) Σ_pixel x[n, pixel, c]. One invocation a vec4.
struct Params {
    n: u32,
    hw: u32, // pixels of an image
    c4: u32,
    relu: u32, // 1: a ReLU gates the gradient
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // [n, hw, c4]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // [n, c4]

@compute @workgroup_size(64)
fn global_avg_pool(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.c4) {
        return;
    }
    var sum = vec4(0.0);
    for (var pixel = 0u; pixel < p.hw; pixel++) {
        sum += x[(i / p.c4 * p.hw + pixel) * p.c4 + i % p.c4];
    }
    y[i] = sum / f32(p.hw);
}
