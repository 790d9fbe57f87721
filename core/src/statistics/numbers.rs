//! Count, sum and sum of squares of one feature, as integers that add up over sites: in any order and
//! any grouping to the same bytes.
//!
//! A value x enters as q = rint(x · 2^20), and its square as q²; both are added in 128 bits. The
//! error of a mean is at most 2^-21, that of rounding each value.

/// Bits behind the point of a value.
const FRACTION_BITS: u32 = 20;
const SCALE: f64 = (1_u64 << FRACTION_BITS) as f64;
/// Greatest magnitude of a value that is summed: q is exact in an f64, and q² stays below 2^100.
pub const VALUE_MAX: f64 = (1_u64 << 30) as f64;
/// Greatest magnitude of a q.
const Q_MAX: i128 = 1 << 50;
/// Bytes of the sums of one feature: count, left out, Σ q, Σ q², little-endian.
pub const NUMERIC_BYTES: usize = 8 + 8 + 16 + 16;

/// Count, sum and sum of squares of one feature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NumericSums {
    /// Values that were summed.
    pub count: u64,
    /// Values that were not: missing, not finite, or beyond [`VALUE_MAX`].
    pub left_out: u64,
    /// Σ q, in units of 2^-20.
    pub sum: i128,
    /// Σ q², in units of 2^-40.
    pub squares: i128,
}

impl NumericSums {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() || value.abs() > VALUE_MAX {
            self.left_out += 1;
            return;
        }
        // At most 2^50: exact in f64 and in i64.
        let q = i128::from(libm::rint(value * SCALE) as i64);
        self.count += 1;
        self.sum += q;
        self.squares += q * q;
    }

    /// Adds other rows' sums; `None` where they are too large to be added.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Option<Self> {
        Some(Self {
            count: self.count.checked_add(other.count)?,
            left_out: self.left_out.checked_add(other.left_out)?,
            sum: self.sum.checked_add(other.sum)?,
            squares: self.squares.checked_add(other.squares)?,
        })
    }

    /// The mean; none without values.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64 / SCALE)
    }

    /// The standard deviation (of the whole, not of a sample); none without values.
    #[must_use]
    pub fn deviation(&self) -> Option<f64> {
        let count = i128::from(self.count);
        if count == 0 {
            return None;
        }
        // n·Σq² − (Σq)² in integers loses nothing, unlike the difference of two means.
        let exact = count.checked_mul(self.squares).zip(self.sum.checked_mul(self.sum));
        let variance = match exact {
            Some((squares, square)) => (squares - square) as f64 / (count as f64 * count as f64),
            None => {
                let mean = self.sum as f64 / count as f64;
                self.squares as f64 / count as f64 - mean * mean
            }
        };
        Some(libm::sqrt(variance.max(0.0)) / SCALE)
    }

    /// Whether at most `most` values can have these sums; else what was expected, and what is.
    pub(super) fn check(&self, most: u64) -> Result<(), (String, String)> {
        let values = self.count.saturating_add(self.left_out);
        if values > most {
            return Err((format!("at most {most} values"), values.to_string()));
        }
        let count = i128::from(self.count);
        // Counts are below 2^64 and so products with 2^50 below 2^114; with 2^100 they may not fit,
        // and then nothing that fits is above them.
        if self.sum.unsigned_abs() > (count * Q_MAX).unsigned_abs() {
            return Err(("a sum that so many values can have".to_owned(), self.sum.to_string()));
        }
        let most = count.checked_mul(Q_MAX * Q_MAX).unwrap_or(i128::MAX);
        let enough = || {
            let squares = wide(self.count.into(), self.squares.unsigned_abs());
            squares >= wide(self.sum.unsigned_abs(), self.sum.unsigned_abs())
        };
        if !(0..=most).contains(&self.squares) || !enough() {
            let expected = "squares that such values can have".to_owned();
            return Err((expected, self.squares.to_string()));
        }
        Ok(())
    }

    /// The sums as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; NUMERIC_BYTES] {
        let mut bytes = [0; NUMERIC_BYTES];
        bytes[..8].copy_from_slice(&self.count.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.left_out.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.sum.to_le_bytes());
        bytes[32..].copy_from_slice(&self.squares.to_le_bytes());
        bytes
    }

    /// Sums from bytes; `None` on another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; NUMERIC_BYTES] = bytes.try_into().ok()?;
        Some(Self {
            count: u64::from_le_bytes(bytes[..8].try_into().ok()?),
            left_out: u64::from_le_bytes(bytes[8..16].try_into().ok()?),
            sum: i128::from_le_bytes(bytes[16..32].try_into().ok()?),
            squares: i128::from_le_bytes(bytes[32..].try_into().ok()?),
        })
    }
}

/// a · b in 256 bits: the high half, the low half.
fn wide(a: u128, b: u128) -> (u128, u128) {
    const HALF: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & HALF, b >> 64, b & HALF);
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 64);
    let (middle, carried) = middle.overflowing_add(a0 * b1);
    let high = a1 * b1 + (middle >> 64) + (u128::from(carried) << 64);
    (high, (middle << 64) | (low & HALF))
}

#[cfg(test)]
mod tests {
    use super::{NumericSums, wide};

    fn sums(values: &[f64]) -> NumericSums {
        let mut sums = NumericSums::default();
        values.iter().for_each(|&value| sums.add(value));
        sums
    }

    #[test]
    fn merging_in_any_order_gives_the_same_bytes() {
        let values: Vec<f64> = (0..1000).map(|at| f64::from(at * at % 97) / 7.0 - 3.0).collect();
        let whole = sums(&values);
        for parts in [1, 3, 10] {
            let mut merged = NumericSums::default();
            for part in values.chunks(values.len().div_ceil(parts)).rev() {
                merged = merged.merged(&sums(part)).expect("they fit");
            }
            assert_eq!(merged.to_bytes(), whole.to_bytes());
        }
        assert_eq!(NumericSums::from_bytes(&whole.to_bytes()), Some(whole));
        let mean = values.iter().sum::<f64>() / 1000.0;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 1000.0;
        assert!((whole.mean().expect("values") - mean).abs() < 1e-6);
        assert!((whole.deviation().expect("values") - variance.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn a_small_spread_far_from_zero_is_not_lost() {
        let far = sums(&[1e9 + 0.25, 1e9 - 0.25, 1e9 + 0.25, 1e9 - 0.25]);
        assert_eq!((far.mean(), far.deviation()), (Some(1e9), Some(0.25)));
        assert_eq!((sums(&[]).mean(), sums(&[]).deviation()), (None, None));
        let wild = sums(&[1.0, f64::NAN, f64::INFINITY, 1e300]);
        assert_eq!((wild.count, wild.left_out), (1, 3));
    }

    #[test]
    fn sums_that_no_values_have_are_found() {
        let good = sums(&[3.0, -4.0, 1e9]);
        assert_eq!(good.check(3), Ok(()));
        let bad = [
            NumericSums { count: 4, ..good },
            NumericSums { left_out: 1, ..good },
            NumericSums { sum: 3 << 51, ..good },
            NumericSums { squares: -1, ..good },
            NumericSums { squares: 3 << 101, ..good },
            NumericSums { squares: 1, ..good },
            NumericSums { count: 0, ..good },
        ];
        for (at, sums) in bad.into_iter().enumerate() {
            assert!(sums.check(3).is_err(), "{at}");
        }
    }

    #[test]
    fn wide_products_are_exact() {
        assert_eq!(wide(u128::MAX, u128::MAX), (u128::MAX - 1, 1));
        assert_eq!(wide(1 << 100, 1 << 100), (1 << 72, 0));
        assert_eq!(wide(7, 6), (0, 42));
        let (a, b) = (u128::from(u64::MAX) << 3, (1_u128 << 64) + 5);
        assert_eq!(wide(a, b).1, a.wrapping_mul(b));
    }
}
