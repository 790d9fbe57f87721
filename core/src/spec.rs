//! The job spec.

pub mod train;
