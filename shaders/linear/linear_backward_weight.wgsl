// dweight[k, c] = Σ_n dy[n, k] · x[n, c], dbias[k] = Σ_n dy[n, k], into the gradient slab. One invocation a weight or bias.
struct Params {
    n: u32,
    features: u32, // inputs that exist
    stride: u32,   // words from one image of x to the next: features rounded up to a multiple of 4
    classes: u32,
    weight: u32,   // first word in the parameter and gradient slabs, [classes, features]
    bias: u32,     // [classes]
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // [n, stride]
@group(0) @binding(2) var<storage, read> dy: array<f32>;           // [n, classes]
@group(0) @binding(3) var<storage, read_write> grads: array<f32>;  // dweight, dbias

@compute @workgroup_size(64)
fn linear_backward_weight(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.classes * (p.features + 1u)) {
        return;
    }
    let k = i / (p.features + 1u);
    let c = i % (p.features + 1u); // the last column is the bias
    var sum = 0.0;
    for (var image = 0u; image < p.n; image++) {
        let g = dy[image * p.classes + k];
        if (c < p.features) {
            sum = fma(g, x[image * p.stride + c], sum);
        } else {
            sum += g;
        }
    }
    if (c < p.features) {
        grads[p.weight + k * p.features + c] = sum;
    } else {
        grads[p.bias + k] = sum;
    }
}
