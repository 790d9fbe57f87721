//! Reads a safetensors header from hostile bytes into a schema.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::{CheckpointError, LENGTH_BYTES, METADATA, VALUE_BYTES, data_start};
use crate::params::{Schema, TENSORS_MAX};

/// The schema that a header describes, and where the data starts.
pub(super) fn read(bytes: &[u8]) -> Result<(Schema, usize), CheckpointError> {
    let start = data_start(bytes)?;
    let Some(json) = bytes.get(LENGTH_BYTES..start) else {
        let (expected, found) = (start as u64, bytes.len() as u64);
        return Err(CheckpointError::Truncated { expected, found });
    };
    if json.first() != Some(&b'{') {
        return Err(CheckpointError::Header("no `{` at its start".to_owned()));
    }
    let Entries(mut entries) =
        serde_json::from_slice(json).map_err(|e| CheckpointError::Header(e.to_string()))?;
    // Other writers sort by name; the data's order is the schema's. The sort is stable, so empty
    // tensors that share an offset keep the header's order.
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end = 0;
    for (name, entry) in &entries {
        end = check_place(name, entry, end)?;
    }
    let schema = Schema::new(entries.into_iter().map(|(name, entry)| (name, entry.shape)))?;
    Ok((schema, start))
}

/// Checks that a tensor begins at `begin` and is as long as its shape says; returns its end.
fn check_place(name: &str, entry: &Entry, begin: u64) -> Result<u64, CheckpointError> {
    if entry.dtype != "F32" {
        let found = entry.dtype.chars().take(16).collect();
        return Err(CheckpointError::Dtype { tensor: name.to_owned(), found });
    }
    let end = entry
        .shape
        .iter()
        .try_fold(VALUE_BYTES as u64, |product, &size| product.checked_mul(size as u64))
        .and_then(|bytes| begin.checked_add(bytes));
    let found = entry.data_offsets.0..entry.data_offsets.1;
    match end {
        Some(end) if found == (begin..end) => Ok(end),
        _ => {
            let expected = begin..end.unwrap_or(u64::MAX);
            Err(CheckpointError::Offsets { tensor: name.to_owned(), expected, found })
        }
    }
}

/// One tensor as the header describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The tensors in the header's order. A map type would hide duplicates and lose that order.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        let mut metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                if std::mem::replace(&mut metadata, true) {
                    return Err(A::Error::custom("`__metadata__` twice"));
                }
                // Remarks of the writer: text by text, and nothing that we act on.
                let _: std::collections::BTreeMap<String, String> = map.next_value()?;
            } else if entries.len() == TENSORS_MAX {
                return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Entries(entries))
    }
}
