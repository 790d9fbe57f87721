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
    /// The blob is not what was written.
    #[error("expected blob `{key}` to be {expected}, found {found}: restore it from a backup")]
    Damaged {
        /// Its key.
        key: String,
        /// The digest that it should have.
        expected: tributary_core::digest::Digest,
        /// The digest that it has.
        found: tributary_core::digest::Digest,
    },
    /// The disk is nearly full, or full; trying again helps once there is room.
    #[error(
        "expected at least {reserve} bytes to stay free, found {free}: nothing new is taken until \
         there is room; what has its receipt is safe"
    )]
    Full {
        /// Bytes that are free.
        free: u64,
        /// Bytes that are kept free.
        reserve: u64,
    },
    /// The store refuses; trying again helps once somebody has mended keys or rules.
    #[error(
        "the store does not let us {operation} blob `{key}`: mend the keys (AWS_ACCESS_KEY_ID and \
         so on; they are read at the start) or the bucket's rules"
    )]
    Denied {
        /// Its key.
        key: String,
        /// What was tried, as a verb.
        operation: &'static str,
        /// What the store says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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
            object_store::Error::PermissionDenied { source, .. }
            | object_store::Error::Unauthenticated { source, .. } => {
                Self::Denied { key: key.to_owned(), operation, source }
            }
            error => Self::io(key, operation, error),
        }
    }

    /// A failure to write: a store that finds nothing to write to has lost an upload (or a lost reply
    /// let it end already), and what it belonged to can be written anew.
    pub(super) fn of_write(key: &str, operation: &'static str, error: object_store::Error) -> Self {
        match Self::of(key, operation, error) {
            Self::NotFound { .. } => Self::io(key, operation, "the store no longer knows of it"),
            error => error,
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
        let source = source.into();
        if is_full(&*source) {
            return Self::Full { free: 0, reserve: 0 };
        }
        Self::Io { key: key.to_owned(), operation, source }
    }

    /// Whether trying again may help, without anything else being another.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Full { .. } | Self::Denied { .. })
    }
}

/// Whether the system said that there is no room, anywhere down the chain.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), StorageFull | QuotaExceeded)
        {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::BlobError;

    #[test]
    fn a_full_disk_is_known_however_deep_it_is_said() {
        let full = || std::io::Error::from_raw_os_error(libc::ENOSPC);
        let wrapped = object_store::Error::Generic { store: "local", source: Box::new(full()) };
        let errors = [
            BlobError::of_file("k", "write", full()),
            BlobError::of("k", "store", wrapped),
            BlobError::of_file("k", "write", std::io::Error::from_raw_os_error(libc::EDQUOT)),
        ];
        for error in errors {
            assert!(matches!(error, BlobError::Full { .. }) && error.is_transient(), "{error}");
        }
        let other = std::io::Error::from_raw_os_error(libc::EIO);
        assert!(matches!(BlobError::of_file("k", "write", other), BlobError::Io { .. }));
    }
}
