//! The `.npy` format: `93 'NUMPY'`, a version, the length of a header, the header as a Python
//! dictionary, then the values.
//!
//! ```text
//! 0  93 4e 55 4d 50 59   magic
//! 6  01 00               version 1.0: a u16 length follows; 2.0 and 3.0: a u32
//! 8  u16 or u32          bytes of the header
//!    {'descr': '<f4', 'fortran_order': False, 'shape': (2400, 128, 9), }
//! ```

use std::path::Path;

use crate::error::excerpt;
use crate::file::{FETCH_AGAIN, malformed};
use crate::{DataError, Place};

const MAGIC: [u8; 6] = *b"\x93NUMPY";
/// Longest header: NumPy itself refuses more than 10,000 characters.
const HEADER_BYTES_MAX: usize = 1 << 16;
/// Most axes: NumPy allows 64, models have 3.
const AXES_MAX: usize = 8;

/// An array in row-major order. Whole numbers are exact up to 2^53.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
    pub(crate) place: Place,
}

/// One kind of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Signed,
    Unsigned,
}

/// Parses an array; `entry` is its name in an archive.
pub(crate) fn parse(file: &Path, entry: Option<&str>, bytes: &[u8]) -> Result<Array, DataError> {
    let at = |offset: usize| match entry {
        Some(name) => Place::Entry(name.to_owned()),
        None => Place::Byte(offset as u64),
    };
    let cut = |offset: usize, what: &str| {
        let found = format!("the end after {} bytes", bytes.len());
        malformed(file, at(offset), what, found, FETCH_AGAIN)
    };
    if !bytes.starts_with(&MAGIC) {
        let found = excerpt(&String::from_utf8_lossy(&bytes[..bytes.len().min(6)]));
        let advice = "check that the right file and format are named";
        return Err(malformed(file, at(0), "an array (93 'NUMPY')", found, advice));
    }
    let version = *bytes.get(6).ok_or_else(|| cut(6, "a version"))?;
    let (length, start) = match version {
        1 => {
            let field = bytes.get(8..10).ok_or_else(|| cut(8, "the header's length"))?;
            (usize::from(u16::from_le_bytes([field[0], field[1]])), 10)
        }
        2 | 3 => {
            let field = bytes.get(8..12).ok_or_else(|| cut(8, "the header's length"))?;
            (u32::from_le_bytes([field[0], field[1], field[2], field[3]]) as usize, 12)
        }
        other => {
            let advice = "save the array again with numpy.save";
            return Err(malformed(file, at(6), "version 1 to 3", other.to_string(), advice));
        }
    };
    if length > HEADER_BYTES_MAX {
        let expected = format!("a header of at most {HEADER_BYTES_MAX} bytes");
        return Err(malformed(file, at(8), expected, length.to_string(), FETCH_AGAIN));
    }
    let end = start + length;
    let header = bytes.get(start..end).ok_or_else(|| cut(start, "a whole header"))?;
    let header = String::from_utf8_lossy(header);
    let wrong = || {
        let expected = "a header with 'descr' of numbers, 'fortran_order' and 'shape'";
        let advice = "save a plain array of numbers with numpy.save";
        malformed(file, at(start), expected, excerpt(header.trim()), advice)
    };
    let (kind, width, big_endian, fortran, shape) = read_header(&header).ok_or_else(wrong)?;
    let count = shape.iter().try_fold(width, |all, &size| all.checked_mul(size));
    let values = &bytes[end..];
    if count != Some(values.len()) {
        let expected = format!("{} bytes of values for the shape {shape:?}", show(count));
        return Err(malformed(file, at(end), expected, values.len().to_string(), FETCH_AGAIN));
    }
    let values = values.chunks_exact(width).map(|raw| number(kind, raw, big_endian)).collect();
    let values = if fortran { row_major(values, &shape) } else { values };
    Ok(Array { shape, values, place: at(end) })
}

fn show(count: Option<usize>) -> String {
    count.map_or_else(|| "too many".to_owned(), |count| count.to_string())
}

type Header = (Kind, usize, bool, bool, Vec<usize>);

fn read_header(header: &str) -> Option<Header> {
    let after = |key: &str| {
        let quoted = format!("'{key}':");
        header.split_once(&quoted).map(|(_, rest)| rest.trim_start())
    };
    let descr = after("descr")?.strip_prefix('\'')?.split('\'').next()?;
    let big_endian = descr.starts_with('>');
    let (kind, width) = match descr.trim_start_matches(['<', '>', '|', '=']) {
        "f4" => (Kind::Float, 4),
        "f8" => (Kind::Float, 8),
        "b1" | "u1" => (Kind::Unsigned, 1),
        "u2" => (Kind::Unsigned, 2),
        "u4" => (Kind::Unsigned, 4),
        "u8" => (Kind::Unsigned, 8),
        "i1" => (Kind::Signed, 1),
        "i2" => (Kind::Signed, 2),
        "i4" => (Kind::Signed, 4),
        "i8" => (Kind::Signed, 8),
        _ => return None,
    };
    let fortran = after("fortran_order")?.starts_with("True");
    let sizes = after("shape")?.strip_prefix('(')?.split(')').next()?;
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<usize> = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
    (shape.len() <= AXES_MAX).then_some((kind, width, big_endian, fortran, shape))
}

fn number(kind: Kind, raw: &[u8], big_endian: bool) -> f64 {
    let mut bits = [0_u8; 8];
    for (at, &byte) in raw.iter().enumerate() {
        let at = if big_endian { raw.len() - 1 - at } else { at };
        bits[at] = byte;
    }
    let bits = u64::from_le_bytes(bits);
    let shift = 64 - 8 * raw.len() as u32;
    match kind {
        Kind::Unsigned => bits as f64,
        // Moves the sign to the top and back.
        Kind::Signed => (((bits << shift) as i64) >> shift) as f64,
        Kind::Float if raw.len() == 4 => f64::from(f32::from_bits(bits as u32)),
        Kind::Float => f64::from_bits(bits),
    }
}

/// Values in the order of their first axis, from those in the order of their last.
fn row_major(values: Vec<f64>, shape: &[usize]) -> Vec<f64> {
    let mut index = vec![0_usize; shape.len()];
    let mut ordered = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        let (mut at, mut stride) = (0, 1);
        for (position, size) in index.iter().zip(shape) {
            at += position * stride;
            stride *= size;
        }
        ordered.push(values[at]);
        for (position, size) in index.iter_mut().zip(shape).rev() {
            *position += 1;
            if *position < *size {
                break;
            }
            *position = 0;
        }
    }
    ordered
}
