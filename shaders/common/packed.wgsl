// Weights that are 0 or ± 2^k, a byte each, four to a word: sign · 128 + (k + 64), or 0 for zero. Exact for k from −63 to 63.
fn unpack_word(word: u32) -> vec4<f32> {
    // The byte at the word's top, its sign copied one further down, is a float's sign and exponent with k + 64 for 2^(k − 63).
    let top = bitcast<vec4<i32>>(vec4(word) << vec4(0u, 8u, 16u, 24u));
    return bitcast<vec4<f32>>((top >> vec4(1u)) & vec4(-1082130432)) * 9223372036854775808.0; // 2^63
}

fn pack_word(w: vec4<f32>) -> u32 {
    let bits = bitcast<vec4<u32>>(w);
    let exponent = clamp((bits >> vec4(23u)) & vec4(255u), vec4(63u), vec4(190u)) - 63u;
    let code = select(vec4(0u), ((bits >> vec4(24u)) & vec4(128u)) | exponent, exponent > vec4(0u));
    return (code.x << 24u) | (code.y << 16u) | (code.z << 8u) | code.w;
}
