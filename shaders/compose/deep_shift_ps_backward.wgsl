// Gradients of the DeepShift-PS latents from g = dL/dW, with p = 2^{round(shift)} and σ = sign(round(sign)), `shift` clamped before:
//   dshift = g · σ · p · ln 2,   dsign = g, not times p, as its authors' product has it.
// One invocation four weights.
struct Params {
    groups: u32,  // workgroups in the table
    range: u32,   // 2^(bits − 1) − 2
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;       // shift, sign a layer
@group(0) @binding(3) var<storage, read> dweight: array<f32>;      // [k, k, cin, cout] a layer
@group(0) @binding(4) var<storage, read_write> grads: array<f32>;  // as params

@compute @workgroup_size(64)
fn deep_shift_ps_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
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
        let power = pow2i(i32(round(params[s.base + i])));
        grads[s.base + i] = g * sign(round(params[s.base + s.stride + i])) * power * 0.6931471805599453;
        grads[s.base + s.stride + i] = g;
    }
}
