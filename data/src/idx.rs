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
use super::loaded::{Loaded, held};
use super::normalise::Normalise;
use super::store::{Builder, Room, Store};
use super::{DataError, Dataset, Place};

/// Most items of a file.
const COUNT_MAX: u64 = 1 << 28;
/// Largest side of a picture.
const SIDE_MAX: u64 = 1 << 14;
/// Most bytes of values that are read into memory, whatever the header says: 8 GiB.
const BYTES_MAX: u64 = 1 << 33;
/// Most bytes of pixels, which may go to a scratch file with a bound of its own: 64 TiB.
const PIXEL_BYTES_MAX: u64 = 1 << 46;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    magic: [u8; 4],
    dimensions: usize,
    bytes_each: u64,
    bytes_max: u64,
    name: &'static str,
}

const IMAGES: Kind = Kind {
    magic: [0, 0, 8, 3],
    dimensions: 3,
    bytes_each: 1,
    bytes_max: PIXEL_BYTES_MAX,
    name: "images (00 00 08 03, idx3-ubyte)",
};
const LABELS: Kind = Kind {
    magic: [0, 0, 8, 1],
    dimensions: 1,
    bytes_each: 1,
    bytes_max: BYTES_MAX,
    name: "labels (00 00 08 01, idx1-ubyte)",
};
/// How a table of integers begins, as QMNIST's do.
pub(super) const TABLE_MAGIC: [u8; 4] = [0, 0, 12, 2];
pub(super) const TABLE: Kind = Kind {
    magic: TABLE_MAGIC,
    dimensions: 2,
    bytes_each: 4,
    bytes_max: BYTES_MAX,
    name: "a table of integers (00 00 0c 02, idx2-int)",
};

/// Pictures of one size, wherever their pixels are.
#[derive(Debug)]
pub(super) struct Pictures {
    count: usize,
    /// Channels (one), rows and columns of each.
    shape: [usize; 3],
    pixels: Store<u8>,
    stamp: Stamp,
}

/// Labels, and the file as it was then.
#[derive(Debug)]
pub(super) struct Labels {
    classes: Vec<u32>,
    stamp: Stamp,
}

/// Reads a file of images.
///
/// # Errors
/// On everything that the format does not allow, with file, offset, expectation and advice.
fn read_images(file: &Path, room: &Room) -> Result<Pictures, DataError> {
    let (mut source, sizes, bytes) = begin(file, &IMAGES)?;
    let mut pixels = Builder::new(room);
    source.rest_to(bytes, &mut |some| pixels.push(some).map_err(held(file)))?;
    let stamp = source.finish()?;
    let pixels = pixels.finish().map_err(held(file))?;
    let size = |at: usize| sizes.get(at).copied().unwrap_or(0);
    Ok(Pictures { count: size(0), shape: [1, size(1), size(2)], pixels, stamp })
}

/// Reads a file of labels; each must be below `classes`.
///
/// # Errors
/// As [`read_images`], and on a label that is no class.
fn read_labels(file: &Path, classes: u32) -> Result<Labels, DataError> {
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
    Ok(Labels { classes: labels.into_iter().map(u32::from).collect(), stamp })
}

/// Reads images and their labels as examples of shape `[1, rows, columns]`.
///
/// # Errors
/// On everything that the format does not allow, with file, offset, expectation and advice; and when
/// the two have another number of items.
pub fn read_dataset(images: &Path, labels: &Path, classes: u32) -> Result<Dataset, DataError> {
    Ok(load(images, labels, classes, None, &Room::default())?.data)
}

/// Reads images and their labels, normalised where there are constants.
pub(crate) fn load(
    images: &Path,
    labels: &Path,
    classes: u32,
    normalise: Option<&Normalise>,
    room: &Room,
) -> Result<Loaded, DataError> {
    let pictures = read_images(images, room)?;
    let numbers = read_labels(labels, classes)?;
    if pictures.count != numbers.classes.len() {
        return Err(DataError::Counts {
            file: labels.to_owned(),
            found: numbers.classes.len(),
            other: images.to_owned(),
            expected: pictures.count,
        });
    }
    let (pixels, shape) = (pictures.pixels, pictures.shape);
    let data = Dataset::of_pixels(pixels, numbers.classes, &shape, classes, normalise);
    Ok(Loaded::new(data.map_err(held(images))?, vec![pictures.stamp, numbers.stamp]))
}

impl Kind {
    fn header_len(&self) -> u64 {
        4 + 4 * self.dimensions as u64
    }
}

/// Reads a file of a kind: its sizes, its raw values, and what it was.
pub(super) fn read(file: &Path, kind: &Kind) -> Result<(Vec<usize>, Vec<u8>, Stamp), DataError> {
    let (mut source, sizes, bytes) = begin(file, kind)?;
    let values = source.rest(bytes)?;
    Ok((sizes, values, source.finish()?))
}

/// Reads a header: the file behind it, its sizes, and how many bytes of values they promise.
fn begin(file: &Path, kind: &Kind) -> Result<(SiteFile, Vec<usize>, u64), DataError> {
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
        let fits =
            bytes.checked_mul(size).filter(|&b| b <= kind.bytes_max && range.contains(&size));
        let Some(fits) = fits else {
            let expected = format!(
                "a size from {} to {}, and at most {} bytes in all",
                range.start(),
                range.end(),
                kind.bytes_max
            );
            return Err(malformed(file, place, expected, size.to_string(), FETCH_AGAIN));
        };
        bytes = fits;
        // At most COUNT_MAX, which fits everywhere.
        sizes.push(size as usize);
    }
    Ok((source, sizes, bytes))
}

#[cfg(test)]
mod tests;
