// dx[n, k] = scale · dy[n, k], zero in the padding; dbias[k] = Σ_n dy[n, k], into the gradient slab. One invocation a word of dx, then one a
// bias.
struct Params {
    n: u32,
    stride: u32,   // words from one image of x to the next: classes rounded up to a multiple of 4
    classes: u32,
    bias: u32,     // first word in the parameter and gradient slabs, [classes]
    scale: f32,    // a power of two
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;           // [n, classes]
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;     // [n, stride]
@group(0) @binding(3) var<storage, read_write> grads: array<f32>;  // dbias

@compute @workgroup_size(64)
fn logits_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    let words = p.n * p.stride;
    if (i < words) {
        let k = i % p.stride;
        var value = 0.0;
        if (k < p.classes) {
            value = p.scale * dy[i / p.stride * p.classes + k];
        }
        dx[i] = value;
    } else if (i < words + p.classes) {
        let k = i - words;
        var sum = 0.0;
        for (var image = 0u; image < p.n; image++) {
            sum += dy[image * p.classes + k];
        }
        grads[p.bias + k] = sum;
    }
}
