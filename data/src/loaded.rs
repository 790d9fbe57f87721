//! What a reader hands back: a data set, whose rows they are, and what was noticed on the way.

use std::path::Path;

use super::clients::Clients;
use super::file::{Stamp, malformed};
use super::normalise::Normalise;
use super::{DataError, Dataset, Place};

/// Most numbers (or tokens) of one data set in memory: 8 GiB of f32.
pub(crate) const VALUES_MAX: usize = 1 << 31;

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

/// Refuses more values than a data set may have.
pub(crate) fn check_room(file: &Path, values: usize) -> Result<(), DataError> {
    if values <= VALUES_MAX {
        return Ok(());
    }
    let expected = format!("at most {VALUES_MAX} values in all");
    let advice = "bind fewer rows or columns, or cut the set in several";
    Err(malformed(file, Place::Whole, expected, "more", advice))
}

/// Pixels as a data set: bytes, or numbers where they are normalised (byte ⁄ 255 first).
pub(crate) fn pixel_set(
    pixels: Vec<u8>,
    labels: Vec<u32>,
    shape: &[usize],
    classes: u32,
    normalise: Option<&Normalise>,
) -> Result<Dataset, DataError> {
    let Some(constants) = normalise else {
        return Dataset::from_u8(pixels, labels, shape, classes);
    };
    let mut values: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
    constants.apply_first(&mut values, shape)?;
    Dataset::from_f32(values, labels, shape, classes)
}
