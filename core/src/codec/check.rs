//! Checks a part of an update from a stranger before anything of it is stored or summed.

use super::{Codec, HEADER_BYTES, MAGIC, PartValues, VALUE_BYTES, VERSION};
use super::{part_count, part_range, part_values, update_len};
use crate::digest::Digest;

/// What an update has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expectation {
    /// The digest of the job's schema.
    pub schema: Digest,
    /// How many values it has.
    pub parameters: usize,
    /// The largest magnitude of a value, 2^X of the spec.
    pub max_abs: f32,
}

/// Why a part is not accepted. It is the sender's fault and sending the same again will not help.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UpdateFault {
    /// There is no part of this number.
    #[error("expected a part below {parts}, found part {part}")]
    NoSuchPart {
        /// The part's number.
        part: u32,
        /// How many parts the update has.
        parts: u32,
    },
    /// The part has another length.
    #[error("expected {expected} bytes for part {part}, found {found}")]
    WrongSize {
        /// The part's number.
        part: u32,
        /// Its length.
        expected: u64,
        /// The length that came.
        found: u64,
    },
    /// The header is not one of ours, or of another version.
    #[error("expected an update's header with {0}; use a client of the coordinator's version")]
    BadHeader(&'static str),
    /// The values are written in a way that this coordinator does not read.
    #[error("expected codec 1 (raw f32), found codec {0}")]
    UnknownCodec(u16),
    /// The update is one of another model.
    #[error("expected an update of schema {expected}, found one of {found}")]
    WrongSchema {
        /// The job's schema.
        expected: Digest,
        /// The update's.
        found: Digest,
    },
    /// The header's number of values is not the schema's.
    #[error("expected {expected} parameters, found {found}")]
    WrongParameters {
        /// The schema's.
        expected: u64,
        /// The header's.
        found: u64,
    },
    /// A value is infinite or not a number: training diverged.
    #[error("expected finite values, found {value} at coordinate {coordinate}")]
    NotFinite {
        /// Its place in the flat buffer.
        coordinate: usize,
        /// The value.
        value: f32,
    },
    /// A value is larger than the job allows.
    #[error(
        "expected values of at most {max_abs} in magnitude, found {value} at coordinate {coordinate}"
    )]
    TooLarge {
        /// Its place in the flat buffer.
        coordinate: usize,
        /// The value.
        value: f32,
        /// The job's bound.
        max_abs: f32,
    },
}

impl UpdateFault {
    /// A stable code for the wire, metrics and tests.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSuchPart { .. } => "no_such_part",
            Self::WrongSize { .. } => "wrong_size",
            Self::BadHeader(_) => "bad_header",
            Self::UnknownCodec(_) => "unknown_codec",
            Self::WrongSchema { .. } => "wrong_schema",
            Self::WrongParameters { .. } => "wrong_parameters",
            Self::NotFinite { .. } => "not_finite",
            Self::TooLarge { .. } => "too_large",
        }
    }
}

/// Checks one whole part: its length, the header in part 0, and that every value is finite and
/// within ±`max_abs`. The part's digest is the caller's to check.
///
/// # Errors
/// The first fault, with the coordinate and the value where it is one value's.
pub fn check_part(index: u32, bytes: &[u8], expect: &Expectation) -> Result<(), UpdateFault> {
    let len = update_len(expect.parameters);
    let places = part_range(index, len).zip(part_values(index, expect.parameters));
    let Some((range, values)) = places else {
        return Err(UpdateFault::NoSuchPart { part: index, parts: part_count(len) });
    };
    let (expected, found) = (range.end - range.start, bytes.len() as u64);
    // The header first: an update of another model should say so, not that its size is odd.
    if index == 0
        && let Some(header) = bytes.first_chunk::<HEADER_BYTES>()
    {
        check_header(header, expect)?;
    }
    if found != expected {
        return Err(UpdateFault::WrongSize { part: index, expected, found });
    }
    check_values(&bytes[values.offset..], &values, expect.max_abs)
}

fn check_header(header: &[u8; HEADER_BYTES], expect: &Expectation) -> Result<(), UpdateFault> {
    if header[0..4] != MAGIC {
        return Err(UpdateFault::BadHeader("the magic `TRBU`"));
    }
    if header[4..6] != VERSION.to_le_bytes() {
        return Err(UpdateFault::BadHeader("version 1"));
    }
    let codec = u16::from_le_bytes([header[6], header[7]]);
    if Codec::from_id(codec).is_none() {
        return Err(UpdateFault::UnknownCodec(codec));
    }
    if header[16..48] != *expect.schema.as_bytes() {
        let found = Digest::from_slice(&header[16..48]).unwrap_or(expect.schema);
        return Err(UpdateFault::WrongSchema { expected: expect.schema, found });
    }
    let mut found = [0; 8];
    found.copy_from_slice(&header[8..16]);
    let (found, expected) = (u64::from_le_bytes(found), expect.parameters as u64);
    if found != expected {
        return Err(UpdateFault::WrongParameters { expected, found });
    }
    if header[48..64] != [0; 16] {
        return Err(UpdateFault::BadHeader("zeros in its reserve"));
    }
    Ok(())
}

/// Values that are looked at before the loop may leave: without an exit in it, it is vectorised.
const BLOCK_VALUES: usize = 1024;

fn check_values(bytes: &[u8], place: &PartValues, max_abs: f32) -> Result<(), UpdateFault> {
    let (values, _) = bytes.as_chunks::<VALUE_BYTES>();
    // False for NaN too.
    let fits = |bytes: &[u8; VALUE_BYTES]| f32::from_le_bytes(*bytes).abs() <= max_abs;
    let fine = |block: &[[u8; VALUE_BYTES]]| block.iter().fold(true, |ok, v| ok & fits(v));
    let Some(block) = values.chunks(BLOCK_VALUES).position(|block| !fine(block)) else {
        return Ok(());
    };
    let from = block * BLOCK_VALUES;
    let at = from + values[from..].iter().position(|v| !fits(v)).unwrap_or_default();
    let (coordinate, value) = (place.coordinates.start + at, f32::from_le_bytes(values[at]));
    Err(if value.is_finite() {
        UpdateFault::TooLarge { coordinate, value, max_abs }
    } else {
        UpdateFault::NotFinite { coordinate, value }
    })
}
