//! IDX files, the format of MNIST: `00 00`, a type, the number of dimensions, the dimensions as
//! big-endian u32, then the values row by row. Plain, or compressed with gzip.
//!
//! ```text
//! 0  00 00 08 03   images: unsigned bytes, three dimensions
//! 4  u32 count, u32 rows, u32 columns
//! 16 count × rows × columns bytes
//! ```
//!
//! A header is believed only as far as bytes follow it: nothing is allocated for what it promises,
//! at most one byte more than it promises is read, and what it promises has a bound.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::{DataError, Dataset};

/// Most items of a file.
const COUNT_MAX: u64 = 1 << 28;
/// Largest side of a picture.
const SIDE_MAX: u64 = 1 << 14;
/// Most bytes of values that are read, whatever the header says: 8 GiB.
const BYTES_MAX: u64 = 1 << 33;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    magic: [u8; 4],
    dimensions: usize,
    bytes_each: u64,
    name: &'static str,
}

const IMAGES: Kind = Kind {
    magic: [0, 0, 8, 3],
    dimensions: 3,
    bytes_each: 1,
    name: "images (00 00 08 03, idx3-ubyte)",
};
const LABELS: Kind = Kind {
    magic: [0, 0, 8, 1],
    dimensions: 1,
    bytes_each: 1,
    name: "labels (00 00 08 01, idx1-ubyte)",
};
pub(super) const TABLE: Kind = Kind {
    magic: [0, 0, 12, 2],
    dimensions: 2,
    bytes_each: 4,
    name: "a table of integers (00 00 0c 02, idx2-int)",
};

/// Pictures of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// How many.
    pub count: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
    /// `count × rows × columns` bytes.
    pub pixels: Vec<u8>,
}

/// Reads a file of images.
///
/// # Errors
/// On everything that the format does not allow, with file, offset, expectation and advice.
pub fn read_images(file: &Path) -> Result<Images, DataError> {
    let (sizes, pixels) = read(file, &IMAGES)?;
    match sizes.as_slice() {
        &[count, rows, columns] => Ok(Images { count, rows, columns, pixels }),
        _ => Ok(Images { count: 0, rows: 0, columns: 0, pixels }),
    }
}

/// Reads a file of labels; each must be below `classes`.
///
/// # Errors
/// As [`read_images`], and on a label that is no class.
pub fn read_labels(file: &Path, classes: u32) -> Result<Vec<u8>, DataError> {
    let (_, labels) = read(file, &LABELS)?;
    if let Some(index) = labels.iter().position(|&label| u32::from(label) >= classes) {
        return Err(malformed(
            file,
            LABELS.header_len() + index as u64,
            format!("a label below {classes}"),
            labels[index].to_string(),
            "raise `classes`, or mend the label",
        ));
    }
    Ok(labels)
}

/// Reads images and their labels as examples of shape `[1, rows, columns]`.
///
/// # Errors
/// As [`read_images`] and [`read_labels`], and when the two have another number of items.
pub fn read_dataset(images: &Path, labels: &Path, classes: u32) -> Result<Dataset, DataError> {
    let pictures = read_images(images)?;
    let numbers = read_labels(labels, classes)?;
    if pictures.count != numbers.len() {
        return Err(DataError::Counts {
            file: labels.to_owned(),
            found: numbers.len(),
            other: images.to_owned(),
            expected: pictures.count,
        });
    }
    let shape = [1, pictures.rows, pictures.columns];
    let numbers = numbers.into_iter().map(u32::from).collect();
    Dataset::from_u8(pictures.pixels, numbers, &shape, classes)
}

impl Kind {
    fn header_len(&self) -> u64 {
        4 + 4 * self.dimensions as u64
    }
}

fn malformed(
    file: &Path,
    offset: u64,
    expected: impl Into<String>,
    found: impl Into<String>,
    advice: &'static str,
) -> DataError {
    let (expected, found) = (expected.into(), found.into());
    DataError::Malformed { file: file.to_owned(), offset, expected, found, advice }
}

const FETCH_AGAIN: &str = "fetch or copy the file again";

/// Reads a file of a kind: its sizes and its raw values.
pub(super) fn read(file: &Path, kind: &Kind) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let mut source = Source::open(file)?;
    let mut magic = [0; 4];
    source.exactly(0, &mut magic, kind.name)?;
    if magic != kind.magic {
        let found = magic.map(|byte| format!("{byte:02x}")).join(" ");
        return Err(malformed(file, 0, kind.name, found, "check that the right file is named"));
    }
    let mut sizes = Vec::with_capacity(kind.dimensions);
    let mut bytes = kind.bytes_each;
    for dimension in 0..kind.dimensions {
        let offset = 4 + 4 * dimension as u64;
        let mut field = [0; 4];
        source.exactly(offset, &mut field, "a size of four bytes")?;
        let size = u64::from(u32::from_be_bytes(field));
        let range = if dimension == 0 { 0..=COUNT_MAX } else { 1..=SIDE_MAX };
        let fits = bytes.checked_mul(size).filter(|&b| b <= BYTES_MAX && range.contains(&size));
        let Some(fits) = fits else {
            let expected = format!(
                "a size from {} to {}, and at most {BYTES_MAX} bytes in all",
                range.start(),
                range.end()
            );
            return Err(malformed(file, offset, expected, size.to_string(), FETCH_AGAIN));
        };
        bytes = fits;
        // At most COUNT_MAX, which fits everywhere.
        sizes.push(size as usize);
    }
    let values = source.rest(kind.header_len(), bytes)?;
    Ok((sizes, values))
}

/// A file, uncompressed on the way.
struct Source<'a> {
    file: &'a Path,
    reader: Box<dyn Read>,
}

impl<'a> Source<'a> {
    fn open(file: &'a Path) -> Result<Self, DataError> {
        let failed = |source| DataError::Read { file: file.to_owned(), source };
        let mut reader = BufReader::with_capacity(1 << 16, File::open(file).map_err(failed)?);
        // What the file holds decides, not its name.
        let compressed = {
            use std::io::BufRead;
            reader.fill_buf().map_err(failed)?.starts_with(&GZIP_MAGIC)
        };
        let reader: Box<dyn Read> =
            if compressed { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) };
        Ok(Self { file, reader })
    }

    /// Reads at most `max` bytes to the end; a damaged or cut gzip stream is named as such.
    fn up_to(&mut self, offset: u64, max: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        match self.reader.by_ref().take(max).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => {
                let offset = offset + bytes.len() as u64;
                let found = error.to_string();
                Err(match error.kind() {
                    ErrorKind::UnexpectedEof => {
                        let expected = "more of the gzip stream";
                        malformed(self.file, offset, expected, "its end", FETCH_AGAIN)
                    }
                    ErrorKind::InvalidInput | ErrorKind::InvalidData => {
                        malformed(self.file, offset, "a sound gzip stream", found, FETCH_AGAIN)
                    }
                    _ => DataError::Read { file: self.file.to_owned(), source: error },
                })
            }
        }
    }

    fn exactly(&mut self, offset: u64, into: &mut [u8], what: &str) -> Result<(), DataError> {
        let bytes = self.up_to(offset, into.len() as u64)?;
        if bytes.len() != into.len() {
            let found = format!("the end of the file after {} of them", bytes.len());
            let expected = format!("{what}: {} bytes", into.len());
            return Err(malformed(
                self.file,
                offset + bytes.len() as u64,
                expected,
                found,
                FETCH_AGAIN,
            ));
        }
        into.copy_from_slice(&bytes);
        Ok(())
    }

    /// The values behind the header: exactly as many as it says. The vector grows with what is
    /// read, so a header that lies costs nothing.
    fn rest(&mut self, offset: u64, expected: u64) -> Result<Vec<u8>, DataError> {
        let bytes = self.up_to(offset, expected + 1)?;
        let found = bytes.len() as u64;
        if found > expected {
            return Err(malformed(
                self.file,
                offset + expected,
                format!("the end, after {expected} bytes of values"),
                "more bytes",
                "the header and the values disagree; fetch the file again",
            ));
        }
        if found < expected {
            return Err(malformed(
                self.file,
                offset + found,
                format!("{expected} bytes of values, as the header says"),
                format!("the end after {found}"),
                FETCH_AGAIN,
            ));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
