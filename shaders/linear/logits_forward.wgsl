// y[n, k] = scale · x[n, k] + bias[k], out of the padding. One invocation an output.
struct Params {
    n: u32,
    stride: u32,   // words from one image of x to the next: classes rounded up to a multiple of 4
    classes: u32,
    bias: u32,     // first word in the parameter and gradient slabs, [classes]
    scale: f32,    // a power of two
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [n, stride]
@group(0) @binding(2) var<storage, read> params: array<f32>;   // bias
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [n, classes]

@compute @workgroup_size(64)
fn logits_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i < p.n * p.classes) {
        let k = i % p.classes;
        y[i] = fma(p.scale, x[i / p.classes * p.stride + k], params[p.bias + k]);
    }
}
