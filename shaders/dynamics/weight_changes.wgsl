// What became of the signs of a layer's weights since the observation before, how many weights are low, and a histogram by sign and
// exponent; weight_max comes first. What was seen is kept, a word a weight: bits 0–1 of W now, 2–3 of the last W that was not zero,
// 4–5 of the latent. One invocation four weights.
struct Params {
    groups: u32,  // workgroups in the table
    first: u32,   // counters of the table's first layer
    latent: u32,  // 1: what is not plain has one latent, which is quantized to W
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;                   // [k, k, cin, cout] a layer
@group(0) @binding(4) var<storage, read_write> seen: array<u32>;               // as weight
@group(0) @binding(5) var<storage, read_write> counters: array<atomic<u32>>;  // [layers, 264]

// The workgroup's own counters, so that few meet at a layer's.
var<workgroup> tally: array<atomic<u32>, WORDS>;

fn count(word: u32, found: bool) {
    if (found) {
        atomicAdd(&tally[word], 1u);
    }
}

// τ = 0.05 · max, as bits.
fn threshold(at: u32) -> u32 {
    return bitcast<u32>(0.05 * bitcast<f32>(atomicLoad(&counters[at])));
}

@compute @workgroup_size(64)
fn weight_changes(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let g = group_index(group, groups);
    if (g < p.groups) {
        let s = segment_of(g, p.groups);
        let max_at = counters_of(p.first, table[g]) + MAX;
        // Levels are low where they are zero.
        let tau = select(0u, threshold(max_at), s.plain == 1u);
        let latent_tau = threshold(max_at + 1u);
        let first = first_weight(s, g, lane);
        for (var at = first; at.i < end_weight(s, first); at = next_weight(s, at)) {
            let w = weight[weight_index(s, at)];
            let before = seen[weight_index(s, at)];
            let now = sign_seen(w);
            let old = before & 3u;
            let last = (before >> 2u) & 3u;
            count(CHANGED, now > 1u && old > 1u && now != old);
            count(ZEROED, old != 0u && (now == 1u) != (old == 1u));
            count(THROUGH, now > 1u && old == 1u && last > 1u && now != last);
            count(LOW, magnitude(w) <= tau);
            count(BINS + bin_of(w), true);
            var after = now | (select(last, now, now > 1u) << 2u);
            if (p.latent == 1u && s.plain == 0u) {
                let latent = params[s.base + at.i];
                let latent_now = sign_seen(latent);
                let latent_old = (before >> 4u) & 3u;
                count(LATENT_CHANGED, latent_now > 1u && latent_old > 1u && latent_now != latent_old);
                count(LATENT_LOW, magnitude(latent) <= latent_tau);
                after |= latent_now << 4u;
            }
            seen[weight_index(s, at)] = after;
        }
    }
    workgroupBarrier();
    if (g < p.groups) {
        let out = counters_of(p.first, table[g]);
        for (var word = lane; word < WORDS; word += 64u) {
            let n = atomicLoad(&tally[word]);
            if (n > 0u) {
                atomicAdd(&counters[out + word], n);
            }
        }
    }
}
