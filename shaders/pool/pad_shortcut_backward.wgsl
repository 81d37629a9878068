// dx[n, y, x, c] = dy[n, y/stride, x/stride, c + shift] where both divide evenly, else 0. One invocation an input gradient.
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
@group(0) @binding(1) var<storage, read> dy: array<f32>;        // [n, oh, ow, cout]
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;  // [n, h, w, cin]

@compute @workgroup_size(64)
fn pad_shortcut_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.h * p.w * p.cin) {
        return;
    }
    let c = i % p.cin;
    let ix = i / p.cin % p.w;
    let iy = i / (p.cin * p.w) % p.h;
    let image = i / (p.cin * p.w * p.h);
    var v = 0.0;
    if (c < p.channels && ix % p.stride == 0u && iy % p.stride == 0u) {
        v = dy[((image * p.oh + iy / p.stride) * p.ow + ix / p.stride) * p.cout + c + p.shift];
    }
    dx[i] = v;
}
