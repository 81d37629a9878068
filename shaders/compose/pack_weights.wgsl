// Both weight slabs as bytes, four to a word. One invocation a vec4 of each.
struct Params {
    len4: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;      // [len4]
@group(0) @binding(2) var<storage, read> weight_t: array<vec4<f32>>;    // [len4]
@group(0) @binding(3) var<storage, read_write> packed: array<u32>;      // [len4]
@group(0) @binding(4) var<storage, read_write> packed_t: array<u32>;    // [len4]

@compute @workgroup_size(64)
fn pack_weights(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.len4) {
        return;
    }
    packed[i] = pack_word(weight[i]);
    packed_t[i] = pack_word(weight_t[i]);
}
