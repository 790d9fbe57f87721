//! The header of an upload: who, for what, how long, and the digest of every part.

use tributary_core::codec;
use tributary_core::digest::Digest;
use tributary_core::name::TaskId;

use super::{CallerId, WireFault, caller_from_wire, digest_from_wire, task_id_from_wire};
use crate::v1;

/// An upload's header, checked as far as it can be without the task.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Who sends it.
    pub caller: CallerId,
    /// For which task.
    pub task: TaskId,
    /// The update's manifest digest; it agrees with length and parts.
    pub digest: Digest,
    /// The update's length.
    pub bytes: u64,
    /// The digest of each part.
    pub parts: Vec<Digest>,
    /// n.
    pub examples: u64,
    /// Of the last local epoch, unchecked.
    pub statistics: Option<v1::Statistics>,
    /// A part whose first bytes are not sent again, and how many these are: fewer than it has.
    pub beginning: Option<(u32, u64)>,
}

/// Checks an upload's header: the number of parts fits the length, and the manifest's digest fits
/// the parts.
///
/// # Errors
/// When a field is malformed or they disagree.
pub fn upload_from_wire(header: v1::UploadHeader) -> Result<Upload, WireFault> {
    let caller = caller_from_wire(header.caller)?;
    let task = task_id_from_wire(&header.task_id)?;
    let digest = digest_from_wire("header.update_digest", &header.update_digest)?;
    let expected = u64::from(codec::part_count(header.bytes));
    if expected != header.part_digests.len() as u64 {
        let found = format!("{} digests for {} bytes", header.part_digests.len(), header.bytes);
        let expected = format!("one digest for each 8 MiB part ({expected})");
        return Err(WireFault::new("header.part_digests", expected, found));
    }
    let mut parts = Vec::with_capacity(header.part_digests.len());
    for part in &header.part_digests {
        let part = Digest::from_slice(part).map_err(|error| {
            WireFault::new("header.part_digests", "digests of 32 bytes", error.to_string())
        })?;
        parts.push(part);
    }
    let manifest = codec::update_digest(header.bytes, &parts);
    if manifest != digest {
        let expected = format!("the digest of length and parts ({manifest})");
        return Err(WireFault::new("header.update_digest", expected, digest.to_string()));
    }
    let beginning = header.beginning.map(|b| beginning_from_wire(b, header.bytes)).transpose()?;
    Ok(Upload {
        caller,
        task,
        digest,
        bytes: header.bytes,
        parts,
        examples: header.examples,
        statistics: header.statistics,
        beginning,
    })
}

/// The beginning of a part of an update of `bytes` bytes.
///
/// # Errors
/// When there is no such part, or it is no longer than its beginning.
pub fn beginning_from_wire(
    beginning: v1::PartBeginning,
    bytes: u64,
) -> Result<(u32, u64), WireFault> {
    let v1::PartBeginning { part, bytes: begun } = beginning;
    let range = codec::part_range(part, bytes).unwrap_or(0..0);
    let len = range.end - range.start;
    if begun >= len {
        let expected = format!("fewer than the {len} bytes of part {part}");
        return Err(WireFault::new("beginning.bytes", expected, begun.to_string()));
    }
    Ok((part, begun))
}
