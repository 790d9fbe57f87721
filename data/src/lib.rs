//! Data sets: what a site's rows look like in memory, the readers that fill them, the ways to deal
//! them out. No tensors and no training: a [`Batch`] is plain numbers.
//!
//! A client reads its `[data]` table with [`SourceConfig::read`], says with [`Wanted`] what a job
//! needs, and calls [`open()`]; [`Opened::summary`] is what a person may look at before anything
//! leaves the machine.

mod batch;
mod dataset;
mod error;

pub mod config;
pub mod open;
pub mod summary;
pub mod wanted;

pub mod label;
pub mod listing;
pub mod loaded;
pub mod normalise;
pub mod rows;
pub mod split;
pub mod store;

pub mod array;
pub mod cifar;
pub mod idx;
pub mod images;
pub mod qmnist;
pub mod table;
pub mod text;
pub mod token;
pub mod wav;

pub mod partition;
pub mod prepare;
pub mod sums;

pub mod clients;
mod file;
#[cfg(test)]
mod fixture;

pub use batch::{Batch, Inputs, NO_TOKEN, Targets};
pub use config::SourceConfig;
pub use dataset::Dataset;
pub use error::{DataError, Place};
pub use file::Stamp;
pub use open::{Opened, open};
pub use partition::Partition;
pub use wanted::Wanted;
