//! What a reader hands back: a data set, whose rows they are, and what was noticed on the way.

use std::path::Path;

use super::clients::Clients;
use super::file::Stamp;
use super::{DataError, Dataset};

/// What a reader noticed and a person should know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Every file that was read, as it was then.
    pub files: Vec<Stamp>,
    /// Columns with missing values, and how many of them, in the columns' order.
    pub missing: Vec<(String, u64)>,
    /// Rows that were left out because a value is missing.
    pub dropped_rows: u64,
    /// Texts or recordings that were longer than the steps, and cut.
    pub cut_rows: u64,
    /// Files of a folder whose names end as none of its format's do.
    pub skipped_files: u64,
    /// Tokens that the vocabulary does not have.
    pub unknown_tokens: u64,
    /// Where texts were only counted, and a job decides how long their windows are: how many rows
    /// there are at most, one a token to predict.
    pub rows_most: Option<u64>,
}

/// A data set as a reader made it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) data: Dataset,
    pub(crate) clients: Option<Clients>,
    pub(crate) notes: Notes,
}

impl Loaded {
    pub(crate) fn new(data: Dataset, files: Vec<Stamp>) -> Self {
        Self { data, clients: None, notes: Notes { files, ..Notes::default() } }
    }
}

/// Names the file where the data set itself found the fault.
pub(crate) fn held(file: &Path) -> impl FnOnce(DataError) -> DataError {
    let file = file.to_owned();
    |source| DataError::Held { file, source: Box::new(source) }
}
