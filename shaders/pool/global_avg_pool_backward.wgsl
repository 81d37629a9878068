// dx[n, pixel, c] = dy[n, c] / hw, where the pool's input is a ReLU's output only with its gate open. One invocation a vec4.
const RELU: u32 = 0u;
struct Params {
    n: u32,
    hw: u32, // pixels of an image
    c4: u32,
    relu: u32, // 1: a ReLU gates the gradient
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;        // [n, c4]
@group(0) @binding(2) var<storage, read> gate: array<vec4<f32>>;      // [n, hw, c4]: the ReLU's output; dy where there is none
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>;  // [n, hw, c4]

@compute @workgroup_size(64)
fn global_avg_pool_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i < p.n * p.hw * p.c4) {
        var v = dy[i / (p.hw * p.c4) * p.c4 + i % p.c4] / f32(p.hw);
        if (RELU == 1u) {
            v = select(vec4(0.0), v, gate[i] > vec4(0.0));
        }
        dx[i] = v;
    }
}
