//! The coordinator: schedules rounds, aggregates updates, keeps the history.

pub mod aggregation;
pub mod blobs;
pub mod store;
