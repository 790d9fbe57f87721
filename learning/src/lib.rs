//! Training and evaluation: kernels with hand-written backward for the CPU, candle's for GPUs, the
//! trainer.
//!
//! The kernels, the optimisers and all randomness are our own, because the same task must give the
//! same bytes whatever the number of threads. Nothing here talks to a network or keeps a checkpoint:
//! a [`tributary_core::params::ParameterSet`] comes in, an update goes out.

mod device;
mod error;
mod evaluate;
mod loss;
mod network;
mod ops;
pub mod optimizer;
pub mod portable;
mod pretrained;
mod threads;
mod train;

pub use device::{Compute, Device, Engine};
pub use error::LearningError;
pub use evaluate::{EvaluateTask, evaluate};
pub use network::{Network, Parameters};
pub use pretrained::{Pretrained, start_from};
pub use threads::within as within_threads;
pub use train::{Control, TrainOutcome, TrainTask, train};
