// max|W| of each layer, and max|latent| where one latent is quantized to W, as bits: those of floats ≥ 0 are ordered as the floats are.
// One invocation four weights.
struct Params {
    groups: u32,  // workgroups in the table
    first: u32,   // counters of the table's first layer
    latent: u32,  // 1: what is not plain has one latent, which is quantized to W
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;                   // [k, k, cin, cout] a layer
@group(0) @binding(4) var<storage, read_write> counters: array<atomic<u32>>;  // [layers, 264]

var<workgroup> most: array<atomic<u32>, 2>;

@compute @workgroup_size(64)
fn weight_max(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let g = group_index(group, groups);
    if (g < p.groups) {
        let s = segment_of(g, p.groups);
        let first = first_weight(s, g, lane);
        for (var at = first; at.i < end_weight(s, first); at = next_weight(s, at)) {
            atomicMax(&most[0], magnitude(weight[weight_index(s, at)]));
            if (p.latent == 1u && s.plain == 0u) {
                atomicMax(&most[1], magnitude(params[s.base + at.i]));
            }
        }
    }
    workgroupBarrier();
    if (g < p.groups && lane < 2u) {
        atomicMax(&counters[counters_of(p.first, table[g]) + MAX + lane], atomicLoad(&most[lane]));
    }
}
