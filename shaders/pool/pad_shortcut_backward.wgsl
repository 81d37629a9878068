// dx[n, y, x, c] = dy[n, y/stride, x/stride, c + shift] where both divide evenly (and gate > 0 there, where a
// ReLU gates it), else 0. One invocation four channels of an input pixel.
const RELU: u32 = 0u;
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
    relu: u32,     // 1: a ReLU's output gates the gradient
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;        // [n, oh, ow, cout]
@group(0) @binding(2) var<storage, read> gate: array<f32>;      // [n, oh, ow, cout]; dy where there is none
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;  // [n, h, w, cin]

@compute @workgroup_size(64)
fn pad_shortcut_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let c4 = p.cin / 4u;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.h * p.w * c4) {
        return;
    }
    let ix = i / c4 % p.w;
    let iy = i / (c4 * p.w) % p.h;
    let image = i / (c4 * p.w * p.h);
    let kept = ix % p.stride == 0u && iy % p.stride == 0u;
    let source = ((image * p.oh + iy / p.stride) * p.ow + ix / p.stride) * p.cout + p.shift;
    for (var k = 0u; k < 4u; k++) {
        let c = i % c4 * 4u + k;
        var v = 0.0;
        if (kept && c < p.channels) {
            v = dy[source + c];
            if (RELU == 1u) {
                v = select(0.0, v, gate[source + c] > 0.0);
            }
        }
        dx[4u * i + k] = v;
    }
}
