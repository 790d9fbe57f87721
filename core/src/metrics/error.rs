//! Why statistics are not what they say.

use super::{CLASSES_MAX, EXAMPLES_MAX, Measure};

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
    #[error("expected statistics of {expected:?} to merge, found {found:?}")]
    Merge {
        /// What is counted here.
        expected: Measure,
        /// What is counted there.
        found: Measure,
    },
    /// A count that the others exclude.
    #[error("expected {field} of {expected}, found {found}")]
    Count {
        /// The count's name.
        field: &'static str,
        /// What the others allow.
        expected: String,
        /// What came.
        found: u64,
    },
    /// Withheld by its site, and yet there are counts.
    #[error("expected no counts where they are withheld, found {0} examples")]
    Withheld(u64),
}
