//! The kernels: layers with hand-written backward passes, over slices of f32.
//!
//! Rules of the house, for every kernel here:
//! * Rows one behind the other; pictures with their channels last. A sum that decides something is
//!   kept in f64, or in a fixed number of lanes.
//! * Work is cut in pieces by the sizes alone, never by the number of threads, and partial sums are
//!   added in the pieces' order: the same input gives the same bytes on one thread and on sixteen.
//! * Transcendental functions are our own ([`maths`]), without libm and without fused contraction.
//! * The gradient of an argument that nobody trains (pictures, frozen weights) is not computed.
//! * A kernel keeps its buffers from step to step, so that a step allocates next to nothing.
//!
//! Candle's pooling, normalisation, convolution gradients and optimisers are not used in training on
//! the CPU: several give wrong gradients or none, and all are several times slower.

mod activation;
mod attention;
mod convolution;
mod dropout;
mod embedding;
mod encoder;
mod kernel;
mod layout;
mod linear;
mod maths;
mod matrix;
mod norm;
mod patches;
mod pieces;
mod pool;
mod recurrent;
mod steps;

pub(crate) use activation::Activation;
pub(crate) use attention::{Attention, Projections};
pub(crate) use convolution::{Conv, Fused};
pub(crate) use dropout::{Dropout, Mask};
pub(crate) use embedding::{Embedding, Positions};
pub(crate) use encoder::{Block, BlockParts};
pub(crate) use kernel::{Chain, Cx, Place};
pub(crate) use layout::{Relayout, Residual};
pub(crate) use linear::{Adapter, Linear, LinearActivation};
pub(crate) use maths::{dispatch, log_sum_exp, vectorised};
pub(crate) use norm::{BatchNorm, GroupNorm, LayerNorm};
pub(crate) use patches::Geometry;
pub(crate) use pieces::{PIECES_MAX, cut, split};
pub(crate) use pool::{Pool, PoolKind, Window};
pub(crate) use recurrent::{Recurrent, Weights};
pub(crate) use steps::{StepPool, StepPoolKind};
