// One SGD step of all DenseShift latents straight from g = dL/dW: the gradients of dense_shift_backward and PyTorch's SGD with the
// latents' rate, without gradients in memory. One invocation four weights.
const T: u32 = 3u; // shift latents: 2^(bits − 1) − 1
struct Params {
    groups: u32,     // workgroups in the table
    shifts: u32,     // T, which is compiled in
    nesterov: u32,   // 0 or 1
    rate: f32,       // the latents' learning rate
    plain_rate: f32, // that of plain layers
    momentum: f32,
    decay: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> dweight: array<f32>;         // [k, k, cin, cout] a layer
@group(0) @binding(3) var<storage, read_write> params: array<f32>;    // sign, shift1 … shiftT a layer
@group(0) @binding(4) var<storage, read_write> velocity: array<f32>;  // as params

@compute @workgroup_size(64)
fn dense_shift_update(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
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
            advance(s.base + i, g, p.plain_rate);
            continue;
        }
        let gates = shift_gates(s, i, 1u, T);
        let d = dense_shift_gradient(gates, T, params[s.base + i], g);
        advance(s.base + i, g * d.root, p.rate);
        for (var t = 1u; t <= T; t++) {
            advance(s.base + t * s.stride + i, shift_gradient(gates, t, T, d.ds), p.rate);
        }
    }
}
