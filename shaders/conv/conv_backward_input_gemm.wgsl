// dx[n, iy, ix, ci] = Σ_{ky, kx, co} dy[n, (iy + pad − ky)/stride, (ix + pad − kx)/stride, co] · weight_t[ky, kx, co, ci], then the epilogue
// An implicit matrix product through workgroup memory, for real GPUs: a workgroup computes TM · ROWS pixels of one phase
// (iy mod stride, ix mod stride), which see the same taps, times 8 · TN input channels, an invocation ROWS times 8 of them. K runs over
// (ky, kx, co). Nobody leaves early.
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

// The next of the vec4 that the pixels of a phase see, (co, j, i) for taps ky = start.x + i · stride, kx = start.y + j · stride.
fn next_tap(t: vec3<u32>, taps: u32) -> vec3<u32> {
    if (t.x + 1u < p.cout4) {
        return t + vec3(1u, 0u, 0u);
    }
    return select(vec3(0u, t.y + 1u, t.z), vec3(0u, 0u, t.z + 1u), t.y + 1u == taps);
}

@compute @workgroup_size(64)
fn conv_backward_input_gemm(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let blocks = (p.cin4 + 2u * TN - 1u) / (2u * TN);
    let g = group_index(group, groups);
    let ci = g % blocks * 2u * TN;
    let phase = vec2(g / blocks % p.stride, g / (blocks * p.stride) % p.stride);
    let first = g / (blocks * p.stride * p.stride) * ROWS * TM;
    let size = (vec2(p.h, p.w) + p.stride - 1u) / p.stride; // of a phase, the largest
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
    var sums: Sums;
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
            multiply(&sums, lane / TN, lane % TN);
        }
        if (s == steps) {
            break;
        }
        workgroupBarrier();
        a_store(lane, a);
        b_store(lane, b);
        workgroupBarrier();
    }
    let column = ci + lane % TN;
    //#repeat q ROWS
    {
        let pixel = first + $qu * TM + lane / TN;
        let image = pixel / (size.x * size.y);
        let at = vec2(pixel / size.y % size.x, pixel % size.y) * p.stride + phase;
        let out = ((image * p.h + at.x) * p.w + at.y) * p.cin4 + column;
        if (image < p.n && at.x < p.h && at.y < p.w) {
            if (column < p.cin4) {
                dx[out] = epilogue(out, sums[2 * $q]);
            }
            if (column + TN < p.cin4) {
                dx[out + TN] = epilogue(out + TN, sums[2 * $q + 1]);
            }
        }
    }
    //#end
}
