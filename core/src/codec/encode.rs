//! Writes an update and its manifest, block by block.

use super::{Codec, HEADER_BYTES, MAGIC, PART_BYTES, VALUE_BYTES, VERSION, update_digest};
use crate::digest::{Digest, Hasher};

/// Values that are turned into bytes at a time; the block is the only copy, 64 KiB.
const BLOCK_VALUES: usize = 16_384;

/// The header of an update of this many values of a schema.
#[must_use]
pub fn encode_header(schema: Digest, parameters: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    header[6..8].copy_from_slice(&Codec::RawF32.id().to_le_bytes());
    header[8..16].copy_from_slice(&(parameters as u64).to_le_bytes());
    header[16..48].copy_from_slice(schema.as_bytes());
    header
}

/// Hands the bytes of an update to `sink`: the header, then the values in blocks of 64 KiB. The
/// values are not copied as a whole.
///
/// # Errors
/// Those of the sink, at once.
pub fn write_update<E>(
    schema: Digest,
    values: &[f32],
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    sink(&encode_header(schema, values.len()))?;
    let mut block = vec![0_u8; BLOCK_VALUES.min(values.len()) * VALUE_BYTES];
    for values in values.chunks(BLOCK_VALUES) {
        let bytes = &mut block[..values.len() * VALUE_BYTES];
        for (place, value) in bytes.as_chunks_mut::<VALUE_BYTES>().0.iter_mut().zip(values) {
            *place = value.to_le_bytes();
        }
        sink(bytes)?;
    }
    Ok(())
}

/// What names an update: its length and the digests of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Bytes in all.
    pub len: u64,
    /// One digest a part, in order.
    pub parts: Vec<Digest>,
}

impl Manifest {
    /// The update's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        update_digest(self.len, &self.parts)
    }
}

/// Makes a manifest from an update's bytes, which come in pieces of any size.
#[derive(Clone, Default)]
pub struct ManifestHasher {
    part: Hasher,
    len: u64,
    parts: Vec<Digest>,
}

impl ManifestHasher {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PART_BYTES - self.len % PART_BYTES;
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let (head, tail) = bytes.split_at(take);
            self.part.update(head);
            self.len += take as u64;
            if self.len.is_multiple_of(PART_BYTES) {
                self.parts.push(std::mem::take(&mut self.part).finish());
            }
            bytes = tail;
        }
    }

    /// The manifest of all that was added.
    #[must_use]
    pub fn finish(mut self) -> Manifest {
        if !self.len.is_multiple_of(PART_BYTES) {
            self.parts.push(self.part.finish());
        }
        Manifest { len: self.len, parts: self.parts }
    }
}
