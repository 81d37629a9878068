// dx[n, iy, ix, ci] = Σ_{ky, kx, co} dy[n, (iy + pad − ky)/stride, (ix + pad − kx)/stride, co] · weight_t[ky, kx, co, ci]
// One invocation computes 4 pixels of a row, `stride` apart, times 16 input channels in registers. A workgroup works on one block of
// 16 channels, so a subgroup loads each of the 16 weight vec4 once, 8 at a time, and hands them round. All lanes walk over all taps
// and take part in every broadcast; a tap that does not divide evenly for a lane counts zero there.
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
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;        // [n, oh, ow, cout4]
@group(0) @binding(2) var<storage, read> weight_t: array<vec4<f32>>;  // [k, k, cout, cin4] at offset
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>;  // [n, h, w, cin4]

fn column(row: u32, inside: bool, ox: i32, co: u32) -> vec4<f32> {
    let last = i32(p.ow) - 1;
    let v = dy[(row + u32(clamp(ox, 0, last))) * p.cout4 + co];
    return select(vec4(0.0), v, inside && ox >= 0 && ox <= last);
}

@compute @workgroup_size(64)
fn conv_backward_input_subgroup(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32, @builtin(subgroup_invocation_id) id: u32) {
    let tiles = ((p.w + p.stride - 1u) / p.stride + 3u) / 4u;
    let blocks = (p.cin4 + 3u) / 4u;
    let g = group_index(group, groups);
    let ci = g % blocks * 4u;
    let i = g / blocks * 64u + lane;
    let phase = i / tiles % p.stride;
    let ix = phase + p.stride * 4u * (i % tiles);
    let iy = i / (tiles * p.stride) % p.h;
    let image = i / (tiles * p.stride * p.h);
    //#repeat c 4
    var a$c: array<vec4<f32>, 4>; // [pixel] of the block's vec4 $c
    //#end
    for (var ky = 0u; ky < p.k; ky++) {
        let sy = i32(iy + p.pad) - i32(ky);
        let oy = sy / i32(p.stride);
        let hit = image < p.n && sy >= 0 && sy % i32(p.stride) == 0 && oy < i32(p.oh);
        let row = (min(image, p.n - 1u) * p.oh + u32(clamp(oy, 0, i32(p.oh) - 1))) * p.ow;
        for (var kx = 0u; kx < p.k; kx++) {
            let sx = i32(ix + p.pad) - i32(kx);
            let inside = hit && sx % i32(p.stride) == 0;
            // Divides evenly where it counts, also where it is negative.
            let left = sx / i32(p.stride);
            for (var co = 0u; co < p.cout4; co++) {
                let wi = p.offset + ((ky * p.k + kx) * p.cout4 + co) * 4u * p.cin4;
                // Of the block's weights [4 co, 4 vec4], this lane fetches number id and id + 8.
                //#repeat m 2
                let at$m = id % 8u + $mu * 8u;
                let mine$m = weight_t[wi + at$m / 4u * p.cin4 + min(ci + at$m % 4u, p.cin4 - 1u)];
                //#end
                //#repeat q 4
                let s$q = column(row, inside, left + $q, co);
                //#end
                //#repeat c 4
                {
                    let w0 = subgroupBroadcast(mine0, $cu);
                    let w1 = subgroupBroadcast(mine0, 4u + $cu);
                    let w2 = subgroupBroadcast(mine1, $cu);
                    let w3 = subgroupBroadcast(mine1, 4u + $cu);
                    //#repeat q 4
                    a$c[$q] += s$q.x * w0 + s$q.y * w1 + s$q.z * w2 + s$q.w * w3;
                    //#end
                }
                //#end
            }
        }
    }
    if (image < p.n) {
        let out = (image * p.h + iy) * p.w + ix;
        //#repeat q 4
        if (ix + $qu * p.stride < p.w) {
            //#repeat c 4
            if (ci + $cu < p.cin4) {
                dx[(out + $qu * p.stride) * p.cin4 + ci + $cu] = a$c[$q];
            }
            //#end
        }
        //#end
    }
}
