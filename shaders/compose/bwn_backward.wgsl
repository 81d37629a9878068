// dL/dweight = g · [|weight| ≤ 1] of BWN and BinaryConnect from g = dL/dW; g in plain layers. One invocation four weights.
struct Params {
    groups: u32,  // workgroups in the table
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;       // weight
@group(0) @binding(3) var<storage, read> dweight: array<f32>;      // [k, k, cin, cout] a layer
@group(0) @binding(4) var<storage, read_write> grads: array<f32>;  // as params

@compute @workgroup_size(64)
fn bwn_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let group_at = group_index(group, groups);
    if (group_at >= p.groups) {
        return;
    }
    let s = segment_of(group_at, p.groups);
    let first = first_weight(s, group_at, lane);
    for (var at = first; at.i < end_weight(s, first); at = next_weight(s, at)) {
        let i = at.i;
        let kept = s.plain == 1u || abs(params[s.base + i]) <= 1.0;
        grads[s.base + i] = select(0.0, dweight[weight_index(s, at)], kept);
    }
}
