// logits[n, k] = Σ_f x[n, f]·weight[k, f] + bias[k], a weight as up to four signed binary digits: no multiplication.
// One invocation a logit.
struct Params {
    n: u32,
    features: u32,
    stride: u32,  // words from one image's features to the next
    classes: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<i32>;             // [n, stride]
@group(0) @binding(2) var<storage, read> weight: array<u32>;        // [classes, features], four digit codes each
@group(0) @binding(3) var<storage, read> bias: array<i32>;          // [classes]
@group(0) @binding(4) var<storage, read_write> logits: array<i32>;  // [n, classes]

@compute @workgroup_size(64)
fn int_classifier(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.classes) {
        return;
    }
    let image = i / p.classes;
    let label = i % p.classes;
    var sum = vec4(0); // by digit
    for (var f = 0u; f < p.features; f++) {
        let codes = (vec4(weight[label * p.features + f]) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
        sum += times_digit(vec4(x[image * p.stride + f]), codes);
    }
    logits[i] = sum.x + sum.y + sum.z + sum.w + bias[label];
}
