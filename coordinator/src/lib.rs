//! The coordinator: schedules rounds, aggregates updates, keeps the history.
//!
//! `core/round` says what happens; [`driver`] makes it durable; [`ingest`] takes what clients send;
//! [`grpc`] is the only door. It never links candle: held-out evaluation is a client's work.

pub mod aggregation;
pub mod app;
pub mod authority;
pub mod blobs;
pub mod commands;
pub mod config;
pub mod driver;
pub mod failpoint;
pub mod grpc;
pub mod ingest;
mod replica;
pub mod sabotage;
#[cfg(feature = "simulation")]
pub mod simulation;
mod specs;
pub mod store;
mod tally;
pub mod verification;
mod wakes;
