//! Whole models: against PyTorch's figures, against finite differences, and against themselves.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod case;
mod golden;
mod gradients;
mod presets;
mod repeatable;
mod training;
