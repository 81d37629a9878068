// dx[n, y, x, c] = dy[n, y/stride, x/stride, c + shift] where both divide evenly, else 0.
// One invocation four channels of an input pixel: one vec4 of dy where the shift is a whole number of them (ALIGNED), else their words.
const ALIGNED: u32 = 1u;
// Compiled in: a division by a constant is cheap.
const STRIDE: u32 = 2u;
const H: u32 = 8u;
const W: u32 = 8u;
const C4: u32 = 4u;     // cin / 4
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
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;        // [n, oh, ow, cout / 4]
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;  // [n, h, w, cin / 4]

@compute @workgroup_size(64)
fn pad_shortcut_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * H * W * C4) {
        return;
    }
    let ix = i / C4 % W;
    let iy = i / (C4 * W) % H;
    let image = i / (C4 * W * H);
    let source = ((image * p.oh + iy / STRIDE) * p.ow + ix / STRIDE) * (p.cout / 4u);
    let c = i % C4 * 4u;
    var v = vec4(0.0);
    if (ix % STRIDE == 0u && iy % STRIDE == 0u) {
        if (ALIGNED == 1u) {
            // Filler channels get no gradient.
            v = select(vec4(0.0), dy[source + (c + p.shift) / 4u], c + vec4(0u, 1u, 2u, 3u) < vec4(p.channels));
        } else {
            for (var k = 0u; k < 4u; k++) {
                let source_c = c + k + p.shift;
                if (c + k < p.channels) {
                    v[k] = dy[source + source_c / 4u][source_c % 4u];
                }
            }
        }
    }
    dx[i] = v;
}
