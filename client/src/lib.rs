//! The client: the agent on a data-holding machine. It polls, trains on rows that never leave the
//! machine, and sends back updates; for months, through outages and its own kills.

pub mod agent;
pub mod config;
pub mod failpoint;
pub mod identity;
pub mod ledger;
pub mod moment;
pub mod observer;
pub mod policy;
pub mod rpc;
mod spool;
pub mod trainer;
