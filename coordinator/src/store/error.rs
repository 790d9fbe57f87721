//! What can fail in the store. None of it is a peer's fault.

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, slow, or refuses the statement.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The URL names no database that this build knows.
    #[error("expected a database at sqlite://PATH or postgres://USER@HOST/DATABASE: {0}")]
    Url(String),
    /// Another process has the database.
    #[error("{0} is in use by another coordinator: SQLite serves one process, Postgres many")]
    InUse(String),
    /// The schema is another version's.
    #[error("{0}")]
    Schema(String),
    /// A stored value is not what it must be.
    #[error("{table}, {key}: {column} is {found}, which is none of ours")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row.
        key: String,
        /// The column.
        column: &'static str,
        /// What stands there, shortened.
        found: String,
    },
    /// A number that the database cannot hold.
    #[error("{column}: expected at most 2^63 − 1, found {found}")]
    Range {
        /// The column.
        column: &'static str,
        /// The number.
        found: u64,
    },
    /// No such job.
    #[error("no job {0} in the store")]
    NoJob(String),
    /// The job's lease went to another driver, or its row changed below us.
    #[error("job {job} is driven by somebody else")]
    Fenced {
        /// The job.
        job: String,
    },
}

impl StoreError {
    /// Whether the same transaction may succeed when it is run again.
    pub(super) fn is_retryable(&self) -> bool {
        let StoreError::Database(error) = self else { return false };
        match error {
            sqlx::Error::Database(error) => {
                // Serialization failure, deadlock, lock timeout; SQLite's busy codes.
                let code = error.code();
                matches!(code.as_deref(), Some("40001" | "40P01" | "55P03" | "5" | "261" | "517"))
            }
            sqlx::Error::PoolTimedOut => true,
            _ => false,
        }
    }
}
