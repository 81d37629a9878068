// Elementary functions with the same error on every adapter (drivers differ by many ulps in theirs).

// 2^e for −126 ≤ e ≤ 127, exactly.
fn pow2i(e: i32) -> f32 {
    return bitcast<f32>(u32(e + 127) << 23u);
}

// round(log2 x) for normal x > 0, exactly: up from √2 on.
fn round_log2(x: f32) -> i32 {
    let bits = bitcast<u32>(x);
    return i32(bits >> 23u) - 127 + select(0, 1, (bits & 0x007fffffu) > 0x3504f3u);
}

// e^x for x ≤ 0, within 2 ulps; 0 below −87, where f32 runs out of normal numbers.
fn exp_neg(x: f32) -> f32 {
    if (x < -87.0) {
        return 0.0;
    }
    // x = k ln 2 + r, ln 2 in two parts so that k ln 2 is exact; then a Taylor polynomial on |r| ≤ ln 2 / 2.
    let k = floor(x * 1.442695041 + 0.5);
    let r = fma(k, 2.12194440e-4, fma(k, -0.693359375, x));
    var e = fma(r, 1.0 / 5040.0, 1.0 / 720.0);
    e = fma(r, e, 1.0 / 120.0);
    e = fma(r, e, 1.0 / 24.0);
    e = fma(r, e, 1.0 / 6.0);
    e = fma(r, e, 0.5);
    e = fma(r, e, 1.0);
    e = fma(r, e, 1.0);
    return e * pow2i(i32(k));
}

// ln x for normal x ≥ 1, within 3 ulps of the larger of the result and 1.
fn ln_pos(x: f32) -> f32 {
    var k = i32(bitcast<u32>(x) >> 23u) - 127;
    var m = bitcast<f32>((bitcast<u32>(x) & 0x007fffffu) | 0x3f800000u);
    if (m > 1.41421356) {
        m = 0.5 * m;
        k += 1;
    }
    // ln m = 2 artanh((m − 1)/(m + 1)), |t| ≤ 0.172.
    let t = (m - 1.0) / (m + 1.0);
    let t2 = t * t;
    var s = fma(t2, 1.0 / 9.0, 1.0 / 7.0);
    s = fma(t2, s, 1.0 / 5.0);
    s = fma(t2, s, 1.0 / 3.0);
    s = fma(t2, s, 1.0);
    let f = f32(k);
    return fma(f, 0.693359375, fma(f, -2.12194440e-4, 2.0 * t * s));
}

// 1/sqrt(v), one Newton step past the driver's own, within 2 ulps.
fn rsqrt(v: vec4<f32>) -> vec4<f32> {
    let r = inverseSqrt(v);
    return r * (1.5 - 0.5 * v * r * r);
}
