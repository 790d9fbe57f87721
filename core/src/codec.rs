//! How an update travels and rests: a header, the values, and fixed parts with a digest each.
//!
//! ```text
//! byte  size  field
//!    0     4  magic `TRBU`
//!    4     2  version, u16 LE: 1
//!    6     2  codec, u16 LE: 1 = raw f32
//!    8     8  parameters, u64 LE: how many values the schema has
//!   16    32  the schema's digest
//!   48    16  zeros
//!   64     …  the values, f32 LE, flat, in schema order
//! ```
//!
//! An update is cut into parts of [`PART_BYTES`]; the last one is shorter. Each part is checked,
//! stored and hashed on its own, so an upload goes on at any replica after any kill, and a value
//! never straddles two parts. The update's digest is the root over its length and its parts'
//! digests ([`update_digest`]); a part can be verified without the others.

use std::ops::Range;

use crate::digest::Digest;
use crate::params::PARAMETERS_MAX;

mod check;
mod encode;
#[cfg(test)]
mod tests;

pub use check::{Expectation, UpdateFault, check_part};
pub use encode::{Manifest, ManifestHasher, encode_header, write_update};

/// Bytes of a part, but for the last one. 8 MiB: enough for one fsync to pay, few enough parts that
/// a manifest is small (256 digests for the largest model), within what object stores take as one
/// multipart piece, and little to send again.
pub const PART_BYTES: u64 = 8 << 20;

/// Bytes of the header, at the front of part 0: a cache line, so that values stay aligned.
pub const HEADER_BYTES: usize = 64;

/// Bytes of one value of [`Codec::RawF32`].
pub const VALUE_BYTES: usize = 4;

/// Longest update, in bytes.
pub const UPDATE_BYTES_MAX: u64 = (HEADER_BYTES + PARAMETERS_MAX * VALUE_BYTES) as u64;

const MAGIC: [u8; 4] = *b"TRBU";
const VERSION: u16 = 1;

/// How the values are written. Smaller ones (f16, int8, top-k) get their own id and header fields
/// in the 16 reserved bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// f32, little endian, nothing lost.
    #[default]
    RawF32,
}

impl Codec {
    /// Its number on the wire.
    #[must_use]
    pub fn id(self) -> u16 {
        match self {
            Self::RawF32 => 1,
        }
    }

    /// The codec of a number, where there is one.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        (id == Self::RawF32.id()).then_some(Self::RawF32)
    }
}

/// How long an update of this many values is, in bytes.
#[must_use]
pub fn update_len(parameters: usize) -> u64 {
    HEADER_BYTES as u64 + parameters as u64 * VALUE_BYTES as u64
}

/// How many parts an update of `len` bytes has.
#[must_use]
pub fn part_count(len: u64) -> u32 {
    // Lengths are at most UPDATE_BYTES_MAX; a hostile one saturates instead of wrapping.
    u32::try_from(len.div_ceil(PART_BYTES)).unwrap_or(u32::MAX)
}

/// The bytes of a part within an update of `len` bytes; `None` where there is no such part.
#[must_use]
pub fn part_range(index: u32, len: u64) -> Option<Range<u64>> {
    let start = u64::from(index) * PART_BYTES;
    (start < len).then(|| start..len.min(start + PART_BYTES))
}

/// The values that a part holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartValues {
    /// The coordinates, in the flat buffer.
    pub coordinates: Range<usize>,
    /// Where the first of them starts, in bytes from the part's own start.
    pub offset: usize,
}

/// Which values a part of an update of this many values holds; `None` where there is no such part.
#[must_use]
pub fn part_values(index: u32, parameters: usize) -> Option<PartValues> {
    let range = part_range(index, update_len(parameters))?;
    let header = if index == 0 { HEADER_BYTES } else { 0 };
    let coordinate = |byte: u64| (byte as usize - HEADER_BYTES) / VALUE_BYTES;
    let first = coordinate(range.start + header as u64);
    Some(PartValues { coordinates: first..coordinate(range.end), offset: header })
}

/// The digest of an update: the root over its length and the digests of its parts, in order.
#[must_use]
pub fn update_digest(len: u64, part_digests: &[Digest]) -> Digest {
    let len = len.to_le_bytes();
    let parts = part_digests.iter().map(|digest| digest.as_bytes().as_slice());
    Digest::of_fields("tributary/update/v1", std::iter::once(len.as_slice()).chain(parts))
}
