// Gradients of the DenseShift latents from g = dL/dW, through the surrogate sgn(sign) · sqrt(s_T + 1) of W:
//   dsign = g · sqrt(s_T + 1),   ds_T = g · sgn(sign) / (2 · sqrt(s_T + 1)),
//   dshift_t = ds_T · (Π_{k > t} [shift_k > 0]) · (s_{t−1} + 1).
// One invocation four weights.
const T: u32 = 3u; // shift latents: 2^(bits − 1) − 1
struct Params {
    groups: u32,  // workgroups in the table
    shifts: u32,  // T, which is compiled in
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;       // sign, shift1 … shiftT a layer
@group(0) @binding(3) var<storage, read> dweight: array<f32>;      // [k, k, cin, cout] a layer
@group(0) @binding(4) var<storage, read_write> grads: array<f32>;  // as params

@compute @workgroup_size(64)
fn dense_shift_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let group_at = group_index(group, groups);
    if (group_at >= p.groups) {
        return;
    }
    let s = segment_of(group_at, p.groups);
    let first = first_weight(s, group_at, lane);
    for (var at = first; at.i < end_weight(s, first); at = next_weight(s, at)) {
        let i = at.i;
        let g = dweight[weight_index(s, at)];
        if (s.plain == 1u) {
            grads[s.base + i] = g;
            continue;
        }
        let gates = shift_gates(s, i, 1u, T);
        let d = dense_shift_gradient(gates, T, params[s.base + i], g);
        grads[s.base + i] = g * d.root;
        for (var t = 1u; t <= T; t++) {
            grads[s.base + t * s.stride + i] = shift_gradient(gates, t, T, d.ds);
        }
    }
}
