//! One picture: decoded within limits, and turned into rows of pixels, channels first.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, imageops};

use crate::file::{FETCH_AGAIN, malformed};
use crate::{DataError, Place};

/// Most pixels of one picture before it is resized: above every camera, and 192 MiB as colours.
const PIXELS_MAX: u64 = 1 << 26;
/// Most memory that a decoder may take for one picture.
const DECODER_BYTES_MAX: u64 = 512 << 20;

/// Rows and columns of a picture.
pub(super) fn size_of(picture: &DynamicImage) -> (usize, usize) {
    (picture.height() as usize, picture.width() as usize)
}

pub(super) fn decode(path: &Path, bytes: Vec<u8>) -> Result<DynamicImage, DataError> {
    let unsound = |found: String| {
        malformed(path, Place::Whole, "a sound PNG or JPEG picture", found, FETCH_AGAIN)
    };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| unsound(error.to_string()))?;
    if reader.format().is_none() {
        let advice = "convert the file to PNG or JPEG";
        let expected = "a PNG or JPEG picture";
        return Err(malformed(path, Place::Byte(0), expected, "other bytes", advice));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| unsound(error.to_string()))?;
    // Asked of the header alone, before anything of that size is allocated.
    let (columns, rows) = decoder.dimensions();
    if u64::from(columns) * u64::from(rows) > PIXELS_MAX || columns == 0 || rows == 0 {
        let expected = format!("a picture of 1 to {PIXELS_MAX} pixels");
        let found = format!("{columns} × {rows}");
        let advice = "make the picture smaller";
        return Err(malformed(path, Place::Whole, expected, found, advice));
    }
    DynamicImage::from_decoder(decoder).map_err(|error| unsound(error.to_string()))
}

/// Adds a picture, channels first.
pub(super) fn push(
    pixels: &mut Vec<u8>,
    picture: &DynamicImage,
    channels: usize,
    size: (usize, usize),
) {
    // Sizes are bounded by the configuration and by PIXELS_MAX.
    let (rows, columns) = (size.0 as u32, size.1 as u32);
    let same = (picture.height(), picture.width()) == (rows, columns);
    let by = imageops::FilterType::Triangle;
    if channels == 1 {
        let grey = picture.to_luma8();
        let grey = if same { grey } else { imageops::resize(&grey, columns, rows, by) };
        pixels.extend_from_slice(grey.as_raw());
        return;
    }
    let coloured = picture.to_rgb8();
    let coloured = if same { coloured } else { imageops::resize(&coloured, columns, rows, by) };
    for channel in 0..channels {
        pixels.extend(coloured.as_raw().iter().skip(channel).step_by(3));
    }
}
