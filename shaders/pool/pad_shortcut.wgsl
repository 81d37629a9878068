// y[n, i, j, c] = x[n, stride·i, stride·j, c − shift], zero for channels outside x: the option-A shortcut. One invocation
// four channels of an output pixel.
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
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [n, h, w, cin]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [n, oh, ow, cout]

@compute @workgroup_size(64)
fn pad_shortcut(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let c4 = p.cout / 4u;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.oh * p.ow * c4) {
        return;
    }
    let ox = i / c4 % p.ow;
    let oy = i / (c4 * p.ow) % p.oh;
    let image = i / (c4 * p.ow * p.oh);
    let source = ((image * p.h + oy * p.stride) * p.w + ox * p.stride) * p.cin;
    for (var k = 0u; k < 4u; k++) {
        let c = i % c4 * 4u + k - p.shift; // wraps to a huge number in front of x's channels
        var v = 0.0;
        if (c < p.channels) {
            v = x[source + c];
        }
        y[4u * i + k] = v;
    }
}
