//! Sums and constants as bytes: one way to write each, so that a digest names what it says.
//!
//! ```text
//! text    u32 length, UTF-8                 list  u32 length, entries
//! sums    "tributary/sums/v1" rows left_out (u64 each), features (48 bytes each),
//!         tokens (text, u64 count), names (text)
//! constants  "tributary/constants/v1", then 0 or 1 and, behind a 1:
//!         class names (list of text); tokens (list of text); means and deviations (lists of f64)
//! ```
//!
//! Numbers are little-endian.

use super::{NUMERIC_BYTES, NumericSums, SiteSums};
use crate::digest::Digest;
use crate::spec::constants::Constants;

const SUMS: &[u8] = b"tributary/sums/v1";
const CONSTANTS: &[u8] = b"tributary/constants/v1";

/// Bytes that are no sums or constants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {at}, found something else")]
pub struct DecodeError {
    expected: &'static str,
    at: usize,
}

impl SiteSums {
    /// The sums as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(SUMS.to_vec());
        writer.u64(self.rows);
        writer.u64(self.left_out);
        writer.list(&self.features, |writer, sums| writer.0.extend(sums.to_bytes()));
        writer.list(&self.tokens, |writer, (token, count)| {
            writer.text(token);
            writer.u64(*count);
        });
        writer.list(&self.names, |writer, name| writer.text(name));
        writer.0
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }

    /// Sums from bytes, as they were written; whether they can be is [`SiteSums::check`]'s to say.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { bytes, at: 0 };
        reader.word(SUMS, "a site's sums")?;
        let (rows, left_out) = (reader.u64()?, reader.u64()?);
        let features = reader.list(|reader| {
            let sums = NumericSums::from_bytes(reader.take(NUMERIC_BYTES, "sums of a feature")?);
            sums.ok_or(DecodeError { expected: "sums of a feature", at: reader.at })
        })?;
        let tokens = reader.list(|reader| Ok((reader.text()?, reader.u64()?)))?;
        let names = reader.list(Reader::text)?;
        reader.end()?;
        Ok(Self { rows, features, tokens, left_out, names })
    }
}

/// Constants as bytes.
#[must_use]
pub fn encode_constants(constants: &Constants) -> Vec<u8> {
    let mut writer = Writer(CONSTANTS.to_vec());
    for list in [&constants.class_names, &constants.tokens] {
        writer.0.push(u8::from(list.is_some()));
        if let Some(list) = list {
            writer.list(list, |writer, text| writer.text(text));
        }
    }
    writer.0.push(u8::from(constants.normalise.is_some()));
    if let Some((means, deviations)) = &constants.normalise {
        for list in [means, deviations] {
            writer.list(list, |writer, value| writer.0.extend(value.to_le_bytes()));
        }
    }
    writer.0
}

/// Constants from bytes, as they were written.
///
/// # Errors
/// Where the bytes are none.
pub fn decode_constants(bytes: &[u8]) -> Result<Constants, DecodeError> {
    let mut reader = Reader { bytes, at: 0 };
    reader.word(CONSTANTS, "a job's constants")?;
    let class_names = reader.optional(|reader| reader.list(Reader::text))?;
    let tokens = reader.optional(|reader| reader.list(Reader::text))?;
    let normalise = reader.optional(|reader| {
        let numbers =
            |reader: &mut Reader<'_>| reader.list(|reader| reader.u64().map(f64::from_bits));
        Ok((numbers(reader)?, numbers(reader)?))
    })?;
    reader.end()?;
    Ok(Constants { class_names, tokens, normalise, ..Constants::default() })
}

struct Writer(Vec<u8>);

impl Writer {
    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        // Every list and text is bounded far below u32.
        self.0.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend(text.as_bytes());
    }

    fn list<T>(&mut self, list: &[T], write: impl Fn(&mut Self, &T)) {
        self.length(list.len());
        list.iter().for_each(|entry| write(self, entry));
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(length);
        let found = end.and_then(|end| self.bytes.get(self.at..end));
        let found = found.ok_or(DecodeError { expected, at: self.at })?;
        self.at += length;
        Ok(found)
    }

    fn word(&mut self, word: &[u8], expected: &'static str) -> Result<(), DecodeError> {
        let found = self.take(word.len(), expected)?;
        if found == word { Ok(()) } else { Err(DecodeError { expected, at: 0 }) }
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.take(8, "a number of 8 bytes")?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        let bytes = self.take(4, "a length of 4 bytes")?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let length = self.length()?;
        let at = self.at;
        let bytes = self.take(length, "a text of the length before it")?;
        let text = std::str::from_utf8(bytes).map(str::to_owned);
        text.map_err(|_| DecodeError { expected: "UTF-8", at })
    }

    /// Nothing is made room for before it has been read.
    fn list<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let length = self.length()?;
        let mut list = Vec::new();
        for _ in 0..length {
            list.push(read(self)?);
        }
        Ok(list)
    }

    fn optional<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let at = self.at;
        match self.take(1, "0 or 1")? {
            [0] => Ok(None),
            [1] => read(self).map(Some),
            _ => Err(DecodeError { expected: "0 or 1", at }),
        }
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() {
            return Ok(());
        }
        Err(DecodeError { expected: "the end", at: self.at })
    }
}
