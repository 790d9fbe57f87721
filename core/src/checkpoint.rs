//! Checkpoints as safetensors: the same bytes for the same parameters, and a strict reader.
//!
//! ```text
//!   0  u64 LE   h, the header's length
//!   8  h bytes  JSON, schema order: {"name":{"dtype":"F32","shape":[…],"data_offsets":[b,e]},…},
//!               padded with spaces so that the data starts on a multiple of 8
//! 8+h  f32 LE   the values, flat, in schema order, without holes
//! ```
//!
//! The format is <https://github.com/huggingface/safetensors>. What is written has no
//! `__metadata__` and no other freedom: a schema fixes every byte of the header. What is read may
//! come from anywhere: the header's size is bounded before a byte of it is parsed, sums are
//! checked, and holes, overlaps, duplicates, other dtypes, values that are not finite and bytes
//! that nobody claims are refused.

use std::ops::Range;
use std::sync::Arc;

use crate::params::{ParameterSet, Schema, SchemaError};

mod parse;
#[cfg(test)]
mod tests;

/// Longest header, in bytes: 65,536 tensors with names of a hundred letters. A hostile length must
/// not make a reader allocate.
pub const HEADER_BYTES_MAX: usize = 8 << 20;

/// Bytes of the length that stands before the header.
pub const LENGTH_BYTES: usize = 8;

/// Bytes of one value.
const VALUE_BYTES: usize = 4;

/// The only tensor name that the format keeps for itself.
const METADATA: &str = "__metadata__";

/// Why bytes are not a checkpoint, or not the expected one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes end before the header does.
    #[error("expected a header of {expected} bytes, found {found} bytes in all")]
    Truncated {
        /// Bytes that the length and the header need.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The header claims to be longer than any that is read.
    #[error("expected a header of at most {HEADER_BYTES_MAX} bytes, found one of {0}")]
    HeaderTooLarge(u64),
    /// The header is not the JSON of a safetensors file.
    #[error("expected a safetensors header, found: {0}")]
    Header(String),
    /// A tensor of another number format.
    #[error("expected dtype F32 for tensor `{tensor}`, found `{found}`; convert the file to F32")]
    Dtype {
        /// The tensor's name.
        tensor: String,
        /// Its dtype.
        found: String,
    },
    /// A tensor's place does not continue the one before, or does not fit its shape.
    #[error(
        "expected tensor `{tensor}` at bytes {expected:?}, found {found:?}: no holes, no overlaps"
    )]
    Offsets {
        /// The tensor's name.
        tensor: String,
        /// Where its bytes should be, from the start of the data.
        expected: Range<u64>,
        /// Where the header says they are.
        found: Range<u64>,
    },
    /// Names and shapes are not a schema.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The data has another length than the header says.
    #[error("expected {expected} bytes of data, found {found}")]
    DataLength {
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The tensors are not those of the expected schema.
    #[error("expected {expected}, found {found}")]
    OtherSchema {
        /// The schema's tensor at the first difference.
        expected: String,
        /// The header's tensor there.
        found: String,
    },
    /// A value is infinite or not a number.
    #[error("expected finite values, found {value} at index {index}")]
    NotFinite {
        /// Its place in the flat buffer.
        index: usize,
        /// The value.
        value: f32,
    },
}

/// The header of a checkpoint of this schema with its length in front: everything before the data.
/// Its length is a multiple of 8.
#[must_use]
pub fn header(schema: &Schema) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut json = String::from("{");
    for (index, tensor) in schema.tensors().iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let name = serde_json::Value::from(tensor.name.as_str());
        let begin = tensor.offset * VALUE_BYTES;
        let end = begin + tensor.len * VALUE_BYTES;
        let shape = serde_json::Value::from(tensor.shape.clone());
        // Writing to a String cannot fail.
        let _ = write!(
            json,
            r#"{comma}{name}:{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}"#
        );
    }
    json.push('}');
    let padded = json.len().next_multiple_of(8);
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + padded);
    bytes.extend_from_slice(&(padded as u64).to_le_bytes());
    bytes.extend_from_slice(json.as_bytes());
    bytes.resize(LENGTH_BYTES + padded, b' ');
    bytes
}

/// How long a checkpoint of this schema is, in bytes.
#[must_use]
pub fn file_len(schema: &Schema) -> u64 {
    (header(schema).len() + schema.len() * VALUE_BYTES) as u64
}

/// The bytes of a checkpoint. They are a function of names, shapes and values alone.
#[must_use]
pub fn encode(parameters: &ParameterSet) -> Vec<u8> {
    let mut bytes = header(parameters.schema());
    bytes.reserve_exact(parameters.values().len() * VALUE_BYTES);
    bytes.extend(parameters.values().iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Where the data starts, from the first bytes of a file: 8 plus the header's length. A reader asks
/// this first, and then reads that many bytes for [`check_header`].
///
/// # Errors
/// When there are fewer than 8 bytes, or the header would be longer than [`HEADER_BYTES_MAX`].
pub fn data_start(bytes: &[u8]) -> Result<usize, CheckpointError> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        let (expected, found) = (LENGTH_BYTES as u64, bytes.len() as u64);
        return Err(CheckpointError::Truncated { expected, found });
    };
    let length = u64::from_le_bytes(*length);
    match usize::try_from(length) {
        Ok(length) if length <= HEADER_BYTES_MAX => Ok(LENGTH_BYTES + length),
        _ => Err(CheckpointError::HeaderTooLarge(length)),
    }
}

/// The tensors that the header at the front of `bytes` describes, in the order of the data, and where
/// the data starts. Only the header has to be there.
///
/// # Errors
/// When the header is none, or leaves holes.
pub fn read_header(bytes: &[u8]) -> Result<(Schema, usize), CheckpointError> {
    parse::read(bytes)
}

/// Reads the header at the front of `bytes` and compares it with a schema: the same names and
/// shapes in the same order. Returns where the data starts. Only the header has to be there.
///
/// # Errors
/// When the header is no header, or one of another schema.
pub fn check_header(bytes: &[u8], schema: &Schema) -> Result<usize, CheckpointError> {
    let (found, start) = parse::read(bytes)?;
    let describe = |schema: &Schema, index: usize| match schema.tensors().get(index) {
        Some(tensor) => format!("tensor `{}` of shape {:?}", tensor.name, tensor.shape),
        None => "the end of the tensors".to_owned(),
    };
    let longest = schema.tensors().len().max(found.tensors().len());
    let differs = |&index: &usize| schema.tensors().get(index) != found.tensors().get(index);
    match (0..longest).find(differs) {
        None => Ok(start),
        Some(index) => Err(CheckpointError::OtherSchema {
            expected: describe(schema, index),
            found: describe(&found, index),
        }),
    }
}

/// Reads a checkpoint. The schema's order is that of the data.
///
/// # Errors
/// Says what was expected and what was found; no input makes it panic or allocate more than a small
/// multiple of its own length.
pub fn decode(bytes: &[u8]) -> Result<ParameterSet, CheckpointError> {
    let (schema, start) = parse::read(bytes)?;
    let data = bytes.get(start..).unwrap_or_default();
    let expected = (schema.len() * VALUE_BYTES) as u64;
    let length = CheckpointError::DataLength { expected, found: data.len() as u64 };
    if data.len() as u64 != expected {
        return Err(length);
    }
    let values: Vec<f32> =
        data.as_chunks::<VALUE_BYTES>().0.iter().map(|v| f32::from_le_bytes(*v)).collect();
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(CheckpointError::NotFinite { index, value: values[index] });
    }
    ParameterSet::new(Arc::new(schema), values).ok_or(length)
}
