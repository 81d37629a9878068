// W = weight: copies the latent into the padded layouts that the convolutions read. One invocation four weights.
struct Params {
    groups: u32,  // workgroups in the table
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;
@group(0) @binding(3) var<storage, read_write> weight: array<f32>;    // [k, k, cin, cout] a layer
@group(0) @binding(4) var<storage, read_write> weight_t: array<f32>;  // [k, k, cout, cin] a layer

@compute @workgroup_size(64)
fn fp32_compose(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let g = group_index(group, groups);
    if (g >= p.groups) {
        return;
    }
    let s = segment_of(g, p.groups);
    let first = first_weight(s, g, lane);
    for (var at = first; at.i < end_weight(s, first); at = next_weight(s, at)) {
        let i = at.i;
        let w = params[s.base + i];
        weight[weight_index(s, at)] = w;
        weight_t[transposed_index(s, at)] = w;
    }
}
