// The shift recursion of S3 (NeurIPS 2021) and DenseShift (ICCV 2023): s_0 = 0, s_t = [shift_t > 0] · (s_{t−1} + 1), from the gates as
// bits, bit t − 1 for shift_t.
fn shift_exponent(gates: u32, upto: u32) -> u32 {
    var s = 0u;
    for (var t = 0u; t < upto; t++) {
        s = select(0u, s + 1u, ((gates >> t) & 1u) == 1u);
    }
    return s;
}

// The layer's shift gates of weight i as bits; T latents from the layer's latent tensor `first` on.
fn shift_gates(s: Segment, i: u32, first: u32, shifts: u32) -> u32 {
    var gates = 0u;
    for (var t = 0u; t < shifts; t++) {
        gates |= u32(params[s.base + (first + t) * s.stride + i] > 0.0) << t;
    }
    return gates;
}

// dL/dshift_t = ds · (Π_{k > t} [shift_k > 0]) · (s_{t−1} + 1) with ds = dL/ds_T, for t from 1 to T = shifts.
fn shift_gradient(gates: u32, t: u32, shifts: u32, ds: f32) -> f32 {
    let open = (gates >> t) == (1u << (shifts - t)) - 1u; // all gates behind t
    return select(0.0, ds * f32(shift_exponent(gates, t - 1u) + 1u), open);
}
