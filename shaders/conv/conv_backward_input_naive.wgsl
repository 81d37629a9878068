// dx[n, iy, ix, ci] = Σ_{ky, kx, co} dy[n, (iy + pad − ky)/stride, (ix + pad − kx)/stride, co] · weight_t[ky, kx, co, ci], then the epilogue,
// over the ky, kx for which both divisions come out even and inside. One invocation computes one input gradient.
struct Params {
    n: u32,       // images
    h: u32,       // input
    w: u32,
    cin4: u32,    // input channels / 4, rounded up
    oh: u32,      // output
    ow: u32,
    cout4: u32,   // output channels / 4, rounded up
    k: u32,       // kernel size
    stride: u32,
    pad: u32,
    offset: u32,  // of the layer in the weight slab, in vec4
    chunk: u32,   // images in one partial sum of the weight gradient
    subgroup: u32, // lanes of a subgroup, 0 where the adapter has none of a fixed size
    epilogue: u32, // what becomes of the input gradient on its way out: see common/epilogue.wgsl
    packed: u32,   // 1: each weight is 0 or ± 2^k, and the slab is there as bytes too
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;           // [n, oh, ow, cout]
@group(0) @binding(2) var<storage, read> weight_t: array<f32>;     // [k, k, cout, cin] at 4 · offset
@group(0) @binding(3) var<storage, read> skip: array<vec4<f32>>;      // [n, h, w, cin4]; dy where there is none
@group(0) @binding(4) var<storage, read> gate: array<vec4<f32>>;      // [n, h, w, cin4]; dy where there is none
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;     // [n, h, w, cin]

@compute @workgroup_size(64)
fn conv_backward_input_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let cin = 4u * p.cin4;
    let cout = 4u * p.cout4;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.h * p.w * cin) {
        return;
    }
    let ci = i % cin;
    let ix = (i / cin) % p.w;
    let iy = (i / (cin * p.w)) % p.h;
    let image = i / (cin * p.w * p.h);
    var sum = 0.0;
    for (var ky = 0u; ky < p.k; ky++) {
        let sy = iy + p.pad - ky; // wraps above the image
        let oy = sy / p.stride;
        if (iy + p.pad < ky || sy % p.stride != 0u || oy >= p.oh) {
            continue;
        }
        for (var kx = 0u; kx < p.k; kx++) {
            let sx = ix + p.pad - kx;
            let ox = sx / p.stride;
            if (ix + p.pad < kx || sx % p.stride != 0u || ox >= p.ow) {
                continue;
            }
            let yi = ((image * p.oh + oy) * p.ow + ox) * cout;
            let wi = 4u * p.offset + (ky * p.k + kx) * cin * cout + ci;
            for (var co = 0u; co < cout; co++) {
                sum = fma(dy[yi + co], weight_t[wi + co * cin], sum);
            }
        }
    }
    dx[i] = epilogue(i / 4u, vec4(sum))[i % 4u];
}
