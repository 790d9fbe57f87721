//! Sums over predicted numbers, in wide integers: exact, in any order.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{StatisticsError, ValueScores};

/// A value of 1 in the sums: 20 binary places.
const ONE: f64 = (1_u64 << 20) as f64;
/// Largest magnitude of a target or an error; larger ones, and what is no number, count as this.
const VALUE_MAX: f64 = (1_u64 << 30) as f64;
/// Bytes of the sums of one output on the wire.
const BYTES: usize = 4 * 16;

/// What the scores of one output follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ValueSums {
    /// Σ y.
    target: i128,
    /// Σ y².
    target_squared: i128,
    /// Σ (x − y)².
    error_squared: i128,
    /// Σ |x − y|.
    error_absolute: i128,
}

impl ValueSums {
    /// Adds one prediction.
    pub(super) fn record(&mut self, target: f64, prediction: f64) {
        let (target, error) = (bounded(target), bounded(prediction - target));
        self.target += fixed(target);
        self.target_squared += fixed(target * target);
        self.error_squared += fixed(error * error);
        self.error_absolute += fixed(error.abs());
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.target += other.target;
        self.target_squared += other.target_squared;
        self.error_squared += other.error_squared;
        self.error_absolute += other.error_absolute;
    }

    /// Whether so many examples can have these sums.
    pub(super) fn check(&self, examples: u64) -> Result<(), StatisticsError> {
        let most = |value: f64| fixed(value) * i128::from(examples);
        let (linear, square) = (most(VALUE_MAX), most(VALUE_MAX * VALUE_MAX));
        let within = (-linear..=linear).contains(&self.target)
            && (0..=square).contains(&self.target_squared)
            && (0..=square).contains(&self.error_squared)
            && (0..=linear).contains(&self.error_absolute);
        if within {
            return Ok(());
        }
        let expected = format!("sums that {examples} examples can have");
        Err(StatisticsError::Count { field: "values", expected, found: examples })
    }

    pub(super) fn scores(&self, examples: u64) -> ValueScores {
        let n = examples as f64;
        let mean = |sum: i128| sum as f64 / ONE / n;
        let error = mean(self.error_squared);
        let spread = (mean(self.target_squared) - mean(self.target) * mean(self.target)).max(0.0);
        let r2 = if spread > 0.0 {
            1.0 - error / spread
        } else {
            f64::from(u8::from(self.error_squared == 0))
        };
        ValueScores { rmse: error.sqrt(), mae: mean(self.error_absolute), r2 }
    }

    /// The sums for the wire: four numbers of 16 bytes, little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let sums = [self.target, self.target_squared, self.error_squared, self.error_absolute];
        sums.iter().flat_map(|sum| sum.to_le_bytes()).collect()
    }

    /// Sums from the wire; `None` on another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let mut sums = [0_i128; 4];
        for (sum, chunk) in sums.iter_mut().zip(bytes.chunks_exact(16)) {
            *sum = i128::from_le_bytes(chunk.try_into().ok()?);
        }
        let [target, target_squared, error_squared, error_absolute] = sums;
        Some(Self { target, target_squared, error_squared, error_absolute })
    }
}

fn bounded(value: f64) -> f64 {
    if value.is_nan() { VALUE_MAX } else { value.clamp(-VALUE_MAX, VALUE_MAX) }
}

fn fixed(value: f64) -> i128 {
    (value * ONE).round() as i128
}

/// As hexadecimal text: JSON's numbers are too narrow.
impl Serialize for ValueSums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for ValueSums {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = hex::decode(&text).map_err(D::Error::custom)?;
        Self::from_bytes(&bytes).ok_or_else(|| D::Error::custom("sums of another length"))
    }
}
