// NHWC, vec4 over channels. One invocation computes 8 neighbouring pixels of a row times 8 output channels in registers: a pixel's
// vec4 serves 8 channels, a weight's 8 pixels, and no workgroup memory is used. kx stays a loop: unrolled it saves loads, but the
// code outgrows instruction caches and takes some drivers minutes to compile.

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> vec4<f32> {
    let last = i32(p.w) - 1;
    let v = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(vec4(0.0), v, inside && ix >= 0 && ix <= last);
}

// The g-th workgroup's part of y.
fn convolve(g: u32, lane: u32) {
    let tiles = (p.ow + 7u) / 8u;
    let blocks = (p.cout4 + 1u) / 2u;
    let i = g * 64u + lane;
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
        let u$c = weight_at(wi + $cu * p.cout4 + co);
        let v$c = weight_at(wi + $cu * p.cout4 + pair);
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
