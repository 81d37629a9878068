// dx[n, c] = Σ_k dy[n, k] · weight[k, c], zero in the padding. One invocation an input gradient.
struct Params {
    n: u32,
    features: u32, // inputs that exist
    stride: u32,   // words from one image of x to the next: features rounded up to a multiple of 4
    classes: u32,
    weight: u32,   // first word in the parameter and gradient slabs, [classes, features]
    bias: u32,     // [classes]
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;        // [n, classes]
@group(0) @binding(2) var<storage, read> params: array<f32>;    // weight
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;  // [n, stride]

@compute @workgroup_size(64)
fn linear_backward_input(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.stride) {
        return;
    }
    let c = i % p.stride;
    let image = i / p.stride;
    var sum = 0.0;
    if (c < p.features) {
        for (var k = 0u; k < p.classes; k++) {
            sum = fma(dy[image * p.classes + k], params[p.weight + k * p.features + c], sum);
        }
    }
    dx[i] = sum;
}
