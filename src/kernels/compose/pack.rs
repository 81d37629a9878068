//! Composed weights as bytes, for the convolutions that read them so.

use crate::kernels::{Case, Fill, Tolerance, groups_for, read, write_u32};

crate::params! {
    /// Two weight slabs of the same length.
    pub struct PackWeightsParams {
        /// vec4 in each.
        len4: u32,
    }
}

/// 0, or ± 2^k with k from −63 to 63, as sign · 128 + (k + 64).
pub fn byte_of(weight: f32) -> u8 {
    let bits = weight.to_bits();
    let exponent = ((bits >> 23) & 255).clamp(63, 190) - 63;
    if exponent == 0 { 0 } else { ((bits >> 24) & 128 | exponent) as u8 }
}

/// The weight that a byte stands for.
pub fn value_of(byte: u8) -> f32 {
    let (sign, exponent) = (u32::from(byte >> 7), u32::from(byte & 127));
    if exponent == 0 { 0.0 } else { f32::from_bits(sign << 31 | (exponent + 63) << 23) }
}

crate::kernel! {
    /// The weight slabs as bytes, four to a word; of weights that are not 0 or ± 2^k it makes something else.
    pub PackWeights(p: PackWeightsParams) {
        source: crate::wgsl!("compose/pack_weights"; "grid", "packed"),
        bindings: [read("weight"), read("weight_t"), write_u32("packed"), write_u32("packed_t")],
        consts: [],
        groups: groups_for(p.len4.into()),
        lens: [4 * p.len4, 4 * p.len4, p.len4, p.len4],
        tolerance: Tolerance::Exact,
        cost: (0.0, 10.0 * f64::from(p.len4)),
        cases: [0, 1, 64, 257].into_iter().map(|len4| {
            let sign = |i: usize| if i.is_multiple_of(3) { -1.0 } else { 1.0 };
            let weights = |first: usize| {
                let level = |i: usize| match (first + i) % 130 {
                    0 => 0.0,
                    1 => -0.0,
                    j => sign(i) * 2f32.powi(j as i32 - 66),
                };
                Fill::Floats((0..4 * len4 as usize).map(level).collect())
            };
            let fills = vec![weights(0), weights(77), Fill::Out, Fill::Out];
            Case::new(format!("{len4} vec4 of every level"), PackWeightsParams { len4 }, fills)
        }).collect(),
        twin(a): {
            for (from, to) in [(0, 2), (1, 3)] {
                let words = a.f(from).chunks_exact(4).map(|w| u32::from_be_bytes([0, 1, 2, 3].map(|j| byte_of(w[j] as f32))));
                a.out_u32(to).iter_mut().zip(words).take(p.len4 as usize).for_each(|(to, word)| *to = word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_comes_back() {
        for k in -63..=63 {
            for w in [2f32.powi(k), -2f32.powi(k)] {
                assert_eq!(value_of(byte_of(w)), w);
            }
        }
        assert_eq!([0.0, -0.0].map(|w| value_of(byte_of(w)).to_bits()), [0, 0]);
        assert_eq!((byte_of(1.0), byte_of(-2.0)), (64, 128 + 65));
    }
}
