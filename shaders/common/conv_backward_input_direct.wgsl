// One invocation computes 8 pixels of a row, `stride` apart, times 8 input channels in registers: pixels `stride` apart see the same
// taps, and for each tap neighbouring dy columns.

fn column(row: u32, inside: bool, ox: i32, co: u32) -> vec4<f32> {
    let last = i32(p.ow) - 1;
    let v = dy[(row + u32(clamp(ox, 0, last))) * p.cout4 + co];
    return select(vec4(0.0), v, inside && ox >= 0 && ox <= last);
}

// The g-th workgroup's part of dx.
fn convolve_back(g: u32, lane: u32) {
    let tiles = ((p.w + p.stride - 1u) / p.stride + 7u) / 8u;
    let blocks = (p.cin4 + 1u) / 2u;
    let i = g * 64u + lane;
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
        let u$c = weight_t_at(wi + $cu * p.cin4 + ci);
        let v$c = weight_t_at(wi + $cu * p.cin4 + pair);
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
