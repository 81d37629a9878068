// y = clamp(((a << left) + (b << right) + half) >> out): a residual addition at one scale. One invocation a word of four channels.
struct Params {
    words: u32,
    left: u32,
    right: u32,
    out: u32,
    signed_a: u32, // 1: int8, 0: uint8
    signed_b: u32,
    signed_y: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn int_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.words) {
        return;
    }
    let half = select(0, 1i << ((p.out - 1u) & 31u), p.out > 0u);
    let u = unpack_bytes(a[i], p.signed_a == 1u) << vec4(p.left);
    let v = unpack_bytes(b[i], p.signed_b == 1u) << vec4(p.right);
    y[i] = pack_bytes((u + v + vec4(half)) >> vec4(p.out), p.signed_y == 1u);
}
