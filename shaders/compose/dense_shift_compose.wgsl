// W = sgn(sign) · 2^{s_T}, into both padded layouts; W = weight in plain layers. One invocation four weights.
const T: u32 = 3u; // shift latents: 2^(bits − 1) − 1
struct Params {
    groups: u32,  // workgroups in the table
    shifts: u32,  // T, which is compiled in
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;          // sign, shift1 … shiftT a layer
@group(0) @binding(3) var<storage, read_write> weight: array<f32>;    // [k, k, cin, cout] a layer
@group(0) @binding(4) var<storage, read_write> weight_t: array<f32>;  // [k, k, cout, cin] a layer

@compute @workgroup_size(64)
fn dense_shift_compose(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let group_at = group_index(group, groups);
    if (group_at >= p.groups) {
        return;
    }
    let s = segment_of(group_at, p.groups);
    let first = first_weight(s, group_at, lane);
    for (var at = first; at.i < end_weight(s, first); at = next_weight(s, at)) {
        let i = at.i;
        let sign = params[s.base + i];
        var w = sign;
        if (s.plain == 0u) {
            let power = pow2i(i32(shift_exponent(shift_gates(s, i, 1u, T), T)));
            w = select(-power, power, sign >= 0.0);
        }
        weight[weight_index(s, at)] = w;
        weight_t[transposed_index(s, at)] = w;
    }
}
