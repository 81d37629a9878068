// A layer's Δ = 0.7 · mean|weight| and α = mean |weight| over |weight| > Δ, 0 where there is none; α = 1 without scale. One workgroup a
// layer; sums in blocks of 16, so that the error of a long one stays small.
struct Params {
    groups: u32,    // workgroups in the table of the composition
    segments: u32,  // layers in it
    unit: u32,      // 1: α = 1
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;        // weight
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;  // Δ, α a layer

// Σ |weight| over this invocation's weights above a threshold, and how many they are.
fn sum_above(s: Segment, lane: u32, threshold: f32) -> vec4<f32> {
    var sum = 0.0;
    var count = 0u;
    for (var first = lane; first < s.count; first += 1024u) {
        var block = 0.0;
        for (var i = first; i < min(first + 1024u, s.count); i += 64u) {
            let size = abs(params[s.base + i]);
            block += select(0.0, size, size > threshold);
            count += u32(size > threshold);
        }
        sum += block;
    }
    return vec4(sum, f32(count), 0.0, 0.0);
}

@compute @workgroup_size(64)
fn twn_scales(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let at = group_index(group, groups);
    let s = segment_at(p.groups + 12u * min(at, p.segments - 1u));
    let all = reduce_sum(lane, sum_above(s, lane, -1.0));
    let threshold = 0.7 * (all.x / f32(s.count));
    let above = reduce_sum(lane, sum_above(s, lane, threshold));
    if (lane == 0u && at < p.segments && s.plain == 0u) {
        scales[s.aux] = threshold;
        scales[s.aux + 1u] = select(select(0.0, above.x / above.y, above.y > 0.0), 1.0, p.unit == 1u);
    }
}
