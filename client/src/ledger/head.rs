//! The ledger's head: what its last line was, beside it, so that a cut one is found.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tributary_core::digest::Digest;

use super::{LedgerError, genesis};

/// Longest head: a number and a digest.
const HEAD_BYTES_MAX: u64 = 1 << 10;

/// The last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) sequence: u64,
    pub(super) digest: Digest,
}

impl Default for Head {
    /// Of a ledger without lines.
    fn default() -> Self {
        Self { sequence: 0, digest: genesis() }
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger.head")
}

impl Head {
    /// A state folder's head; none before the first line.
    pub(super) fn load(state_dir: &Path) -> Result<Option<Self>, LedgerError> {
        let path = path(state_dir);
        let io = |source| LedgerError::Io { path: path.clone(), source };
        let fault = |found| LedgerError::Head { path: path.clone(), found };
        let found = match fs::metadata(&path) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        if found > HEAD_BYTES_MAX {
            return Err(fault(format!("{found} bytes")));
        }
        let text = fs::read(&path).map_err(io)?;
        serde_json::from_slice(&text).map(Some).map_err(|error| fault(error.to_string()))
    }

    /// Replaces the head: the old one stands until the new one is whole and on disk.
    pub(super) fn store(&self, state_dir: &Path) -> Result<(), LedgerError> {
        let (path, new) = (path(state_dir), state_dir.join("ledger.head.new"));
        let write = || {
            let text = serde_json::to_vec(self)?;
            // What a killed process left could have another mode.
            let _ = fs::remove_file(&new);
            let mut options = OpenOptions::new();
            let mut file: File = options.write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            file.sync_data()?;
            fs::rename(&new, &path)
        };
        write().map_err(|source| LedgerError::Io { path: path.clone(), source })
    }
}
