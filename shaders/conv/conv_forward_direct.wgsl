// y[n, oy, ox, co] = Σ_{ky, kx, ci} x[n, oy·stride + ky − pad, ox·stride + kx − pad, ci] · weight[ky, kx, ci, co]
// NHWC, vec4 over channels. One invocation computes 8 neighbouring pixels of a row times 8 output channels in registers: a pixel's
// vec4 serves 8 channels, a weight's 8 pixels, and no workgroup memory is used. kx stays a loop: unrolled it saves loads, but the
// code outgrows instruction caches and takes some drivers minutes to compile.
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
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // [n, h, w, cin4]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;   // [k, k, cin, cout4] at offset
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // [n, oh, ow, cout4]

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> vec4<f32> {
    let last = i32(p.w) - 1;
    let v = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(vec4(0.0), v, inside && ix >= 0 && ix <= last);
}

@compute @workgroup_size(64)
fn conv_forward_direct(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.ow + 7u) / 8u;
    let blocks = (p.cout4 + 1u) / 2u;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.oh * tiles * blocks) {
        return;
    }
    let co = (i % blocks) * 2u;
    let ox = (i / blocks) % tiles * 8u;
    let oy = i / (blocks * tiles) % p.oh;
    let image = i / (blocks * tiles * p.oh);
    let pair = min(co + 1u, p.cout4 - 1u); // the last block of an odd count computes its only vec4 twice
    let left = i32(ox * p.stride) - i32(p.pad);
    var a: array<vec4<f32>, 8>; // channels co …
    var b: array<vec4<f32>, 8>; // … and the next four
    // One loop over (ky, kx, ci): nested ones would carry the register block across every level, which some compilers copy each time.
    var ky = 0u;
    var kx = 0u;
    var ci = 0u;
    for (var r = 0u; r < p.k * p.k * p.cin4; r++) {
        let iy = i32(oy * p.stride + ky) - i32(p.pad);
        let inside = iy >= 0 && iy < i32(p.h);
        let row = (image * p.h + u32(clamp(iy, 0, i32(p.h) - 1))) * p.w;
        let wi = p.offset + ((ky * p.k + kx) * p.cin4 + ci) * 4u * p.cout4;
        //#repeat c 4
        let u$c = weight[wi + $cu * p.cout4 + co];
        let v$c = weight[wi + $cu * p.cout4 + pair];
        //#end
        //#repeat q 8
        {
            let s = column(row, inside, left + i32(kx + $qu * p.stride), ci);
            a[$q] += s.x * u0 + s.y * u1 + s.z * u2 + s.w * u3;
            b[$q] += s.x * v0 + s.y * v1 + s.z * v2 + s.w * v3;
        }
        //#end
        ci += 1u;
        let next = ci == p.cin4;
        ci = select(ci, 0u, next);
        kx += select(0u, 1u, next);
        let down = kx == p.k;
        kx = select(kx, 0u, down);
        ky += select(0u, 1u, down);
    }
    let out = ((image * p.oh + oy) * p.ow + ox) * p.cout4 + co;
    //#repeat q 8
    if (ox + $qu < p.ow) {
        y[out + $qu * p.cout4] = a[$q];
        if (pair > co) {
            y[out + $qu * p.cout4 + 1u] = b[$q];
        }
    }
    //#end
}
