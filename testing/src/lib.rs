//! What tests and the chaos bench need from the machine: a Postgres cluster of their own, processes that are always
//! reaped, free ports, the folder of real data, an S3 server, a slow link. It panics nowhere: what fails is an error.
//!
//! Nothing outlives a test process, however that process ends: statics are never dropped and a
//! SIGKILL runs no destructor, so everything started here has a [`watchdog`] beside it.

pub mod data;
pub mod link;
pub mod port;
pub mod postgres;
pub mod process;
#[cfg(feature = "s3")]
pub mod s3;
pub mod skip;
pub mod watchdog;

mod account;
mod signal;

pub use data::data_dir;
pub use link::SlowLink;
pub use port::free_port;
pub use postgres::Postgres;
pub use process::Process;
