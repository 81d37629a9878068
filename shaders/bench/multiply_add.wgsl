// y = Σ of CHAINS chains c ← a c + b of 8 rounds steps each, all in registers: the most multiply-adds that an adapter does.
// x, y: [len4] vec4, one an invocation. a and b come from the host, so that no compiler folds them; y keeps all chains alive.
const CHAINS: u32 = 3u;

struct Params {
    len4: u32,
    rounds: u32,
    a: f32,
    b: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn multiply_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i < p.len4) {
        let a = vec4<f32>(p.a);
        let b = vec4<f32>(p.b);
        let start = x[i];
        //#repeat k CHAINS
        var c$k = start + f32($ku);
        //#end
        for (var round = 0u; round < p.rounds; round++) {
            //#repeat step 8
            //#repeat k CHAINS
            c$k = fma(a, c$k, b);
            //#end
            //#end
        }
        var sum = vec4<f32>(0.0);
        //#repeat k CHAINS
        sum += c$k;
        //#end
        y[i] = sum;
    }
}
