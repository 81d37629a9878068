//! Shift weights as bit planes: b words for every 32 weights.

use crate::methods::levels::Levels;

/// Weights to a group, bits to a word.
const GROUP: usize = 32;

/// One weight: a sign and an index into its layer's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShiftWeight {
    /// Into the table.
    pub index: u8,
    /// Subtracted; never set where the table says zero.
    pub negative: bool,
}

/// Words of so many weights.
pub fn words(weights: usize, bits: u32) -> usize {
    weights.div_ceil(GROUP) * bits as usize
}

/// Weight 32g + i is bit i of words b·g … b·g + b − 1: first the sign, then the index from its low bit up.
pub fn pack(codes: &[ShiftWeight], bits: u32) -> Vec<u32> {
    let plane = |group: &[ShiftWeight], j: u32| {
        let bit = |w: &ShiftWeight| match j {
            0 => u32::from(w.negative),
            _ => u32::from(w.index >> (j - 1)) & 1,
        };
        group.iter().enumerate().fold(0, |word, (i, w)| word | bit(w) << i)
    };
    codes.chunks(GROUP).flat_map(|group| (0..bits).map(move |j| plane(group, j))).collect()
}

/// The first `count` weights of [`words`] words.
pub fn unpack(words: &[u32], bits: u32, count: usize) -> Vec<ShiftWeight> {
    let weight = |i: usize| {
        let group = &words[i / GROUP * bits as usize..][..bits as usize];
        let bit = |j: usize| group[j] >> (i % GROUP) & 1;
        let index = (1..bits as usize).fold(0, |index, j| index | (bit(j) as u8) << (j - 1));
        ShiftWeight { index, negative: bit(0) == 1 }
    };
    (0..count).map(weight).collect()
}

/// Composed weights of one output channel at `scale` times the levels, or the first that is on no level.
pub fn quantize(levels: &Levels, scale: f64, weights: &[f32]) -> Result<Vec<ShiftWeight>, f32> {
    let unit = scale * f64::from(levels.exponent).exp2();
    let code = |w: &f32| {
        let index = levels.index(f64::from(w.abs()) / unit).ok_or(*w)?;
        let negative = *w < 0.0 && levels.table[usize::from(index)].is_some();
        Ok(ShiftWeight { index, negative })
    };
    weights.iter().map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_lie_as_documented() {
        // 33 weights of 3 bits: weight 0 is −(index 1), weight 31 is +(index 2), weight 32 is −(index 3).
        let mut codes = vec![ShiftWeight::default(); 33];
        codes[0] = ShiftWeight { index: 1, negative: true };
        codes[31] = ShiftWeight { index: 2, negative: false };
        codes[32] = ShiftWeight { index: 3, negative: true };
        assert_eq!(pack(&codes, 3), [1, 1, 1 << 31, 1, 1, 1]);
        assert_eq!(words(33, 3), 6);
    }

    #[test]
    fn packing_comes_back_for_every_width() {
        for bits in 1..=6u32 {
            let code = |i: u32| {
                let mixed = i.wrapping_mul(2_654_435_761) >> 16;
                ShiftWeight { index: (mixed % (1 << (bits - 1))) as u8, negative: mixed & 256 != 0 }
            };
            let codes: Vec<_> = (0..77).map(code).collect();
            let packed = pack(&codes, bits);
            assert_eq!((packed.len(), unpack(&packed, bits, 77)), (words(77, bits), codes));
        }
    }

    #[test]
    fn weights_find_their_levels() {
        let s3 = Levels::s3(3);
        let code = |index, negative| ShiftWeight { index, negative };
        let found = quantize(&s3, 1.0, &[-0.0, 1.0, -4.0]).unwrap();
        assert_eq!(found, [code(0, false), code(1, false), code(3, true)]);
        assert_eq!(quantize(&s3, 1.0, &[1.0, 3.0]), Err(3.0));
        let twn = quantize(&Levels::ternary(), f64::from(0.3f32), &[0.3, 0.0, -0.3]).unwrap();
        assert_eq!(twn, [code(1, false), code(0, false), code(1, true)]);
        let q = quantize(&Levels::deep_shift_q(3), 1.0, &[-0.125, 1.0, -0.0]).unwrap();
        assert_eq!(q, [code(0, true), code(3, false), code(0, false)]);
    }
}
