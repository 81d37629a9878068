// From the sums of twn_sums a layer's Δ = 0.7 · mean|weight|, with α = 1; or α = mean |weight| over |weight| > Δ, 0 where there is none.
// One workgroup a layer.
struct Params {
    groups: u32,    // workgroups in the table of the composition
    segments: u32,  // layers in it
    above: u32,     // 1: α from the sums of weights above Δ
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;  // Δ, α, two words unused, then Σ and count a part; a layer

@compute @workgroup_size(64)
fn twn_scales(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let at = group_index(group, groups);
    let s = segment_at(p.groups + 12u * min(at, p.segments - 1u));
    let mine = at < p.segments && s.plain == 0u;
    var sum = vec2(0.0);
    if (mine) {
        for (var part = lane; part < (s.count + 16383u) / 16384u; part += 64u) {
            let word = s.aux + 4u + 2u * part;
            sum += vec2(scales[word], scales[word + 1u]);
        }
    }
    let total = reduce_sum(lane, vec4(sum, 0.0, 0.0));
    if (lane == 0u && mine) {
        if (p.above == 1u) {
            scales[s.aux + 1u] = select(0.0, total.x / total.y, total.y > 0.0);
        } else {
            scales[s.aux] = 0.7 * (total.x / total.y);
            scales[s.aux + 1u] = 1.0;
        }
    }
}
