//! The recursion of shift latents, for the twins: s_0 = 0, s_t = \[shift_t > 0\] · (s_{t−1} + 1).

/// s over the first `upto` gates.
pub(super) fn shift_exponent(gates: &[bool], upto: usize) -> i32 {
    gates[..upto].iter().fold(0, |s, open| if *open { s + 1 } else { 0 })
}

/// dL/dshift_t from dL/ds_T, for each gate: ds · (Π_{k > t} \[shift_k > 0\]) · (s_{t−1} + 1).
pub(super) fn shift_gradients(gates: &[bool], ds: f64) -> impl Iterator<Item = f64> + '_ {
    (0..gates.len()).map(move |t| {
        let open = gates[t + 1..].iter().all(|g| *g);
        if open { ds * f64::from(shift_exponent(gates, t) + 1) } else { 0.0 }
    })
}
