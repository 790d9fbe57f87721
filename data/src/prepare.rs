//! Turning archives into files that the readers know: a tar of recordings into wav files with
//! indexes, a tar of plays into one text a role.
//!
//! Whatever was written is written whole: each file appears under its name when it is finished.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::DataError;

mod archive;
pub mod plays;
pub mod recordings;

pub use plays::{PlayOptions, prepare_plays};
pub use recordings::{RecordingOptions, prepare_recordings};

/// What was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The files to name in a `[data]` table.
    pub files: Vec<PathBuf>,
    /// Rows to train on.
    pub train_rows: usize,
    /// Rows that are only ever scored.
    pub evaluate_rows: usize,
    /// Clients whose rows these are.
    pub clients: usize,
    /// Entries of the archive that are none of its kind.
    pub skipped: usize,
}

fn make_folder(folder: &Path) -> Result<(), DataError> {
    fs::create_dir_all(folder)
        .map_err(|source| DataError::Write { file: folder.to_owned(), source })
}

/// Writes a file whole: under another name first.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let failed = |source| DataError::Write { file: path.to_owned(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let mut file = fs::File::create(&part).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&part, path).map_err(failed)
}

#[cfg(test)]
mod tests;
