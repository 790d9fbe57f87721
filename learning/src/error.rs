//! Why training or evaluating failed.

use crate::data::DataError;

/// Everything that can go wrong in training and evaluation.
#[derive(Debug, thiserror::Error)]
pub enum LearningError {
    /// A data set that cannot be read or does not hold together.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The data set has no example.
    #[error("expected at least one example, found none")]
    NoExamples,
    /// Examples of another shape than the model's input.
    #[error(
        "expected examples of shape {expected:?}, found {found:?}: bind other data, or change the model's input"
    )]
    Shape {
        /// The model's input.
        expected: Vec<usize>,
        /// The data set's examples.
        found: Vec<usize>,
    },
    /// Labels of another number of classes than the model's outputs.
    #[error("expected labels of {expected} classes, found {found}")]
    Classes {
        /// The model's outputs.
        expected: usize,
        /// The data set's classes.
        found: u32,
    },
    /// A parameter set that is not this model's.
    #[error("expected the parameters of this model (schema {expected}), found schema {found}")]
    Schema {
        /// The digest of the model's schema.
        expected: String,
        /// The digest of the set's schema.
        found: String,
    },
    /// A step would need more memory than any machine should give.
    #[error("expected at most {max} activations in a batch, found {found}: make the batch smaller")]
    TooLarge {
        /// Activations of one batch.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The training diverged: a loss, gradient or parameter is no finite number.
    #[error("training diverged at step {step}: lower the learning rate")]
    Diverged {
        /// The step, counted from 1.
        step: u64,
    },
    /// A parameter got no gradient: the model's forward pass does not use it.
    #[error("parameter `{0}` got no gradient; the model does not train")]
    NoGradient(String),
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// Statistics that do not hold together.
    #[error(transparent)]
    Statistics(#[from] tributary_core::metrics::StatisticsError),
    /// A tensor operation failed: a fault of this program, as shapes are checked before.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}
