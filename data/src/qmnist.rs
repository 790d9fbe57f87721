//! The QMNIST tables, which say who wrote each digit of MNIST (Yadav and Bottou 2019).
//!
//! An IDX table of big-endian i32 with eight columns: class, NIST series, writer, digit of this
//! writer, NIST class, global digit, duplicate, unused. The test table has more rows than MNIST's
//! test set, whose digits are the first 10,000.

use std::path::Path;

use super::file::malformed;
use super::{DataError, Place, idx};

const COLUMNS: usize = 8;
const WRITER: usize = 2;

/// The writers of the first `examples` digits.
///
/// # Errors
/// On everything that the format does not allow, and when the table is shorter than that.
pub fn read_writers(file: &Path, examples: usize) -> Result<Vec<u32>, DataError> {
    let (sizes, bytes, _) = idx::read(file, &idx::TABLE)?;
    let malformed = |offset: usize, expected: String, found: String, advice: &'static str| {
        malformed(file, Place::Byte(offset as u64), expected, found, advice)
    };
    let rows = sizes.first().copied().unwrap_or(0);
    if sizes.get(1) != Some(&COLUMNS) {
        let found = sizes.get(1).copied().unwrap_or(0).to_string();
        let advice = "name a QMNIST label table of the extended kind";
        return Err(malformed(8, format!("{COLUMNS} columns"), found, advice));
    }
    if rows < examples {
        let expected = format!("at least {examples} rows, one for each example");
        let advice = "name the table of the same set as the images";
        return Err(malformed(4, expected, rows.to_string(), advice));
    }
    let table = bytes.chunks_exact(4 * COLUMNS).take(examples).enumerate();
    let writers = table.map(|(index, row)| {
        let mut field = [0; 4];
        field.copy_from_slice(&row[4 * WRITER..4 * WRITER + 4]);
        let writer = i32::from_be_bytes(field);
        u32::try_from(writer).map_err(|_| {
            let offset = 12 + index * 4 * COLUMNS + 4 * WRITER;
            let advice = "fetch or copy the file again";
            malformed(offset, "a writer from 0".to_owned(), writer.to_string(), advice)
        })
    });
    writers.collect()
}
