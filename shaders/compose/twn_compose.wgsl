// TWN (2016): W = α · sign(weight) · [|weight| > Δ], with a layer's Δ and α from twn_scales, into both padded layouts; W = weight in plain
// layers. One invocation four weights.
struct Params {
    groups: u32,    // workgroups in the table
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;          // weight
@group(0) @binding(3) var<storage, read> scales: array<f32>;          // Δ, α a layer
@group(0) @binding(4) var<storage, read_write> weight: array<f32>;    // [k, k, cin, cout] a layer
@group(0) @binding(5) var<storage, read_write> weight_t: array<f32>;  // [k, k, cout, cin] a layer

@compute @workgroup_size(64)
fn twn_compose(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let group_at = group_index(group, groups);
    if (group_at >= p.groups) {
        return;
    }
    let s = segment_of(group_at, p.groups);
    let first = first_weight(s, group_at, lane);
    for (var at = first; at.i < end_weight(s, first); at = next_weight(s, at)) {
        let i = at.i;
        let latent = params[s.base + i];
        var w = latent;
        if (s.plain == 0u) {
            let scale = scales[s.aux + 1u];
            w = select(0.0, select(-scale, scale, latent > 0.0), abs(latent) > scales[s.aux]);
        }
        weight[weight_index(s, at)] = w;
        weight_t[transposed_index(s, at)] = w;
    }
}
