// dx[n, iy, ix, ci] = Σ_{ky, kx, co} dy[n, (iy + pad − ky)/stride, (ix + pad − kx)/stride, co] · weight_t[ky, kx, co, ci], then the epilogue
// One invocation computes 8 pixels of a row, `stride` apart, times 8 input channels in registers: pixels `stride` apart see the same
// taps, and for each tap neighbouring dy columns.
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
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;        // [n, oh, ow, cout4]
@group(0) @binding(2) var<storage, read> weight_t: array<vec4<f32>>;  // [k, k, cout, cin4] at offset
@group(0) @binding(3) var<storage, read> skip: array<vec4<f32>>;      // [n, h, w, cin4]; dy where there is none
@group(0) @binding(4) var<storage, read> gate: array<vec4<f32>>;      // [n, h, w, cin4]; dy where there is none
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>;  // [n, h, w, cin4]

fn column(row: u32, inside: bool, ox: i32, co: u32) -> vec4<f32> {
    let last = i32(p.ow) - 1;
    let v = dy[(row + u32(clamp(ox, 0, last))) * p.cout4 + co];
    return select(vec4(0.0), v, inside && ox >= 0 && ox <= last);
}

@compute @workgroup_size(64)
fn conv_backward_input_direct(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let tiles = ((p.w + p.stride - 1u) / p.stride + 7u) / 8u;
    let blocks = (p.cin4 + 1u) / 2u;
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.h * p.stride * tiles * blocks) {
        return;
    }
    let ci = (i % blocks) * 2u;
    let tile = i / blocks % tiles;
    let phase = i / (blocks * tiles) % p.stride;
    let iy = i / (blocks * tiles * p.stride) % p.h;
    let image = i / (blocks * tiles * p.stride * p.h);
    let pair = min(ci + 1u, p.cin4 - 1u); // the last block of an odd count computes its only vec4 twice
    let ix = phase + p.stride * 8u * tile;
    var a: array<vec4<f32>, 8>; // channels ci …
    var b: array<vec4<f32>, 8>; // … and the next four
    // One loop over (ky, kx, co): nested ones would carry the register block across every level, which some compilers copy each time.
    // ky and kx start where the pixels' phase divides evenly; those of a small kernel may have none.
    let ky0 = (iy + p.pad) % p.stride;
    let kx0 = (phase + p.pad) % p.stride;
    let kys = (p.k + p.stride - 1u - ky0) / p.stride;
    let kxs = (p.k + p.stride - 1u - kx0) / p.stride;
    var ky = ky0;
    var kx = kx0;
    var co = 0u;
    for (var r = 0u; r < kys * kxs * p.cout4; r++) {
        let oy = (i32(iy + p.pad) - i32(ky)) / i32(p.stride);
        let inside = iy + p.pad >= ky && oy < i32(p.oh);
        let row = (image * p.oh + u32(clamp(oy, 0, i32(p.oh) - 1))) * p.ow;
        // Divides evenly, also where it is negative.
        let left = (i32(ix + p.pad) - i32(kx)) / i32(p.stride);
        let wi = p.offset + ((ky * p.k + kx) * p.cout4 + co) * 4u * p.cin4;
        //#repeat c 4
        let u$c = weight_t[wi + $cu * p.cin4 + ci];
        let v$c = weight_t[wi + $cu * p.cin4 + pair];
        //#end
        //#repeat q 8
        {
            let s = column(row, inside, left + $q, co);
            a[$q] += s.x * u0 + s.y * u1 + s.z * u2 + s.w * u3;
            b[$q] += s.x * v0 + s.y * v1 + s.z * v2 + s.w * v3;
        }
        //#end
        co += 1u;
        let next = co == p.cout4;
        co = select(co, 0u, next);
        kx += select(0u, p.stride, next);
        let down = kx >= p.k;
        kx = select(kx, kx0, down);
        ky += select(0u, p.stride, down);
    }
    let out = (image * p.h + iy) * p.w + ix;
    //#repeat q 8
    if (ix + $qu * p.stride < p.w) {
        let at = (out + $qu * p.stride) * p.cin4 + ci;
        dx[at] = epilogue(at, a[$q]);
        if (pair > ci) {
            dx[at + 1u] = epilogue(at + 1u, b[$q]);
        }
    }
    //#end
}
