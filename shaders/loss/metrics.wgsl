// ring[slot] = Σ loss, Σ regularizer parts, images with rank 0, images with rank < 5, images: a step's figures, kept on the GPU until
// the host asks. One workgroup; each invocation adds every 64th value, then the 64 sums are added pairwise.
struct Params {
    n: u32,
    parts: u32,  // regularizer partial sums
    slot: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> loss: array<f32>;         // [n]
@group(0) @binding(2) var<storage, read> rank: array<u32>;         // [n]
@group(0) @binding(3) var<storage, read> regularizer: array<f32>;  // [parts]
@group(0) @binding(4) var<storage, read_write> ring: array<f32>;   // [slots, 8]

@compute @workgroup_size(64)
fn metrics(@builtin(local_invocation_index) lane: u32) {
    var sums = vec4(0.0);
    for (var i = lane; i < p.n; i += 64u) {
        sums += vec4(loss[i], 0.0, f32(rank[i] == 0u), f32(rank[i] < 5u));
    }
    for (var i = lane; i < p.parts; i += 64u) {
        sums.y += regularizer[i];
    }
    sums = reduce_sum(lane, sums);
    if (lane == 0u) {
        ring[8u * p.slot] = sums.x;
        ring[8u * p.slot + 1u] = sums.y;
        ring[8u * p.slot + 2u] = sums.z;
        ring[8u * p.slot + 3u] = sums.w;
        ring[8u * p.slot + 4u] = f32(p.n);
    }
}
