// y[n, i, j, c] = x[n, stride·i, stride·j, c − shift], 0 outside x's channels. One invocation four channels of an output pixel: one vec4
// of x where the shift is a whole number of them (ALIGNED), else their four words.
const ALIGNED: u32 = 1u;
// Compiled in: a division by a constant is cheap.
const STRIDE: u32 = 2u;
const OH: u32 = 8u;
const OW: u32 = 8u;
const C4: u32 = 4u;     // cout / 4
struct Params {
    n: u32,
    h: u32,        // input
    w: u32,
    cin: u32,      // padded input channels
    oh: u32,       // output
    ow: u32,
    cout: u32,     // padded output channels
    channels: u32, // input channels that exist
    shift: u32,    // zero channels in front: (Cout − Cin)/2
    stride: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // [n, h, w, cin / 4]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // [n, oh, ow, cout / 4]

@compute @workgroup_size(64)
fn pad_shortcut(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * OH * OW * C4) {
        return;
    }
    let ox = i / C4 % OW;
    let oy = i / (C4 * OW) % OH;
    let image = i / (C4 * OW * OH);
    let source = ((image * p.h + oy * STRIDE) * p.w + ox * STRIDE) * (p.cin / 4u);
    let c = i % C4 * 4u - p.shift; // wraps below x's channels
    var v = vec4(0.0);
    if (ALIGNED == 1u) {
        if (c < p.channels) {
            v = select(vec4(0.0), x[source + c / 4u], c + vec4(0u, 1u, 2u, 3u) < vec4(p.channels));
        }
    } else {
        for (var k = 0u; k < 4u; k++) {
            if (c + k < p.channels) {
                v[k] = x[source + (c + k) / 4u][(c + k) % 4u];
            }
        }
    }
    y[i] = v;
}
