// Integer convolution, two sums in a word, shifted by the digits of the weights: see common/conv_pairs.wgsl. No multiplication.
// NHWC, four channels a word.
struct Params {
    n: u32,        // images
    h: u32,        // input
    w: u32,
    cin4: u32,     // input channels / 4, rounded up
    oh: u32,       // output
    ow: u32,
    cout4: u32,    // output channels / 4, rounded up
    k: u32,        // kernel size
    stride: u32,
    pad: u32,
    planes: u32,   // digits of a weight, or channels in a word
    flush: u32,    // steps whose products a 16-bit sum holds
    preshift: u32,
    terms: u32,    // digits of M, at most 5
    signed_x: u32, // 1: int8, 0: uint8
    signed_y: u32,
    subgroup: u32, // lanes of a subgroup, 0 where the adapter has none of a fixed size
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;               // [n, h, w, cin4]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;    // digits [k, k, cin4, cout4, PLANES]
@group(0) @binding(3) var<storage, read> channels: array<vec4<u32>>;  // [cout4, 5]: see common/requantize.wgsl
@group(0) @binding(4) var<storage, read_write> y: array<u32>;         // [n, oh, ow, cout4]

struct Factor {
    shift: vec4<u32>,
    sign: vec4<i32>, // 0, or all bits: (t ^ −1) − (−1) = −t
    keep: vec4<i32>, // all bits, or 0 for a weight without this digit
}

fn factor_of(w: vec4<u32>, c: u32) -> Factor {
    let code = bitcast<vec4<i32>>(w << vec4(24u - 8u * c)); // the sign is the top bit now, the mark of a digit the next
    return Factor((vec4<u32>(code) >> vec4(24u)) & vec4(31u), code >> vec4(31u), (code << vec4(1u)) >> vec4(31u));
}

fn product(z: vec4<i32>, f: Factor) -> vec4<i32> {
    return (((z << f.shift) ^ f.sign) - f.sign) & f.keep;
}

alias Multiplier = vec4<u32>;

fn multiplier(c: Channels) -> Multiplier {
    return c.digits;
}

fn finish(acc: vec4<i32>, m: Multiplier, c: Channels) -> u32 {
    return requantize(acc, c);
}

@compute @workgroup_size(64)
fn int_conv_pairs_shift(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    conv_pairs(group_index(group, groups) * 64u + lane);
}
