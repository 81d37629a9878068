// sqrt(s + 1) of DenseShift's surrogate sgn(sign) · sqrt(s_T + 1), correctly rounded: WGSL's own sqrt is not.
const ROOTS = array<f32, 8>(1.0, 1.4142135, 1.7320508, 2.0, 2.236068, 2.4494898, 2.6457512, 2.828427);

// sqrt(s_T + 1) and dL/ds_T from g = dL/dW.
struct DenseShiftGradient {
    root: f32,
    ds: f32,
}

fn dense_shift_gradient(gates: u32, shifts: u32, sign: f32, g: f32) -> DenseShiftGradient {
    var roots = ROOTS;
    let root = roots[shift_exponent(gates, shifts)];
    return DenseShiftGradient(root, select(-g, g, sign >= 0.0) / (2.0 * root));
}
