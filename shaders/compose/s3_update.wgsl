// One SGD step of all S3 latents straight from g = dL/dW: the straight-through gradients of s3_backward, the regularizer's sum before the
// step, and PyTorch's SGD with the latents' rate, without gradients in memory. One invocation four weights.
const T: u32 = 2u; // shift latents: 2^(bits − 1) − 2
struct Params {
    groups: u32,    // workgroups in the table
    shifts: u32,    // T, which is compiled in
    alpha: f32,     // factor of the dense-weight regularizer
    out: u32,       // first partial sum
    nesterov: u32,  // 0 or 1
    rate: f32,      // the latents' learning rate
    plain_rate: f32, // that of plain layers
    momentum: f32,
    decay: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> dweight: array<f32>;         // [k, k, cin, cout] a layer
@group(0) @binding(3) var<storage, read_write> params: array<f32>;    // sign, sparse, shift1 … shiftT a layer
@group(0) @binding(4) var<storage, read_write> velocity: array<f32>;  // as params
@group(0) @binding(5) var<storage, read_write> part: array<f32>;      // [groups] at out: Σ max(−sparse, 0)

@compute @workgroup_size(64)
fn s3_update(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let group_at = group_index(group, groups);
    var penalty = 0.0;
    if (group_at < p.groups) {
        let s = segment_of(group_at, p.groups);
        let first = first_weight(s, group_at, lane);
        for (var at = first; at.i < end_weight(s, first); at = next_weight(s, at)) {
            let i = at.i;
            let g = dweight[weight_index(s, at)];
            if (s.plain == 1u) {
                advance(s.base + i, g, p.plain_rate);
                continue;
            }
            let gates = shift_gates(s, i, 2u, T);
            let power = pow2i(i32(shift_exponent(gates, T)));
            let sparse = params[s.base + s.stride + i];
            let signed_power = select(-power, power, params[s.base + i] >= 0.0);
            let kept = sparse > 0.0;
            penalty += max(-sparse, 0.0);
            advance(s.base + i, select(0.0, g * power, kept), p.rate);
            advance(s.base + s.stride + i, g * signed_power - select(0.0, p.alpha, sparse < 0.0), p.rate);
            let ds = select(0.0, g * signed_power * 0.6931471805599453, kept);
            for (var t = 1u; t <= T; t++) {
                advance(s.base + (1u + t) * s.stride + i, shift_gradient(gates, t, T, ds), p.rate);
            }
        }
    }
    let sum = reduce_sum(lane, vec4(penalty, 0.0, 0.0, 0.0));
    if (lane == 0u && group_at < p.groups) {
        part[p.out + group_at] = sum.x;
    }
}
