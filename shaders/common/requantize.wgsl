// What follows a convolution's sums, four output channels at a time: q = clamp((acc'·M + B + 2^(n − 1)) >> n) with acc' = acc after its
// pre-shift, M a few signed binary digits. `channels` holds five vec4 for every four channels: four digit codes of M, one more,
// B + 2^(n − 1), n, and what the rung's sums start from.
struct Channels {
    digits: vec4<u32>,
    fifth: vec4<u32>,
    bias: vec4<i32>,
    shift: vec4<u32>,
}

fn channels_of(co: u32) -> Channels {
    let i = 5u * co;
    return Channels(channels[i], channels[i + 1u], bitcast<vec4<i32>>(channels[i + 2u]), channels[i + 3u]);
}

fn start_of(co: u32) -> vec4<i32> {
    return bitcast<vec4<i32>>(channels[5u * co + 4u]);
}

fn before_multiplier(acc: vec4<i32>) -> vec4<i32> {
    let half = select(0, 1i << ((p.preshift - 1u) & 31u), p.preshift > 0u);
    return (acc + vec4(half)) >> vec4(p.preshift);
}

fn requantize(acc: vec4<i32>, c: Channels) -> u32 {
    let a = before_multiplier(acc);
    var sum = c.bias;
    var codes = c.digits;
    for (var i = 0u; i < min(p.terms, 4u); i++) {
        sum += times_digit(a, codes & vec4(255u));
        codes >>= vec4(8u);
    }
    if (p.terms > 4u) {
        sum += times_digit(a, c.fifth);
    }
    return pack_bytes(sum >> c.shift, p.signed_y == 1u);
}

// M as numbers, for kernels that multiply.
fn multiplier_of(c: Channels) -> vec4<i32> {
    let one = vec4(1);
    var m = times_digit(one, c.fifth);
    for (var i = 0u; i < 4u; i++) {
        m += times_digit(one, (c.digits >> vec4(8u * i)) & vec4(255u));
    }
    return m;
}

fn requantize_by(acc: vec4<i32>, m: vec4<i32>, c: Channels) -> u32 {
    return pack_bytes((before_multiplier(acc) * m + c.bias) >> c.shift, p.signed_y == 1u);
}
