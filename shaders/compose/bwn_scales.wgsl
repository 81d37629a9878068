// α = mean|weight| of each output channel of a layer; 1 without scale. `parts` workgroups a layer take 16 channels each in turn, a cache
// line of a row, with four invocations a channel; sums in blocks of 16, so that the error of a long one stays small.
struct Params {
    groups: u32,    // workgroups in the table of the composition
    segments: u32,  // layers in it
    parts: u32,     // of 16384 weights in the largest layer
    unit: u32,      // 1: α = 1
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;        // weight, [k, k, cin, cout] a layer
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;  // α, [cout] a layer

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn bwn_scales(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let at = group_index(group, groups);
    let s = segment_at(p.groups + 12u * min(at / p.parts, p.segments - 1u));
    if (at >= p.segments * p.parts || s.plain == 1u) {
        return;
    }
    let rows = s.taps * s.cin;
    for (var channel = 16u * (at % p.parts); channel < s.cout; channel += 16u * p.parts) {
        let co = channel + lane % 16u;
        var sum = 0.0;
        if (co < s.cout && p.unit == 0u) {
            for (var first = lane / 16u; first < rows; first += 64u) {
                var block = 0.0;
                for (var row = first; row < min(first + 64u, rows); row += 4u) {
                    block += abs(params[s.base + row * s.cout + co]);
                }
                sum += block;
            }
        }
        sums[lane] = sum;
        for (var half = 32u; half >= 16u; half >>= 1u) {
            workgroupBarrier();
            if (lane < half) {
                sums[lane] += sums[lane + half];
            }
        }
        if (lane < 16u && co < s.cout) {
            scales[s.aux + co] = select(sums[lane] / f32(rows), 1.0, p.unit == 1u);
        }
        workgroupBarrier();
    }
}
