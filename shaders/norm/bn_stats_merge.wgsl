// stats[0, c] = mean, stats[1, c] = 1/√(biased variance + eps) over all tiles, merged by Chan's rule; the running mean and the running
// (unbiased) variance move towards them by `momentum`. One workgroup a vec4 of channels: each invocation merges every 64th tile,
// then the 64 results are merged pairwise.
struct Params {
    pixels: u32,       // n · h · w
    c4: u32,           // channels / 4, rounded up
    tile: u32,         // pixels in one partial result
    tiles: u32,        // ⌈pixels / tile⌉
    weight: u32,       // first vec4 of gamma in the parameter and gradient slabs
    bias: u32,         // first vec4 of beta there
    running_mean: u32, // first vec4 in the state slab
    running_var: u32,
    eps: f32,
    momentum: f32,
    residual: u32,     // 1: a residual is added behind the normalization
    relu: u32,         // 1: a ReLU follows
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> part: array<vec4<f32>>;         // [tiles, 2, c4]
@group(0) @binding(2) var<storage, read_write> stats: array<vec4<f32>>;  // [2, c4]
@group(0) @binding(3) var<storage, read_write> state: array<vec4<f32>>;  // running values

struct Moments {
    mean: vec4<f32>,
    m2: vec4<f32>,
    n: f32,
}
var<workgroup> moments: array<Moments, 64>;

fn merge(a: Moments, b: Moments) -> Moments {
    if (b.n == 0.0) {
        return a;
    }
    let n = a.n + b.n;
    let d = b.mean - a.mean;
    let share = b.n / n;
    return Moments(fma(d, vec4(share), a.mean), a.m2 + b.m2 + d * d * (a.n * share), n);
}

@compute @workgroup_size(64)
fn bn_stats_merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let c = group_index(group, groups);
    var m = Moments(vec4(0.0), vec4(0.0), 0.0);
    if (c < p.c4) {
        for (var t = lane; t < p.tiles; t += 64u) {
            let n = f32(min(p.tile, p.pixels - t * p.tile));
            m = merge(m, Moments(part[t * 2u * p.c4 + c], part[(t * 2u + 1u) * p.c4 + c], n));
        }
    }
    moments[lane] = m;
    for (var half = 32u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (lane < half) {
            moments[lane] = merge(moments[lane], moments[lane + half]);
        }
    }
    if (lane == 0u && c < p.c4) {
        let all = moments[0];
        stats[c] = all.mean;
        stats[p.c4 + c] = rsqrt(all.m2 / f32(p.pixels) + p.eps);
        let unbiased = all.m2 / f32(max(p.pixels, 2u) - 1u);
        state[p.running_mean + c] = mix_running(state[p.running_mean + c], all.mean);
        state[p.running_var + c] = mix_running(state[p.running_var + c], unbiased);
    }
}

fn mix_running(before: vec4<f32>, now: vec4<f32>) -> vec4<f32> {
    return fma(vec4(p.momentum), now, (1.0 - p.momentum) * before);
}
