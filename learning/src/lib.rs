//! Training and evaluation on the CPU: data sets, kernels with hand-written backward, the trainer.
//!
//! Candle carries tensors, storage and the graph; the kernels, the optimisers and all randomness are
//! our own, because the same task must give the same bytes whatever the number of threads. Nothing
//! here talks to a network or keeps a checkpoint: a [`tributary_core::params::ParameterSet`] comes
//! in, an update goes out.

pub mod data;
mod error;
mod evaluate;
pub mod model;
pub mod ops;
pub mod optimizer;
mod threads;
mod train;

pub use error::LearningError;
pub use evaluate::evaluate;
pub use train::{Control, TrainOutcome, TrainTask, train};
