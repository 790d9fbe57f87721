//! Metrics as sufficient statistics: counts that add up exactly, ratios only when shown.
//!
//! A client reports [`Statistics`]: integers that are added in any order with the same result.
//! [`Metrics`] are computed from the sum, so a federated F1 is the F1 of all examples together,
//! which a mean of the clients' F1 is not.

mod scores;

use serde::{Deserialize, Serialize};

pub use scores::{ClassScores, Metrics};

/// A loss of 1 in [`Statistics::loss_sum`]: 20 binary places, so a mean is right to 5e-7.
pub const LOSS_ONE: i64 = 1 << 20;
/// Largest magnitude of one example's loss; larger ones, and losses that are no number, count as
/// this. Together with [`EXAMPLES_MAX`] no sum overflows.
pub const LOSS_MAX: f64 = 1024.0;
/// Most examples that statistics may speak of.
pub const EXAMPLES_MAX: u64 = 1 << 32;
/// Most classes: the matrix stays at 32 MiB.
pub const CLASSES_MAX: u32 = 2048;

/// What a model did on some examples: sums from which every ratio follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// How many classes there are.
    pub classes: u32,
    /// How many examples were scored.
    pub examples: u64,
    /// The sum of the examples' losses in units of 1 ⁄ [`LOSS_ONE`], each rounded and clamped to
    /// ±[`LOSS_MAX`] on its own: exact, in any order.
    pub loss_sum: i64,
    /// `classes × classes` counts, row by row: the row is the true class, the column the predicted.
    pub confusion: Vec<u64>,
}

/// Why statistics are not what they say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatisticsError {
    /// A number of classes out of bounds.
    #[error("expected 1 to {CLASSES_MAX} classes, found {0}")]
    Classes(u32),
    /// A matrix of another size.
    #[error("expected a confusion matrix of {expected} counts, found {found}")]
    Size {
        /// The square of the number of classes.
        expected: usize,
        /// The counts that came.
        found: usize,
    },
    /// More examples than the sums have room for.
    #[error("expected at most {EXAMPLES_MAX} examples, found {0}")]
    Examples(u64),
    /// The matrix does not add up to the examples.
    #[error("expected a confusion matrix that adds up to {examples} examples, found {found}")]
    Sum {
        /// The examples that the statistics name.
        examples: u64,
        /// The matrix's sum; `u64::MAX` where it is larger.
        found: u64,
    },
    /// A loss that so many examples cannot have.
    #[error("expected a loss sum of at most ±{bound}, found {found}")]
    Loss {
        /// What that many examples can have.
        bound: i64,
        /// The sum that came.
        found: i64,
    },
    /// A class that does not exist.
    #[error("expected a class below {classes}, found {found}")]
    Class {
        /// How many classes there are.
        classes: u32,
        /// The label or prediction that came.
        found: u32,
    },
    /// Statistics of two different problems.
    #[error("expected statistics of {expected} classes to merge, found {found}")]
    Merge {
        /// The classes here.
        expected: u32,
        /// The classes there.
        found: u32,
    },
}

impl Statistics {
    /// No examples yet.
    ///
    /// # Errors
    /// On a number of classes that is 0 or above [`CLASSES_MAX`].
    pub fn new(classes: u32) -> Result<Self, StatisticsError> {
        let size = matrix_size(classes)?;
        Ok(Self { classes, examples: 0, loss_sum: 0, confusion: vec![0; size] })
    }

    /// Adds one example: its true class, the predicted one, and its loss.
    ///
    /// # Errors
    /// On a class that does not exist, and beyond [`EXAMPLES_MAX`] examples.
    pub fn record(&mut self, label: u32, predicted: u32, loss: f64) -> Result<(), StatisticsError> {
        let classes = self.classes;
        for class in [label, predicted] {
            if class >= classes {
                return Err(StatisticsError::Class { classes, found: class });
            }
        }
        let index = label as usize * classes as usize + predicted as usize;
        let found = self.confusion.len();
        let expected = matrix_size(classes)?;
        let cell =
            self.confusion.get_mut(index).ok_or(StatisticsError::Size { expected, found })?;
        if self.examples >= EXAMPLES_MAX {
            return Err(StatisticsError::Examples(self.examples.saturating_add(1)));
        }
        *cell = cell.saturating_add(1);
        self.examples += 1;
        self.loss_sum = self.loss_sum.saturating_add(fixed_point(loss));
        Ok(())
    }

    /// Adds the examples of other statistics. Order does not matter.
    ///
    /// # Errors
    /// When they are of another number of classes, when either does not pass
    /// [`Statistics::check`], and beyond [`EXAMPLES_MAX`] examples; nothing is changed then.
    pub fn merge(&mut self, other: &Statistics) -> Result<(), StatisticsError> {
        if self.classes != other.classes {
            let (expected, found) = (self.classes, other.classes);
            return Err(StatisticsError::Merge { expected, found });
        }
        self.check()?;
        other.check()?;
        let examples = self.examples + other.examples;
        if examples > EXAMPLES_MAX {
            return Err(StatisticsError::Examples(examples));
        }
        // Nothing below can overflow: both sides are checked and the examples are bounded.
        self.examples = examples;
        self.loss_sum += other.loss_sum;
        for (cell, more) in self.confusion.iter_mut().zip(&other.confusion) {
            *cell += more;
        }
        Ok(())
    }

    /// Judges statistics that came from somebody else.
    ///
    /// # Errors
    /// On the first contradiction: sizes, a matrix that does not add up, sums out of bounds.
    pub fn check(&self) -> Result<(), StatisticsError> {
        let (expected, found) = (matrix_size(self.classes)?, self.confusion.len());
        if expected != found {
            return Err(StatisticsError::Size { expected, found });
        }
        if self.examples > EXAMPLES_MAX {
            return Err(StatisticsError::Examples(self.examples));
        }
        let sum = self.confusion.iter().fold(0_u64, |sum, &count| sum.saturating_add(count));
        if sum != self.examples {
            return Err(StatisticsError::Sum { examples: self.examples, found: sum });
        }
        let bound = self.examples as i64 * fixed_point(LOSS_MAX);
        if !(-bound..=bound).contains(&self.loss_sum) {
            return Err(StatisticsError::Loss { bound, found: self.loss_sum });
        }
        Ok(())
    }

    /// The ratios; `None` where there is no example.
    #[must_use]
    pub fn metrics(&self) -> Option<Metrics> {
        Metrics::of(self)
    }
}

fn matrix_size(classes: u32) -> Result<usize, StatisticsError> {
    if (1..=CLASSES_MAX).contains(&classes) {
        Ok(classes as usize * classes as usize)
    } else {
        Err(StatisticsError::Classes(classes))
    }
}

/// One loss in units of 1 ⁄ [`LOSS_ONE`]; what is no number counts as the largest.
fn fixed_point(loss: f64) -> i64 {
    let loss = if loss.is_nan() { LOSS_MAX } else { loss.clamp(-LOSS_MAX, LOSS_MAX) };
    // Scaling by a power of two is exact; ties go away from zero, on every machine.
    (loss * LOSS_ONE as f64).round() as i64
}

#[cfg(test)]
mod tests;
