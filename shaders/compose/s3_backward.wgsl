// Straight-through gradients of the S3 latents from g = dL/dW:
//   dsign = g · [sparse > 0] · 2^{s_T},   dsparse = g · sgn(sign) · 2^{s_T} − alpha · [sparse < 0],
//   dshift_t = g · W · ln 2 · (Π_{k > t} [shift_k > 0]) · (s_{t−1} + 1).
// One invocation four weights.
const T: u32 = 2u; // shift latents: 2^(bits − 1) − 2
struct Params {
    groups: u32,  // workgroups in the table
    shifts: u32,  // T, which is compiled in
    alpha: f32,   // factor of the dense-weight regularizer
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;       // sign, sparse, shift1 … shiftT a layer
@group(0) @binding(3) var<storage, read> dweight: array<f32>;      // [k, k, cin, cout] a layer
@group(0) @binding(4) var<storage, read_write> grads: array<f32>;  // as params

@compute @workgroup_size(64)
fn s3_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
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
        let gates = shift_gates(s, i, 2u, T);
        let power = pow2i(i32(shift_exponent(gates, T)));
        let sparse = params[s.base + s.stride + i];
        let signed_power = select(-power, power, params[s.base + i] >= 0.0);
        let kept = sparse > 0.0;
        grads[s.base + i] = select(0.0, g * power, kept);
        grads[s.base + s.stride + i] = g * signed_power - select(0.0, p.alpha, sparse < 0.0);
        let ds = select(0.0, g * signed_power * 0.6931471805599453, kept);
        for (var t = 1u; t <= T; t++) {
            grads[s.base + (1u + t) * s.stride + i] = shift_gradient(gates, t, T, ds);
        }
    }
}
