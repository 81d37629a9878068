// 8-bit integers, four to a word, low byte first.
fn unpack_bytes(word: u32, is_signed: bool) -> vec4<i32> {
    let bytes = (vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
    // An int8 from its bits: (b ^ 128) − 128.
    let flip = select(0u, 128u, is_signed);
    return vec4<i32>(bytes ^ vec4(flip)) - vec4(i32(flip));
}

// Clamped to int8 or uint8.
fn pack_bytes(q: vec4<i32>, is_signed: bool) -> u32 {
    let low = select(0, -128, is_signed);
    let b = vec4<u32>(clamp(q, vec4(low), vec4(low + 255))) & vec4(255u);
    return b.x | (b.y << 8u) | (b.z << 16u) | (b.w << 24u);
}
