// total ← part, or total + part: the gradients of a step that is computed in parts. One invocation a vec4.
struct Params {
    len4: u32,
    keep: u32,  // 0: the sum begins with this part
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> part: array<vec4<f32>>;         // [len4]
@group(0) @binding(2) var<storage, read_write> total: array<vec4<f32>>;  // [len4]

@compute @workgroup_size(64)
fn accumulate(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.len4) {
        return;
    }
    if (p.keep == 1u) {
        total[i] += part[i];
    } else {
        total[i] = part[i];
    }
}
