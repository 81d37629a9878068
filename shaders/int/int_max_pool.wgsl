// y = the largest x of the k x k window; uint8, so that the zeros around the image never win. One invocation a word of four channels.
struct Params {
    n: u32,
    h: u32,      // input
    w: u32,
    c4: u32,
    oh: u32,     // output
    ow: u32,
    k: u32,
    stride: u32,
    pad: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;        // [n, h, w, c4]
@group(0) @binding(2) var<storage, read_write> y: array<u32>;  // [n, oh, ow, c4]

@compute @workgroup_size(64)
fn int_max_pool(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.oh * p.ow * p.c4) {
        return;
    }
    let c = i % p.c4;
    let ox = i / p.c4 % p.ow;
    let oy = i / (p.c4 * p.ow) % p.oh;
    let image = i / (p.c4 * p.ow * p.oh);
    var best = vec4(0);
    for (var ky = 0u; ky < p.k; ky++) {
        let iy = oy * p.stride + ky - p.pad; // wraps above the image
        for (var kx = 0u; kx < p.k; kx++) {
            let ix = ox * p.stride + kx - p.pad;
            if (iy < p.h && ix < p.w) {
                best = max(best, unpack_bytes(x[((image * p.h + iy) * p.w + ix) * p.c4 + c], false));
            }
        }
    }
    y[i] = pack_bytes(best, false);
}
