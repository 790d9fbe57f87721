//! The kernels: operations on candle tensors with hand-written backward passes.
//!
//! Rules of the house, for every kernel here:
//! * f32 in, f32 out, contiguous; a sum that decides something is kept in f64.
//! * Work is cut in pieces by the sizes alone, never by the number of threads, and partial sums are
//!   added in the pieces' order: the same input gives the same bytes on one thread and on sixteen.
//! * Products of matrices run on one thread each; threads stand outside, over pieces.
//! * Transcendental functions come from `libm` in Rust, not from the system's.
//! * The gradient of an argument that nobody trains (pictures) is not computed.
//!
//! Candle's own pooling, normalisation, convolution gradients, optimisers and random numbers are not
//! used: several give wrong gradients or none, and its random numbers cannot be seeded.

mod activation;
mod buffer;
mod convolution;
mod cross_entropy;
mod linear;
mod matrix;
mod patches;
mod pieces;
mod pool;

pub use activation::{relu, tanh};
pub use convolution::{Convolution, conv2d};
pub use cross_entropy::{Score, cross_entropy, scores};
pub use linear::linear;
pub use pool::{Pool, max_pool2d};

pub(crate) use buffer::floats;

#[cfg(test)]
mod tests;
