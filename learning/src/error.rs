//! Why training or evaluating failed.

use tributary_data::DataError;

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
    /// Targets of another kind or size than the loss's.
    #[error("expected rows with targets for the loss {loss}, found others: bind other data")]
    Targets {
        /// The spec's loss.
        loss: &'static str,
    },
    /// Labels of another number of classes than the model's outputs.
    #[error("expected rows with {expected}, found {found}: bind other data")]
    Need {
        /// What the model needs.
        expected: String,
        /// What the data has.
        found: String,
    },
    /// A label that is no class.
    #[error("expected labels below {classes}, found {found}")]
    Label {
        /// How many classes there are.
        classes: usize,
        /// The label.
        found: u32,
    },
    /// A batch of another size than the model's input and its examples make.
    #[error("expected a batch of {expected} values, found {found}")]
    Batch {
        /// What the model takes.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// Parameters of another number than the model's.
    #[error("expected {expected:?} trained and frozen parameters, found {found:?}")]
    Parameters {
        /// The model's.
        expected: [usize; 2],
        /// What came.
        found: [usize; 2],
    },
    /// A tensor that the model's schema lacks.
    #[error("the model has no tensor `{0}`")]
    NoTensor(String),
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
    /// A device that this build or this machine does not have.
    #[error("cannot train on {device}: {reason}; use device = \"cpu\"")]
    Device {
        /// The device, as it was named.
        device: String,
        /// What candle said.
        reason: String,
    },
    /// A tensor operation of candle failed.
    #[error("candle: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A model with a frozen body, and no body.
    #[error(
        "the model's frozen parameters are of the file {base}, which this site does not have: add a folder \
         with that `model.safetensors` to `models` in the client's file"
    )]
    NoBase {
        /// The file's digest.
        base: String,
    },
    /// A pretrained model that cannot be used.
    #[error("{}: {reason}", file.display())]
    Pretrained {
        /// The file.
        file: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A pretrained model that is not the one that the spec describes.
    #[error("the pretrained model is not the spec's: {reason}")]
    Base {
        /// What differs, without the file's path.
        reason: String,
    },
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
}
