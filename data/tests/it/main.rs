//! The readers on real data.

mod real;
