// y[n, c] = (Σ_pixel x[n, pixel, c] + half) >> preshift, int32. One invocation four channels of an image.
struct Params {
    n: u32,
    hw: u32,       // pixels of an image
    c4: u32,
    preshift: u32,
    signed_x: u32, // 1: int8, 0: uint8
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;              // [n, hw, c4]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<i32>>;  // [n, c4]

@compute @workgroup_size(64)
fn int_global_sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.c4) {
        return;
    }
    var sum = vec4(0);
    for (var pixel = 0u; pixel < p.hw; pixel++) {
        sum += unpack_bytes(x[(i / p.c4 * p.hw + pixel) * p.c4 + i % p.c4], p.signed_x == 1u);
    }
    let half = select(0, 1i << ((p.preshift - 1u) & 31u), p.preshift > 0u);
    y[i] = (sum + vec4(half)) >> vec4(p.preshift);
}
