// A workgroup's 64 partial values folded pairwise, in the same order on every adapter. All 64 invocations must call.
var<workgroup> reduce_scratch: array<vec4<f32>, 64>;

fn reduce_sum(lane: u32, value: vec4<f32>) -> vec4<f32> {
    reduce_scratch[lane] = value;
    for (var half = 32u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (lane < half) {
            reduce_scratch[lane] += reduce_scratch[lane + half];
        }
    }
    workgroupBarrier();
    let total = reduce_scratch[0];
    workgroupBarrier();
    return total;
}
