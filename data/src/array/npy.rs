//! The `.npy` format: `93 'NUMPY'`, a version, the length of a header, the header as a Python
//! dictionary, then the values.
//!
//! ```text
//! 0  93 4e 55 4d 50 59   magic
//! 6  01 00               version 1.0: a u16 length follows; 2.0 and 3.0: a u32
//! 8  u16 or u32          bytes of the header
//!    {'descr': '<f4', 'fortran_order': False, 'shape': (2400, 128, 9), }
//! ```

use std::path::{Path, PathBuf};

use crate::error::excerpt;
use crate::file::{FETCH_AGAIN, SiteFile, malformed};
use crate::{DataError, Place};

const MAGIC: [u8; 6] = *b"\x93NUMPY";
/// Longest header: NumPy itself refuses more than 10,000 characters.
const HEADER_BYTES_MAX: usize = 1 << 16;
/// Most axes: NumPy allows 64, models have 3.
const AXES_MAX: usize = 8;

/// Most values of a row: a picture of 2,300 × 2,300 in colours, above what models here train on.
const ROW_VALUES_MAX: usize = 1 << 24;
/// Values that are read at once where rows are no concern.
const VALUES_AT_ONCE: usize = 1 << 14;

/// Bytes of an array, wherever they come from.
pub(super) trait Source {
    /// Fills what it is given as far as there are bytes; how many there were.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, DataError>;
}

impl Source for SiteFile {
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, DataError> {
        let mut done = 0;
        while done < into.len() {
            let rest = &mut into[done..];
            let max = rest.len() as u64;
            let taken = self.piece(max, &mut |some| {
                rest[..some.len()].copy_from_slice(some);
                Ok(())
            })?;
            if taken == 0 {
                break;
            }
            done += taken as usize;
        }
        Ok(done)
    }
}

/// One kind of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Signed,
    Unsigned,
}

/// What stands before the values.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    file: PathBuf,
    entry: Option<String>,
    start: usize,
    kind: Kind,
    width: usize,
    big_endian: bool,
    fortran: bool,
    pub(crate) shape: Vec<usize>,
}

/// Reads a header, piece by piece; `entry` is the array's name in an archive.
struct Head<'a> {
    file: &'a Path,
    entry: Option<&'a str>,
    source: &'a mut dyn Source,
    offset: usize,
}

impl Head<'_> {
    fn place(&self, offset: usize) -> Place {
        match self.entry {
            Some(name) => Place::Entry(name.to_owned()),
            None => Place::Byte(offset as u64),
        }
    }

    fn take(&mut self, bytes: usize, what: &str) -> Result<Vec<u8>, DataError> {
        let mut taken = vec![0; bytes];
        let found = self.source.fill(&mut taken)?;
        if found < bytes {
            let place = self.place(self.offset);
            let found = format!("the end after {} bytes", self.offset + found);
            return Err(malformed(self.file, place, what, found, FETCH_AGAIN));
        }
        self.offset += bytes;
        Ok(taken)
    }
}

impl Header {
    pub(super) fn read(
        file: &Path,
        entry: Option<&str>,
        source: &mut dyn Source,
    ) -> Result<Self, DataError> {
        let mut head = Head { file, entry, source, offset: 0 };
        let mut magic = [0; MAGIC.len()];
        let found = head.source.fill(&mut magic)?;
        if magic != MAGIC {
            let found = match found {
                0 => "an empty file".to_owned(),
                found => excerpt(&String::from_utf8_lossy(&magic[..found])),
            };
            let advice = "check that the right file and format are named";
            return Err(malformed(file, head.place(0), "an array (93 'NUMPY')", found, advice));
        }
        head.offset = MAGIC.len();
        let version = head.take(2, "a version")?;
        let length = match version.first() {
            Some(1) => {
                let field = head.take(2, "the header's length")?;
                usize::from(u16::from_le_bytes([field[0], field[1]]))
            }
            Some(2 | 3) => {
                let field = head.take(4, "the header's length")?;
                u32::from_le_bytes([field[0], field[1], field[2], field[3]]) as usize
            }
            other => {
                let advice = "save the array again with numpy.save";
                let found = other.copied().unwrap_or_default().to_string();
                return Err(malformed(file, head.place(6), "version 1 to 3", found, advice));
            }
        };
        if length > HEADER_BYTES_MAX {
            let expected = format!("a header of at most {HEADER_BYTES_MAX} bytes");
            return Err(malformed(file, head.place(8), expected, length.to_string(), FETCH_AGAIN));
        }
        let at = head.offset;
        let header = head.take(length, "a whole header")?;
        let header = String::from_utf8_lossy(&header);
        let wrong = || {
            let expected = "a header with 'descr' of numbers, 'fortran_order' and 'shape'";
            let advice = "save a plain array of numbers with numpy.save";
            malformed(file, head.place(at), expected, excerpt(header.trim()), advice)
        };
        let (kind, width, big_endian, fortran, shape) = read_header(&header).ok_or_else(wrong)?;
        if shape.iter().try_fold(width, |all, &size| all.checked_mul(size)).is_none() {
            let expected = "a shape whose values can be counted";
            let found = format!("{shape:?}");
            return Err(malformed(file, head.place(at), expected, found, FETCH_AGAIN));
        }
        let (file, entry) = (file.to_owned(), entry.map(str::to_owned));
        let start = head.offset;
        Ok(Self { file, entry, start, kind, width, big_endian, fortran, shape })
    }

    /// Where the values begin.
    pub(super) fn place(&self) -> Place {
        match &self.entry {
            Some(name) => Place::Entry(name.clone()),
            None => Place::Byte(self.start as u64),
        }
    }

    /// How many values the shape promises.
    pub(super) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Hands over the values of each row (of one index of the first axis), in row-major order. Whole
    /// numbers are exact up to 2^53.
    ///
    /// An array in Fortran's order has its rows scattered: it is read into memory as a whole, where
    /// it may have as many bytes as `memory_bytes`.
    pub(super) fn rows(
        &self,
        source: &mut dyn Source,
        memory_bytes: usize,
        each: &mut dyn FnMut(&[f64]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let row: usize = self.shape.iter().skip(1).product();
        if row > ROW_VALUES_MAX {
            let expected = format!("rows of at most {ROW_VALUES_MAX} values");
            let advice = "the first axis counts the rows: cut the others";
            let found = format!("{row} in the shape {:?}", self.shape);
            return Err(malformed(&self.file, self.place(), expected, found, advice));
        }
        let row = row.max(1);
        // One axis lies the same way in both orders.
        if !self.fortran || self.shape.len() < 2 {
            return self.values(source, row, each);
        }
        let bytes = self.count().saturating_mul(size_of::<f64>() * 2);
        if bytes > memory_bytes {
            let expected = format!("an array in C order, or one that takes {memory_bytes} bytes");
            let advice = "save it again with numpy.ascontiguousarray, or raise `memory_mb`";
            let found = format!("Fortran's order, which takes {bytes} to turn");
            return Err(malformed(&self.file, self.place(), expected, found, advice));
        }
        let mut all = Vec::new();
        self.values(source, VALUES_AT_ONCE, &mut |some| {
            all.extend_from_slice(some);
            Ok(())
        })?;
        row_major(all, &self.shape).chunks(row).try_for_each(each)
    }

    /// Hands over the values as they lie, `at_once` together; there must be as many as promised.
    fn values(
        &self,
        source: &mut dyn Source,
        at_once: usize,
        each: &mut dyn FnMut(&[f64]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let wrong = |found: String| {
            let bytes = self.count() * self.width;
            let expected = format!("{bytes} bytes of values for the shape {:?}", self.shape);
            malformed(&self.file, self.place(), expected, found, FETCH_AGAIN)
        };
        let (count, mut done) = (self.count(), 0);
        // Grows with what is read: a header that lies costs nothing.
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        while done < count {
            values.clear();
            let together = at_once.min(count - done);
            while values.len() < together {
                let some = VALUES_AT_ONCE.min(together - values.len());
                bytes.resize(some * self.width, 0);
                let found = source.fill(&mut bytes)?;
                if found < bytes.len() {
                    return Err(wrong(((done + values.len()) * self.width + found).to_string()));
                }
                let raw = bytes.chunks_exact(self.width);
                values.extend(raw.map(|raw| number(self.kind, raw, self.big_endian)));
            }
            each(&values)?;
            done += together;
        }
        match source.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(wrong("more".to_owned())),
        }
    }
}

type Fields = (Kind, usize, bool, bool, Vec<usize>);

fn read_header(header: &str) -> Option<Fields> {
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
