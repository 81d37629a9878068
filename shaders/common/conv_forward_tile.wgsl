// Forward convolution as an implicit matrix product, one workgroup's tile: rows are output pixels, columns output channels, K runs
// over (ky, kx, ci) in the order of the weights.

// The next vec4 of a pixel's patch, (ci, kx, ky).
fn next_tap(t: vec3<u32>) -> vec3<u32> {
    if (t.x + 1u < p.cin4) {
        return t + vec3(1u, 0u, 0u);
    }
    return select(vec3(0u, t.y + 1u, t.z), vec3(0u, 0u, t.z + 1u), t.y + 1u == p.k);
}

// sums[2q + c] = outputs of pixel `first + q · TM + tm` and vec4 of channels `co + c · TN + tn`. All 64 invocations must call.
fn conv_forward_tile(sums: ptr<function, Sums>, first: u32, co: u32, lane: u32) {
    // This invocation fetches half a patch (ci4 even or odd, as long as K is looked at as one run of vec4) of A_LOADS pixels.
    let v = lane % 2u;
    var corner: array<vec2<u32>, A_LOADS>; // of the pixel's patch, (iy, ix); wraps where that is outside, as does all that follows
    var base: array<u32, A_LOADS>;         // its place in x
    //#repeat j A_LOADS
    {
        let pixel = first + lane / 2u + 32u * $ju;
        let image = pixel / (p.oh * p.ow);
        let at = vec2(pixel / p.ow % p.oh, pixel % p.ow) * p.stride - p.pad;
        // Behind the last pixel every tap is outside.
        corner[$j] = select(vec2(p.h, p.w), at, image < p.n);
        base[$j] = ((image * p.h + at.x) * p.w + at.y) * p.cin4;
    }
    //#end
    let length = p.k * p.k * p.cin4; // of K, in vec4
    let steps = (length + 1u) / 2u;
    var tap = vec3(0u);
    for (var s = 0u; ; s++) {
        var a: FetchedA;
        var b: FetchedB;
        if (s < steps) {
            let odd = next_tap(tap);
            let mine = select(tap, odd, v == 1u);
            let offset = (mine.z * p.w + mine.y) * p.cin4 + mine.x;
            //#repeat j A_LOADS
            {
                let inside = all(vec3(corner[$j] + mine.zy, 2u * s + v) < vec3(p.h, p.w, length));
                a[$j] = select(vec4(0.0), x[select(0u, base[$j] + offset, inside)], inside);
            }
            //#end
            //#repeat j B_LOADS
            {
                let place = b_place(lane, $ju);
                let row = 8u * s + place.x;
                let inside = all(vec2(row, co + place.y) < vec2(4u * length, p.cout4));
                b[$j] = select(vec4(0.0), weight[p.offset + select(0u, row * p.cout4 + co + place.y, inside)], inside);
            }
            //#end
            tap = next_tap(odd);
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

// The tile's part of y.
fn conv_forward_store(sums: ptr<function, Sums>, first: u32, co: u32, lane: u32) {
    let column = co + lane % TN;
    //#repeat q ROWS
    {
        let pixel = first + $qu * TM + lane / TN;
        if (pixel < p.n * p.oh * p.ow) {
            if (column < p.cout4) {
                y[pixel * p.cout4 + column] = (*sums)[2 * $q];
            }
            if (column + TN < p.cout4) {
                y[pixel * p.cout4 + column + TN] = (*sums)[2 * $q + 1];
            }
        }
    }
    //#end
}
