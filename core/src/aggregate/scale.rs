//! The fixed-point scale of a round: committed facts that make a sum reproducible.

/// c ≤ 29: 24 bits of a value and 29 of a count make the 53 of an f64.
pub const CAP_EXPONENT_MAX: u8 = 29;
/// X ≤ 16: the sum keeps at least 34 bits below the largest weight.
pub const MAX_ABS_EXPONENT_MAX: u8 = 16;
/// Most contributions to one sum: 2^12 of 2^50 each stay within an i64. An aggregator in between
/// that sums for many counts as one.
pub const CONTRIBUTIONS_MAX: usize = 4096;

/// F + X: every contribution stays within 2^50.
const MAGNITUDE_EXPONENT: u8 = 50;

/// Why there is no scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// A client declares more examples than any may.
    #[error("expected at most 2^{CAP_EXPONENT_MAX} examples a client, found {0}")]
    Examples(u64),
    /// The cap's exponent is beyond what the product holds.
    #[error("expected a cap of at most 2^{CAP_EXPONENT_MAX}, found 2^{0}")]
    Cap(u8),
    /// The bound on values is beyond what keeps the sum precise.
    #[error("expected a max_abs_update of at most 2^{MAX_ABS_EXPONENT_MAX}, found 2^{0}")]
    MaxAbs(u8),
}

/// How values become integers: `cap = 2^c` bounds the weights, `2^X` the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    cap_exponent: u8,
    max_abs_exponent: u8,
}

impl Scale {
    /// The scale of these exponents, as a round's row holds them.
    ///
    /// # Errors
    /// When one is beyond [`CAP_EXPONENT_MAX`] or [`MAX_ABS_EXPONENT_MAX`].
    pub fn new(cap_exponent: u8, max_abs_exponent: u8) -> Result<Self, ScaleError> {
        if cap_exponent > CAP_EXPONENT_MAX {
            return Err(ScaleError::Cap(cap_exponent));
        }
        if max_abs_exponent > MAX_ABS_EXPONENT_MAX {
            return Err(ScaleError::MaxAbs(max_abs_exponent));
        }
        Ok(Self { cap_exponent, max_abs_exponent })
    }

    /// The scale of a roster: the cap is the least power of two that no declared count exceeds.
    ///
    /// # Errors
    /// When the largest count is above 2^29, or X above [`MAX_ABS_EXPONENT_MAX`].
    pub fn for_roster(max_examples: u64, max_abs_exponent: u8) -> Result<Self, ScaleError> {
        if max_examples > 1 << CAP_EXPONENT_MAX {
            return Err(ScaleError::Examples(max_examples));
        }
        let cap_exponent = max_examples.next_power_of_two().trailing_zeros() as u8;
        Self::new(cap_exponent, max_abs_exponent)
    }

    /// c.
    #[must_use]
    pub fn cap_exponent(self) -> u8 {
        self.cap_exponent
    }

    /// X.
    #[must_use]
    pub fn max_abs_exponent(self) -> u8 {
        self.max_abs_exponent
    }

    /// The largest weight, 2^c. An update that says more is rejected.
    #[must_use]
    pub fn cap(self) -> u64 {
        1 << self.cap_exponent
    }

    /// The largest magnitude of a value, 2^X.
    #[must_use]
    pub fn max_abs(self) -> f32 {
        (1_u32 << self.max_abs_exponent) as f32
    }

    /// F = 50 − X: bits of the sum below one, at the largest weight.
    #[must_use]
    pub fn fraction_bits(self) -> u8 {
        MAGNITUDE_EXPONENT - self.max_abs_exponent
    }

    /// The factor of an update of weight n: `f64(n) · 2^(F−c)`, exact.
    #[must_use]
    pub fn weight(self, n: u64) -> f64 {
        debug_assert!(n <= self.cap(), "a weight of {n} is above the cap {}", self.cap());
        n as f64 * self.unit()
    }

    /// What the sum is divided by: `f64(Σn) · 2^(F−c)`, exact.
    #[must_use]
    pub fn denominator(self, total_n: u64) -> f64 {
        debug_assert!(total_n > 0, "nobody has an example");
        total_n as f64 * self.unit()
    }

    /// 2^(F−c); F ≥ 34 and c ≤ 29, so it is a whole power of two.
    fn unit(self) -> f64 {
        (1_u64 << (self.fraction_bits() - self.cap_exponent)) as f64
    }
}
