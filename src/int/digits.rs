//! Signed binary digits: what a constant costs in shifts and additions.

/// K, the digits that a multiplier may have, where nothing else is asked for.
pub const TERMS: u32 = 3;

/// One digit: ± 2^shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    /// Its exponent.
    pub shift: u32,
    /// Whether it is subtracted.
    pub negative: bool,
}

/// The canonical signed digit form, low digit first: no two neighbours are both nonzero, and no form has fewer digits.
pub fn digits(value: i32) -> Vec<Digit> {
    let (mut rest, mut shift, mut found) = (i64::from(value), 0, Vec::new());
    while rest != 0 {
        if rest & 1 == 1 {
            // Remainder 1 or −1, such that what is left is a multiple of 4.
            let digit = 2 - (rest & 3);
            found.push(Digit { shift, negative: digit < 0 });
            rest -= digit;
        }
        rest >>= 1;
        shift += 1;
    }
    found
}

/// Σ 2^shift over the digits: the factor by which partial sums can grow.
pub fn magnitude(value: i32) -> u64 {
    digits(value).iter().map(|d| 1u64 << d.shift).sum()
}

/// x times the constant, by shifts and additions. Exact where the result fits; else modulo 2^32.
pub fn times(x: i32, digits: &[Digit]) -> i32 {
    digits.iter().fold(0i32, |sum, d| {
        let term = x.wrapping_shl(d.shift);
        if d.negative { sum.wrapping_sub(term) } else { sum.wrapping_add(term) }
    })
}

/// Every integer from 0 to 255 of at most `terms` digits, and 256.
#[derive(Clone, Debug)]
pub struct Constants(Vec<i32>);

impl Constants {
    /// With at most `terms` nonzero digits.
    pub fn new(terms: u32) -> Self {
        Self((0..=256).filter(|v| digits(*v).len() <= terms as usize).collect())
    }

    /// The nearest one to `value`, the smaller of two; none where its magnitude would reach 2^8.
    pub fn nearest(&self, value: f64) -> Option<i32> {
        let wanted = value.abs();
        if wanted.is_nan() || wanted > 256.0 {
            return None;
        }
        let distance = |v: &&i32| (f64::from(**v) - wanted).abs();
        let best = *self.0.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        (best < 256).then_some(if value < 0.0 { -best } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_canonical_and_add_up() {
        for value in -70_000..70_000 {
            let d = digits(value);
            let sum: i64 = d.iter().map(|d| if d.negative { -(1i64 << d.shift) } else { 1 << d.shift }).sum();
            assert_eq!(sum, i64::from(value));
            assert!(d.windows(2).all(|w| w[1].shift >= w[0].shift + 2), "{value}: {d:?}");
            assert_eq!(times(3, &d), 3 * value);
        }
        for value in [i32::MIN, i32::MAX] {
            assert_eq!(times(1, &digits(value)), value);
        }
        // 7 = 8 − 1, 255 = 256 − 1.
        assert_eq!((magnitude(7), magnitude(-7), magnitude(255), magnitude(0)), (9, 9, 257, 0));
    }

    #[test]
    fn the_nearest_constant_has_few_digits() {
        let (one, three) = (Constants::new(1), Constants::new(3));
        assert_eq!((one.nearest(5.9), one.nearest(-6.1), one.nearest(6.0)), (Some(4), Some(-8), Some(4)));
        assert_eq!(three.nearest(171.0), Some(168), "168 = 128 + 32 + 8, and 171 to 169 have more digits");
        assert_eq!((three.nearest(255.4), three.nearest(255.6), three.nearest(f64::NAN)), (Some(255), None, None));
        for v in -255..=255 {
            let near = three.nearest(f64::from(v)).unwrap_or(256);
            assert!(digits(near).len() <= 3 && (near - v).abs() <= 5, "{v}: {near}");
        }
    }
}
