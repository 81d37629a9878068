// part[out + g] = Σ max(−sparse, 0) over the weights of workgroup g: the dense-weight regularizer without its factor.
struct Params {
    groups: u32,  // workgroups in the table
    out: u32,     // first partial sum
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;      // sign, sparse, … a layer
@group(0) @binding(3) var<storage, read_write> part: array<f32>;  // [groups] at out

@compute @workgroup_size(64)
fn s3_regularizer(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let g = group_index(group, groups);
    var v = 0.0;
    if (g < p.groups) {
        let s = segment_of(g, p.groups);
        let first = first_weight(s, g, lane);
        for (var at = first; at.i < end_weight(s, first); at = next_weight(s, at)) {
            let i = at.i;
            if (s.plain == 0u) {
                v += max(-params[s.base + s.stride + i], 0.0);
            }
        }
    }
    let sum = reduce_sum(lane, vec4(v, 0.0, 0.0, 0.0));
    if (lane == 0u && g < p.groups) {
        part[p.out + g] = sum.x;
    }
}
