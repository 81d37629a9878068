// After the optimizer: INQ's frozen weights go back to what was composed of them, bit for bit, and their momentum is cleared. One
// invocation four weights.
struct Params {
    groups: u32,  // workgroups in the table
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> frozen: array<f32>;          // 0 or 1, from a layer's aux on
@group(0) @binding(3) var<storage, read> weight: array<f32>;          // [k, k, cin, cout] a layer, of the latents before the step
@group(0) @binding(4) var<storage, read_write> params: array<f32>;    // weight
@group(0) @binding(5) var<storage, read_write> velocity: array<f32>;  // as params

@compute @workgroup_size(64)
fn inq_hold(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let group_at = group_index(group, groups);
    if (group_at >= p.groups) {
        return;
    }
    let s = segment_of(group_at, p.groups);
    let first = first_weight(s, group_at, lane);
    for (var at = first; at.i < end_weight(s, first); at = next_weight(s, at)) {
        let i = at.i;
        if (s.plain == 0u && frozen[s.aux + i] != 0.0) {
            params[s.base + i] = weight[weight_index(s, at)];
            velocity[s.base + i] = 0.0;
        }
    }
}
