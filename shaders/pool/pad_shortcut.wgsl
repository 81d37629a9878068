// y[n, i, j, c] = x[n, stride·i, stride·j, c − shift], zero for channels outside x: the option-A shortcut. One invocation an output.
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
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [n, h, w, cin]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [n, oh, ow, cout]

@compute @workgroup_size(64)
fn pad_shortcut(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.oh * p.ow * p.cout) {
        return;
    }
    let c = i % p.cout - p.shift; // wraps to a huge number in front of x's channels
    let ox = i / p.cout % p.ow;
    let oy = i / (p.cout * p.ow) % p.oh;
    let image = i / (p.cout * p.ow * p.oh);
    var v = 0.0;
    if (c < p.channels) {
        v = x[((image * p.h + oy * p.stride) * p.w + ox * p.stride) * p.cin + c];
    }
    y[i] = v;
}
