//! Files and configurations for tests.

use std::io::Write;
use std::path::{Path, PathBuf};

use tributary_core::document::read_document;
use tributary_core::fault::Faults;

use crate::{DataError, Dataset, Inputs, Opened, SourceConfig, Wanted, open};

/// A folder that goes when the test ends.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, and the folders that it lies in.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(&path, bytes).expect("write");
        path
    }

    /// Opens what a `[data]` table names, for whoever.
    pub(crate) fn open(&self, table: &str) -> Result<Opened, DataError> {
        self.open_for(table, &Wanted::default())
    }

    pub(crate) fn open_for(&self, table: &str, wanted: &Wanted) -> Result<Opened, DataError> {
        open(&parse(table, self.path()).expect("configuration"), wanted)
    }

    /// The data set to train on.
    pub(crate) fn train(&self, table: &str) -> Dataset {
        self.open(table).expect("sound data").train.expect("rows to train on")
    }

    /// The error of opening.
    pub(crate) fn refusal(&self, table: &str) -> String {
        message(self.open(table))
    }
}

/// Reads the keys of a `[data]` table.
pub(crate) fn parse(table: &str, base: &Path) -> Result<SourceConfig, Faults> {
    let config = read_document(table, 1 << 20, |root| SourceConfig::read(root, base))?;
    Ok(config.expect("no fault, so a configuration"))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

pub(crate) fn message(result: Result<impl Sized, DataError>) -> String {
    result.err().expect("an error").to_string()
}

/// The numbers of all rows.
pub(crate) fn numbers(data: &Dataset) -> Vec<f32> {
    match data.gather(&(0..data.len()).collect::<Vec<_>>()).expect("all").inputs {
        Inputs::Floats(values) => values,
        Inputs::Tokens(_) => panic!("tokens"),
    }
}

/// The tokens of all rows, with their padding.
pub(crate) fn tokens(data: &Dataset) -> Vec<u32> {
    match data.gather(&(0..data.len()).collect::<Vec<_>>()).expect("all").inputs {
        Inputs::Tokens(values) => values,
        Inputs::Floats(_) => panic!("numbers"),
    }
}

/// Asserts that a message has all these parts.
pub(crate) fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in {message:?}");
    }
}
