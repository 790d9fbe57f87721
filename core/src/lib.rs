//! The pure heart of Tributary: what a job is, how a round moves, how updates become one answer.
//!
//! Nothing here waits, sleeps, opens a file, reads a clock or draws randomness: time and seeds are
//! arguments. Everything a coordinator and a client must agree on to the bit lives here.

pub mod aggregate;
pub mod audit;
pub mod binding;
pub mod checkpoint;
pub mod codec;
pub mod digest;
pub mod document;
pub mod fault;
pub mod identity;
pub mod instance;
pub mod metrics;
pub mod model;
pub mod name;
pub mod params;
pub mod prg;
pub mod round;
pub mod spec;
pub mod statistics;
