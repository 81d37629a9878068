// Signed binary digits as bytes: bits 0 to 4 the shift, bit 6 set where there is a digit, bit 7 where it is negative.
// ± (v << shift), or 0, for four numbers and their codes: no multiplication.
fn times_digit(v: vec4<i32>, code: vec4<u32>) -> vec4<i32> {
    let sign = -vec4<i32>((code >> vec4(7u)) & vec4(1u)); // 0, or all bits: (t ^ −1) − (−1) = −t
    let keep = -vec4<i32>((code >> vec4(6u)) & vec4(1u));
    return (((v << (code & vec4(31u))) ^ sign) - sign) & keep;
}
