// Input gradient of a convolution as an implicit matrix product, one workgroup's tile: rows are the pixels of a phase (iy mod stride,
// ix mod stride), which see the same taps, columns input channels, K runs over (ky, kx, co).

// The next of the vec4 that the pixels of a phase see, (co, j, i) for taps ky = start.x + i · stride, kx = start.y + j · stride.
fn next_tap(t: vec3<u32>, taps: u32) -> vec3<u32> {
    if (t.x + 1u < p.cout4) {
        return t + vec3(1u, 0u, 0u);
    }
    return select(vec3(0u, t.y + 1u, t.z), vec3(0u, 0u, t.z + 1u), t.y + 1u == taps);
}

// Pixels of a phase in both directions, of the largest one.
fn phase_size() -> vec2<u32> {
    return (vec2(p.h, p.w) + p.stride - 1u) / p.stride;
}

// sums[2q + c] = input gradients of pixel `first + q · TM + tm` of the phase and vec4 of channels `ci + c · TN + tn`. All 64
// invocations must call.
fn conv_backward_input_tile(sums: ptr<function, Sums>, first: u32, phase: vec2<u32>, ci: u32, lane: u32) {
    let size = phase_size();
    let start = (phase + p.pad) % p.stride;
    let taps = (max(vec2(p.k), start) - start + p.stride - 1u) / p.stride;
    // This invocation fetches every other vec4 of K, for A_LOADS pixels.
    let v = lane % 2u;
    var corner: array<vec2<u32>, A_LOADS>; // (oy, ox) that the first tap sees; the others are above and left of it, where it wraps
    var base: array<u32, A_LOADS>;         // its place in dy
    //#repeat j A_LOADS
    {
        let pixel = first + lane / 2u + 32u * $ju;
        let image = pixel / (size.x * size.y);
        let at = vec2(pixel / size.y % size.x, pixel % size.y) + (phase + p.pad - start) / p.stride;
        // Behind the last pixel every tap is outside.
        corner[$j] = select(vec2(0x80000000u), at, image < p.n);
        base[$j] = ((image * p.oh + at.x) * p.ow + at.y) * p.cout4;
    }
    //#end
    let length = taps.x * taps.y * p.cout4; // of K, in vec4
    let steps = (length + 1u) / 2u;
    var tap = vec3(0u);
    for (var s = 0u; ; s++) {
        var a: FetchedA;
        var b: FetchedB;
        if (s < steps) {
            let odd = next_tap(tap, taps.y);
            let mine = select(tap, odd, v == 1u);
            let offset = mine.x - (mine.z * p.ow + mine.y) * p.cout4;
            //#repeat j A_LOADS
            {
                let inside = all(vec3(corner[$j] - mine.zy, 2u * s + v) < vec3(p.oh, p.ow, length));
                a[$j] = select(vec4(0.0), dy[select(0u, base[$j] + offset, inside)], inside);
            }
            //#end
            //#repeat j B_LOADS
            {
                let place = b_place(lane, $ju);
                let t = select(tap, odd, place.x >= 4u);
                let row = (((start.x + t.z * p.stride) * p.k + start.y + t.y * p.stride) * p.cout4 + t.x) * 4u + place.x % 4u;
                let inside = all(vec3(place.x, 2u * s + place.x / 4u, ci + place.y) < vec3(8u, length, p.cin4));
                b[$j] = select(vec4(0.0), weight_t[p.offset + select(0u, row * p.cin4 + ci + place.y, inside)], inside);
            }
            //#end
            tap = next_tap(odd, taps.y);
        }
        if (s > 0u) {
            multiply(sums, lane / TN, lane % TN);
        }
        if (s == steps) {
            break;
        }
        workgroupBarrier();
        a_store(lane, a);
        b_store(lane, b);
        workgroupBarrier();
    }
}

// Whether the phase has its q-th pixel, and where the pixel stands in dx, in vec4.
struct Place {
    inside: bool,
    at: u32,
}

fn phase_pixel(pixel: u32, phase: vec2<u32>) -> Place {
    let size = phase_size();
    let image = pixel / (size.x * size.y);
    let at = vec2(pixel / size.y % size.x, pixel % size.y) * p.stride + phase;
    return Place(image < p.n && at.x < p.h && at.y < p.w, ((image * p.h + at.x) * p.w + at.y) * p.cin4);
}
