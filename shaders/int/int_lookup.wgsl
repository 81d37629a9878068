// y[n, i, j, c] = lut[c][pixel]: u8 planes [C, H, W] to int8, four channels a word. One invocation a word.
struct Params {
    n: u32,
    h: u32,
    w: u32,
    c: u32,  // channels that exist; 0 in the others' lanes
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> pixels: array<u32>;   // [n, c, h, w], bytes
@group(0) @binding(2) var<storage, read> lut: array<u32>;      // [c, 256], bytes
@group(0) @binding(3) var<storage, read_write> y: array<u32>;  // [n, h, w, c / 4 rounded up]

@compute @workgroup_size(64)
fn int_lookup(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    let c4 = (p.c + 3u) / 4u;
    let size = p.h * p.w;
    if (i >= p.n * size * c4) {
        return;
    }
    let first = i % c4 * 4u;
    let at = i / c4 % size;
    let image = i / (c4 * size);
    var word = 0u;
    for (var c = first; c < min(first + 4u, p.c); c++) {
        let source = (image * p.c + c) * size + at;
        let pixel = (pixels[source / 4u] >> (8u * (source % 4u))) & 255u;
        let value = (lut[c * 64u + pixel / 4u] >> (8u * (pixel % 4u))) & 255u;
        word |= value << (8u * (c % 4u));
    }
    y[i] = word;
}
