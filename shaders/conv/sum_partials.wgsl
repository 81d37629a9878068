// total[offset + i] = Σ_c part[c, i], c in order: the second pass of a reduction.
struct Params {
    parts: u32,
    len4: u32,    // vec4 in a part
    offset: u32,  // of the result, in vec4
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> part: array<vec4<f32>>;         // [parts, len4]
@group(0) @binding(2) var<storage, read_write> total: array<vec4<f32>>;  // [len4] at offset

@compute @workgroup_size(64)
fn sum_partials(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.len4) {
        return;
    }
    var sum = part[i];
    for (var c = 1u; c < p.parts; c++) {
        sum += part[c * p.len4 + i];
    }
    total[p.offset + i] = sum;
}
