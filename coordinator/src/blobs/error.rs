//! What can go wrong with a blob, each with its key and what was tried.

/// Why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such blob.
    #[error("blob `{key}` is not in the store")]
    NotFound {
        /// Its key.
        key: String,
    },
    /// The blob ends too early.
    #[error("expected blob `{key}` to have at least {expected} bytes, found {found}")]
    Short {
        /// Its key.
        key: String,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// The store failed; trying again may help.
    #[error("cannot {operation} blob `{key}`")]
    Io {
        /// Its key.
        key: String,
        /// What was tried, as a verb.
        operation: &'static str,
        /// What the store says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BlobError {
    pub(super) fn of(key: &str, operation: &'static str, error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound { key: key.to_owned() },
            error => Self::io(key, operation, error),
        }
    }

    pub(super) fn of_file(key: &str, operation: &'static str, error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound { key: key.to_owned() },
            _ => Self::io(key, operation, error),
        }
    }

    pub(super) fn io(
        key: &str,
        operation: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Io { key: key.to_owned(), operation, source: source.into() }
    }

    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}
