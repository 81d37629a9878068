// y[n, k] = bias[k] + Σ_c x[n, c] · weight[k, c]. One invocation an output.
struct Params {
    n: u32,
    features: u32, // inputs that exist
    stride: u32,   // words from one image of x to the next: features rounded up to a multiple of 4
    classes: u32,
    weight: u32,   // first word in the parameter and gradient slabs, [classes, features]
    bias: u32,     // [classes]
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [n, stride]
@group(0) @binding(2) var<storage, read> params: array<f32>;   // weight, bias
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [n, classes]

@compute @workgroup_size(64)
fn linear_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.classes) {
        return;
    }
    let k = i % p.classes;
    let image = i / p.classes;
    var sum = params[p.bias + k];
    for (var c = 0u; c < p.features; c++) {
        sum = fma(x[image * p.stride + c], params[p.weight + k * p.features + c], sum);
    }
    y[i] = sum;
}
