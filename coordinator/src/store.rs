//! The only place with SQL: jobs, rounds, tasks, updates, clients, history.
//!
//! One set of statements serves Postgres (any number of coordinators) and SQLite (one process). The
//! contract that both keep is the test suite in `tests/store.rs`. Every row that comes back is
//! checked: a word, digest or number that is none is [`StoreError::Corrupt`], never a guess.

mod audit;
mod clients;
mod collection;
mod database;
mod decode;
mod error;
mod hints;
mod history;
mod identities;
mod jobs;
mod leases;
#[cfg(feature = "failpoints")]
mod points;
mod refusals;
mod rows;
mod save;
#[cfg(feature = "simulation")]
pub mod simulated;
mod sql;
mod tasks;

pub use clients::IDENTITY_HELD;
pub use collection::FinalRound;
pub use error::StoreError;
pub use hints::{HINT_BYTES_MAX, Session};
pub use leases::{Holder, LeaseToken};
pub use rows::{
    AuditEvent, By, CertificateRow, CheckpointRow, ClientHello, ClientRow, CreatedJob, EventRow,
    Greeting, IdentityRow, JobChanges, JobRow, NewCertificate, NewJob, Redeemed, RefusalRow,
    RejectionRow, RoundRow, TaskView, TokenRow, UpdateRow,
};

use database::Database;

/// The store of one coordinator; clones share its connections.
#[derive(Clone)]
pub struct Store {
    db: Database,
}

impl Store {
    /// Connects to `sqlite://PATH` (made where it is not there) or `postgres://…`.
    ///
    /// # Errors
    /// When the database cannot be had, or another process has the SQLite file.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { db: Database::open(url).await? })
    }

    /// A simulated replica's way to a simulated database.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulated(
        database: simulated::SimulatedDatabase,
        line: std::sync::Arc<dyn simulated::Line>,
    ) -> Self {
        Self { db: Database::Simulated(simulated::Simulated::new(database, line)) }
    }

    /// Brings the schema to this version's.
    ///
    /// # Errors
    /// When the database fails, or has a newer schema.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.db.migrate().await
    }

    /// Refuses a schema that is not this version's.
    ///
    /// # Errors
    /// [`StoreError::Schema`], with what to do.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        self.db.check_schema().await
    }

    /// `sqlite` or `postgres`.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        self.db.engine()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
