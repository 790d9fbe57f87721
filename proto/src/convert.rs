//! Wire ⇄ domain: every field of a peer's message is checked here, with its path in the error.

mod binding;
mod enrollment;
mod statistics;
mod sums;
mod upload;

use std::str::FromStr;

use tonic::{Code, Status};
use tributary_core::digest::Digest;
use tributary_core::name::{ClientName, TaskId};
use tributary_core::round::TaskKind;
use tributary_core::round::task::UNABLE;

use crate::v1;

pub use binding::{binding_from_wire, binding_to_wire};
pub use enrollment::{audit_from_wire, audit_to_wire};
pub use statistics::{
    all_metrics_to_wire, metrics_to_wire, statistics_from_wire, statistics_to_wire,
};
pub use sums::{sums_from_wire, sums_to_wire};
pub use upload::{Upload, beginning_from_wire, upload_from_wire};

/// A field of a message that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}")]
pub struct WireFault {
    /// The field's path, such as `header.bytes`.
    pub field: &'static str,
    /// What would have been right.
    pub expected: String,
    /// What came.
    pub found: String,
}

impl WireFault {
    /// A fault of a field.
    pub fn new(field: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        let found: String = found.into();
        let found = found.chars().take(80).collect();
        Self { field, expected: expected.into(), found }
    }
}

impl From<WireFault> for Status {
    fn from(fault: WireFault) -> Status {
        crate::fault::status(Code::InvalidArgument, "malformed", fault.to_string())
    }
}

/// Longest instance id: a UUID with room.
const INSTANCE_CHARS_MAX: usize = 64;

/// Who calls, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerId {
    /// The client.
    pub client: ClientName,
    /// Its process.
    pub instance: String,
}

/// Checks who calls.
///
/// # Errors
/// When the caller is missing or a field is malformed.
pub fn caller_from_wire(caller: Option<v1::Caller>) -> Result<CallerId, WireFault> {
    let caller = caller.ok_or_else(|| WireFault::new("caller", "a caller", "nothing"))?;
    let client = parse("caller.client", &caller.client)?;
    let ok = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let id = caller.instance_id;
    if id.is_empty() || id.len() > INSTANCE_CHARS_MAX || !id.chars().all(ok) {
        let expected = "1 to 64 letters, digits and dashes";
        return Err(WireFault::new("caller.instance_id", expected, id));
    }
    Ok(CallerId { client, instance: id })
}

/// Longest code of a failure.
const CODE_BYTES_MAX: usize = 40;

/// Why a client cannot do a task, as a stable word; clients of an earlier version send none. Words that
/// this version does not know are kept: they are shown, and nothing rests on them.
///
/// # Errors
/// When it is no word.
pub fn failure_code_from_wire(code: &str) -> Result<String, WireFault> {
    let ok = |c: u8| c.is_ascii_lowercase() || c == b'_';
    match code {
        "" => Ok(UNABLE.to_owned()),
        code if code.len() <= CODE_BYTES_MAX && code.bytes().all(ok) => Ok(code.to_owned()),
        _ => {
            let expected = format!("a word of at most {CODE_BYTES_MAX} characters of a-z and `_`");
            let found: String = code.chars().take(CODE_BYTES_MAX).collect();
            Err(WireFault::new("code", expected, format!("{found:?}")))
        }
    }
}

/// A task id.
///
/// # Errors
/// When it is malformed.
pub fn task_id_from_wire(text: &str) -> Result<TaskId, WireFault> {
    parse("task_id", text)
}

/// Most steps that a task can say it did: no training comes near it, and a column of either database
/// holds it.
const PROGRESS_MAX: u64 = 1 << 53;

/// How far a task is: steps done, and steps in all.
///
/// # Errors
/// When no task has so many.
pub fn progress_from_wire(done: u64, total: u64) -> Result<(u64, u64), WireFault> {
    for (field, steps) in [("progress", done), ("progress_total", total)] {
        if steps > PROGRESS_MAX {
            let expected = format!("at most {PROGRESS_MAX} steps");
            return Err(WireFault::new(field, expected, steps.to_string()));
        }
    }
    Ok((done, total))
}

/// A task's kind as the wire has it.
#[must_use]
pub fn kind_to_wire(kind: TaskKind) -> v1::TaskKind {
    match kind {
        TaskKind::Train => v1::TaskKind::Train,
        TaskKind::Evaluate => v1::TaskKind::Evaluate,
        TaskKind::Statistics => v1::TaskKind::Statistics,
    }
}

/// A task's kind from the wire; `None` for one that this build does not know.
#[must_use]
pub fn kind_from_wire(kind: i32) -> Option<TaskKind> {
    match v1::TaskKind::try_from(kind).ok()? {
        v1::TaskKind::Unspecified => None,
        v1::TaskKind::Train => Some(TaskKind::Train),
        v1::TaskKind::Evaluate => Some(TaskKind::Evaluate),
        v1::TaskKind::Statistics => Some(TaskKind::Statistics),
    }
}

/// A digest in a field.
///
/// # Errors
/// When it is malformed.
pub fn digest_from_wire(field: &'static str, text: &str) -> Result<Digest, WireFault> {
    parse(field, text)
}

/// A field that parses to a domain type.
///
/// # Errors
/// When it does not.
pub fn parse<T>(field: &'static str, text: &str) -> Result<T, WireFault>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| {
        let error = error.to_string();
        let expected = error.strip_prefix("expected ").unwrap_or(&error);
        let expected = expected.rsplit_once(", found").map_or(expected, |(e, _)| e);
        WireFault::new(field, expected, format!("{text:?}"))
    })
}
