// Σ |weight| over a part of a layer's weights and how many these are; or over those of them above the layer's Δ. Behind its Δ and α. `parts`
// workgroups a layer, of which small layers leave some idle: few large parts, since a workgroup with barriers is dear on software adapters.
struct Params {
    groups: u32,    // workgroups in the table of the composition
    segments: u32,  // layers in it
    parts: u32,     // of 16384 weights in the largest layer
    above: u32,     // 1: of weights above Δ alone
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;        // weight
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;  // Δ, α, two words unused, then Σ and count a part; a layer

@compute @workgroup_size(64)
fn twn_sums(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let at = group_index(group, groups);
    let s = segment_at(p.groups + 12u * min(at / p.parts, p.segments - 1u));
    let part = at % p.parts;
    let first = part * 16384u;
    if (at >= p.segments * p.parts || s.plain == 1u || first >= s.count) {
        return;
    }
    let threshold = select(-1.0, scales[s.aux], p.above == 1u);
    let end = min(first + 16384u, s.count);
    var sum = vec2(0.0);
    // In blocks of 16, so that the error of a long sum stays small.
    for (var block = first + lane; block < end; block += 1024u) {
        var of_block = vec2(0.0);
        for (var i = block; i < min(block + 1024u, end); i += 64u) {
            let size = abs(params[s.base + i]);
            of_block += select(vec2(0.0), vec2(size, 1.0), size > threshold);
        }
        sum += of_block;
    }
    let total = reduce_sum(lane, vec4(sum, 0.0, 0.0));
    if (lane == 0u) {
        scales[s.aux + 4u + 2u * part] = total.x;
        scales[s.aux + 5u + 2u * part] = total.y;
    }
}
