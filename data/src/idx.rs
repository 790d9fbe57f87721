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

use std::path::Path;

use super::file::{FETCH_AGAIN, SiteFile, Stamp, malformed};
use super::{DataError, Dataset, Place};

/// Most items of a file.
const COUNT_MAX: u64 = 1 << 28;
/// Largest side of a picture.
const SIDE_MAX: u64 = 1 << 14;
/// Most bytes of values that are read, whatever the header says: 8 GiB.
const BYTES_MAX: u64 = 1 << 33;

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
/// How a table of integers begins, as QMNIST's do.
pub(super) const TABLE_MAGIC: [u8; 4] = [0, 0, 12, 2];
pub(super) const TABLE: Kind = Kind {
    magic: TABLE_MAGIC,
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
    Ok(stamped_images(file)?.value)
}

/// Something that was read, and the file as it was then.
pub(super) struct Stamped<T> {
    pub(super) value: T,
    pub(super) stamp: Stamp,
}

fn stamped_images(file: &Path) -> Result<Stamped<Images>, DataError> {
    let (sizes, pixels, stamp) = read(file, &IMAGES)?;
    let value = match sizes.as_slice() {
        &[count, rows, columns] => Images { count, rows, columns, pixels },
        _ => Images { count: 0, rows: 0, columns: 0, pixels },
    };
    Ok(Stamped { value, stamp })
}

/// Reads a file of labels; each must be below `classes`.
///
/// # Errors
/// As [`read_images`], and on a label that is no class.
pub fn read_labels(file: &Path, classes: u32) -> Result<Vec<u8>, DataError> {
    Ok(stamped_labels(file, classes)?.value)
}

fn stamped_labels(file: &Path, classes: u32) -> Result<Stamped<Vec<u8>>, DataError> {
    let (_, labels, stamp) = read(file, &LABELS)?;
    if let Some(index) = labels.iter().position(|&label| u32::from(label) >= classes) {
        return Err(malformed(
            file,
            Place::Byte(LABELS.header_len() + index as u64),
            format!("a label below {classes}"),
            labels[index].to_string(),
            "raise `classes`, or mend the label",
        ));
    }
    Ok(Stamped { value: labels, stamp })
}

/// Reads images and their labels as examples of shape `[1, rows, columns]`.
///
/// # Errors
/// As [`read_images`] and [`read_labels`], and when the two have another number of items.
pub fn read_dataset(images: &Path, labels: &Path, classes: u32) -> Result<Dataset, DataError> {
    let (pictures, numbers) = read_pair(images, labels, classes)?;
    let pictures = pictures.value;
    let shape = [1, pictures.rows, pictures.columns];
    let numbers = numbers.value.into_iter().map(u32::from).collect();
    Dataset::from_u8(pictures.pixels, numbers, &shape, classes)
}

/// Images and labels of the same number.
pub(super) fn read_pair(
    images: &Path,
    labels: &Path,
    classes: u32,
) -> Result<(Stamped<Images>, Stamped<Vec<u8>>), DataError> {
    let pictures = stamped_images(images)?;
    let numbers = stamped_labels(labels, classes)?;
    if pictures.value.count != numbers.value.len() {
        return Err(DataError::Counts {
            file: labels.to_owned(),
            found: numbers.value.len(),
            other: images.to_owned(),
            expected: pictures.value.count,
        });
    }
    Ok((pictures, numbers))
}

impl Kind {
    fn header_len(&self) -> u64 {
        4 + 4 * self.dimensions as u64
    }
}

/// Reads a file of a kind: its sizes, its raw values, and what it was.
pub(super) fn read(file: &Path, kind: &Kind) -> Result<(Vec<usize>, Vec<u8>, Stamp), DataError> {
    let mut source = SiteFile::open(file)?;
    let mut magic = [0; 4];
    source.exactly(&mut magic, kind.name)?;
    if magic != kind.magic {
        let found = magic.map(|byte| format!("{byte:02x}")).join(" ");
        let advice = "check that the right file is named";
        return Err(malformed(file, Place::Byte(0), kind.name, found, advice));
    }
    let mut sizes = Vec::with_capacity(kind.dimensions);
    let mut bytes = kind.bytes_each;
    for dimension in 0..kind.dimensions {
        let place = Place::Byte(source.offset());
        let mut field = [0; 4];
        source.exactly(&mut field, "a size of four bytes")?;
        let size = u64::from(u32::from_be_bytes(field));
        let range = if dimension == 0 { 0..=COUNT_MAX } else { 1..=SIDE_MAX };
        let fits = bytes.checked_mul(size).filter(|&b| b <= BYTES_MAX && range.contains(&size));
        let Some(fits) = fits else {
            let expected = format!(
                "a size from {} to {}, and at most {BYTES_MAX} bytes in all",
                range.start(),
                range.end()
            );
            return Err(malformed(file, place, expected, size.to_string(), FETCH_AGAIN));
        };
        bytes = fits;
        // At most COUNT_MAX, which fits everywhere.
        sizes.push(size as usize);
    }
    let values = source.rest(bytes)?;
    Ok((sizes, values, source.finish()?))
}

#[cfg(test)]
mod tests;
