// x[n, y, x, c] = (pixel/255 − mean[c])/std[c] for a random crop of the image padded with black, mirrored half the time; without
// augmentation the image itself. Pixels are u8 planes [C, H, W], four a word; randomness counts on seed, epoch and the image's number
// in the data set. One invocation a pixel.
struct Params {
    scale: vec4<f32>,  // 1/(255·std)
    bias: vec4<f32>,   // −mean/std
    n: u32,
    h: u32,
    w: u32,
    c: u32,            // 1 to 4
    pad: u32,          // 0: no crop
    flip: u32,         // 1: mirror half the images
    seed: u32,
    epoch: u32,
    max_n: u32,        // batch layout: max_n labels, max_n image numbers, then the pixels
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;  // [n, h, w, 1]

@compute @workgroup_size(64)
fn augment(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n * p.h * p.w) {
        return;
    }
    let col = i % p.w;
    let row = i / p.w % p.h;
    let image = i / (p.w * p.h);
    let sample = batch[p.max_n + image];
    // The top 16 bits of a random word pick one of 2·pad + 1 offsets.
    let span = 2u * p.pad + 1u;
    let dy = ((random_word(p.seed, p.epoch, sample, 0u) >> 16u) * span) >> 16u;
    let dx = ((random_word(p.seed, p.epoch, sample, 1u) >> 16u) * span) >> 16u;
    let mirror = p.flip == 1u && (random_word(p.seed, p.epoch, sample, 2u) >> 31u) == 1u;
    let iy = row + dy - p.pad; // wraps above the image
    let ix = select(col, p.w - 1u - col, mirror) + dx - p.pad;
    var v = vec4(0.0);
    if (iy < p.h && ix < p.w) {
        for (var c = 0u; c < p.c; c++) {
            let byte = ((image * p.c + c) * p.h + iy) * p.w + ix;
            v[c] = f32((batch[2u * p.max_n + byte / 4u] >> (8u * (byte % 4u))) & 255u);
        }
    }
    // Lanes without a channel have scale and bias 0.
    x[i] = fma(v, p.scale, p.bias);
}
