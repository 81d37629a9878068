//! The levels of a method's weights: 0 and ± powers of two, as a table of shifts beside a power-of-two scale.

/// A table of 2^(bits − 1) magnitudes: weight = ± 2^(shift + exponent), or 0, and per output channel a real factor where
/// the method has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Bits a weight, sign included: 1 to 6.
    pub bits: u32,
    /// Shift of each magnitude; none is zero. 2^(bits − 1) entries.
    pub table: Vec<Option<u8>>,
    /// The layer's scale is 2^exponent.
    pub exponent: i32,
    /// Whether each output channel has a positive real scale beside it (TWN, BWN): its largest |w|.
    pub scaled: bool,
}

impl Levels {
    /// Unused entries are zero.
    fn new(bits: u32, shifts: impl IntoIterator<Item = Option<u8>>, exponent: i32, scaled: bool) -> Self {
        let mut table: Vec<_> = shifts.into_iter().collect();
        table.resize(1 << (bits - 1), None);
        Self { bits, table, exponent, scaled }
    }

    fn zero_and(shifts: std::ops::Range<u8>) -> impl Iterator<Item = Option<u8>> {
        std::iter::once(None).chain(shifts.map(Some))
    }

    /// S3: 0, ±1, ±2 … ±2^T with T = 2^(bits − 1) − 2.
    pub fn s3(bits: u32) -> Self {
        Self::new(bits, Self::zero_and(0..(1 << (bits - 1)) - 1), 0, false)
    }

    /// DenseShift: ±1 … ±2^T with T = 2^(bits − 1) − 1, no zero.
    pub fn dense_shift(bits: u32) -> Self {
        Self::new(bits, (0..1 << (bits - 1)).map(Some), 0, false)
    }

    /// DeepShift-Q: ±2^−(2^(bits − 1) − 1) … ±1, no zero.
    pub fn deep_shift_q(bits: u32) -> Self {
        Self::new(bits, (0..1 << (bits - 1)).map(Some), 1 - (1 << (bits - 1)), false)
    }

    /// DeepShift-PS: 0, ±2^−(2^(bits − 1) − 2) … ±1.
    pub fn deep_shift_ps(bits: u32) -> Self {
        Self::new(bits, Self::zero_and(0..(1 << (bits - 1)) - 1), 2 - (1 << (bits - 1)), false)
    }

    /// INQ: 0, ±2^(n1 + 1 − 2^(bits − 2)) … ±2^n1; bits from 2.
    pub fn inq(bits: u32, n1: i32) -> Self {
        Self::new(bits, Self::zero_and(0..1 << (bits - 2)), n1 + 1 - (1 << (bits - 2)), false)
    }

    /// TWN: 0, ±α.
    pub fn ternary() -> Self {
        Self::new(2, [None, Some(0)], 0, true)
    }

    /// BWN: ±α.
    pub fn binary() -> Self {
        Self::new(1, [Some(0)], 0, true)
    }

    /// Whether one of them is zero.
    pub fn has_zero(&self) -> bool {
        self.table.contains(&None)
    }

    /// The table's index of a magnitude divided by its scale, 2^exponent and the channel's; none where it is no level. Where
    /// there is no zero, a zero is the smallest level.
    pub fn index(&self, magnitude: f64) -> Option<u8> {
        let smallest = || (0..self.table.len()).min_by_key(|i| self.table[*i]);
        let found = match magnitude == 0.0 {
            true => smallest(), // `None`, zero, is less than any shift
            false => self.table.iter().position(|s| s.is_some_and(|s| f64::from(s).exp2() == magnitude)),
        };
        found.map(|i| i as u8)
    }

    /// The levels after 2^exponent rose by `by`: entries below the new scale are zero.
    pub fn raised(&self, by: u8) -> Self {
        let table = self.table.iter().map(|s| s.and_then(|s| s.checked_sub(by))).collect();
        Self { table, exponent: self.exponent + i32::from(by), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Magnitudes, smallest first.
    fn magnitudes(l: &Levels) -> Vec<f64> {
        assert_eq!(l.table.len(), 1 << (l.bits - 1));
        let mut all: Vec<f64> =
            l.table.iter().map(|s| s.map_or(0.0, |s| f64::from(i32::from(s) + l.exponent).exp2())).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    #[test]
    fn tables_are_the_methods_levels() {
        assert_eq!(magnitudes(&Levels::s3(2)), [0.0, 1.0]);
        assert_eq!(magnitudes(&Levels::s3(3)), [0.0, 1.0, 2.0, 4.0]);
        assert_eq!(magnitudes(&Levels::s3(4)), [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        assert_eq!(magnitudes(&Levels::dense_shift(3)), [1.0, 2.0, 4.0, 8.0]);
        assert_eq!(magnitudes(&Levels::deep_shift_q(3)), [0.125, 0.25, 0.5, 1.0]);
        assert_eq!(magnitudes(&Levels::deep_shift_ps(3)), [0.0, 0.25, 0.5, 1.0]);
        // b = 3: 2^(b−1) + 1 = 5 values, that is zero and two magnitudes; the fourth entry is unused.
        assert_eq!(magnitudes(&Levels::inq(3, -1)), [0.0, 0.0, 0.25, 0.5]);
        assert_eq!(magnitudes(&Levels::ternary()), [0.0, 1.0]);
        assert_eq!(magnitudes(&Levels::binary()), [1.0]);
        assert_eq!(magnitudes(&Levels::deep_shift_q(6))[0], (-31f64).exp2());
    }

    #[test]
    fn indices_and_raised_tables() {
        let s3 = Levels::s3(3);
        assert_eq!([0.0, 1.0, 2.0, 4.0].map(|m| s3.index(m)), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!((s3.index(3.0), s3.index(8.0)), (None, None));
        assert_eq!(Levels::dense_shift(3).index(0.0), Some(0), "the smallest level stands for a zero");
        let raised = Levels::deep_shift_q(3).raised(2);
        assert_eq!((raised.table, raised.exponent), (vec![None, None, Some(0), Some(1)], -1));
    }
}
