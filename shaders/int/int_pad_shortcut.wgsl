// y[n, i, j, c] = x[n, stride·i, stride·j, c − front], 0 outside x's channels. One invocation a word of four channels.
struct Params {
    n: u32,
    h: u32,        // input
    w: u32,
    cin4: u32,     // words of a pixel
    oh: u32,       // output
    ow: u32,
    cout4: u32,
    channels: u32, // input channels that exist
    front: u32,    // zero channels in front
    stride: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;        // [n, h, w, cin4]
@group(0) @binding(2) var<storage, read_write> y: array<u32>;  // [n, oh, ow, cout4]

@compute @workgroup_size(64)
fn int_pad_shortcut(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.oh * p.ow * p.cout4) {
        return;
    }
    let ox = i / p.cout4 % p.ow;
    let oy = i / (p.cout4 * p.ow) % p.oh;
    let image = i / (p.cout4 * p.ow * p.oh);
    let source = ((image * p.h + oy * p.stride) * p.w + ox * p.stride) * p.cin4;
    var word = 0u;
    for (var k = 0u; k < 4u; k++) {
        let c = i % p.cout4 * 4u + k - p.front; // wraps below x's channels
        if (c < p.channels) {
            word |= ((x[source + c / 4u] >> (8u * (c % 4u))) & 255u) << (8u * k);
        }
    }
    y[i] = word;
}
