// Σ |weight| over a workgroup's weights and how many these are; or over those of them above the layer's Δ. Behind the layer's Δ and α.
struct Params {
    groups: u32,  // workgroups in the table
    above: u32,   // 1: of weights above Δ alone
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;        // weight
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;  // Δ, α, two words unused, then Σ and count a workgroup; a layer

@compute @workgroup_size(64)
fn twn_sums(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let g = group_index(group, groups);
    let s = segment_of(min(g, p.groups - 1u), p.groups);
    let mine = g < p.groups && s.plain == 0u;
    var sum = vec4(0.0);
    if (mine) {
        let threshold = select(-1.0, scales[s.aux], p.above == 1u);
        let first = (g - s.group) * 256u;
        for (var i = first + lane; i < min(first + 256u, s.count); i += 64u) {
            let size = abs(params[s.base + i]);
            sum += select(vec4(0.0), vec4(size, 1.0, 0.0, 0.0), size > threshold);
        }
    }
    let total = reduce_sum(lane, sum);
    if (lane == 0u && mine) {
        let at = s.aux + 4u + 2u * (g - s.group);
        scales[at] = total.x;
        scales[at + 1u] = total.y;
    }
}
