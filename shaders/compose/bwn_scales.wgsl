// α = mean|weight| of each output channel of a layer; 1 without scale. The layer's first workgroups take eight channels each, with eight
// invocations a channel; sums in blocks of 16, so that the error of a long one stays small.
struct Params {
    groups: u32,  // workgroups in the table
    unit: u32,    // 1: α = 1
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;        // weight, [k, k, cin, cout] a layer
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;  // α, [cout] a layer

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn bwn_scales(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let g = group_index(group, groups);
    if (g >= p.groups) {
        return;
    }
    let s = segment_of(g, p.groups);
    if (s.plain == 1u) {
        return;
    }
    let rows = s.taps * s.cin;
    let stride = 8u * ((s.count + 255u) / 256u); // channels of all workgroups of the layer
    for (var channel = 8u * (g - s.group); channel < s.cout; channel += stride) {
        let co = channel + lane % 8u;
        var sum = 0.0;
        if (co < s.cout && p.unit == 0u) {
            for (var first = lane / 8u; first < rows; first += 128u) {
                var block = 0.0;
                for (var row = first; row < min(first + 128u, rows); row += 8u) {
                    block += abs(params[s.base + row * s.cout + co]);
                }
                sum += block;
            }
        }
        sums[lane] = sum;
        for (var half = 32u; half >= 8u; half >>= 1u) {
            workgroupBarrier();
            if (lane < half) {
                sums[lane] += sums[lane + half];
            }
        }
        if (lane < 8u && co < s.cout) {
            scales[s.aux + co] = select(sums[lane] / f32(rows), 1.0, p.unit == 1u);
        }
        workgroupBarrier();
    }
}
