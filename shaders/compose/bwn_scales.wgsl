// α = mean|weight| of each output channel of a layer; 1 without scale. One workgroup a layer, one invocation every 64th channel; sums
// in blocks of 16, so that the error of a long one stays small.
struct Params {
    groups: u32,    // workgroups in the table of the composition
    segments: u32,  // layers in it
    unit: u32,      // 1: α = 1
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;        // weight, [k, k, cin, cout] a layer
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;  // α, [cout] a layer

@compute @workgroup_size(64)
fn bwn_scales(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let at = group_index(group, groups);
    if (at >= p.segments) {
        return;
    }
    let s = segment_at(p.groups + 12u * at);
    if (s.plain == 1u) {
        return;
    }
    let rows = s.taps * s.cin;
    for (var co = lane; co < s.cout; co += 64u) {
        var sum = 0.0;
        for (var first = 0u; first < rows; first += 16u) {
            var block = 0.0;
            for (var row = first; row < min(first + 16u, rows); row++) {
                block += abs(params[s.base + row * s.cout + co]);
            }
            sum += block;
        }
        scales[s.aux + co] = select(sum / f32(rows), 1.0, p.unit == 1u);
    }
}
