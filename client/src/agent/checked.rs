//! A task's message, checked before anything is done for it.

use std::sync::Arc;
use std::time::Duration;

use tributary_core::digest::Digest;
use tributary_core::name::TaskId;
use tributary_core::spec::JobSpec;
use tributary_proto::v1;

use crate::spool::Origin;

/// The shortest and the longest time between heartbeats, whatever the coordinator asks for.
const HEARTBEAT_MS: std::ops::RangeInclusive<u32> = 50..=60_000;

/// A task whose message has been checked.
pub(super) struct Checked {
    pub(super) id: TaskId,
    pub(super) origin: Origin,
    pub(super) evaluate: bool,
    pub(super) spec: Arc<JobSpec>,
    pub(super) checkpoint: Digest,
    pub(super) checkpoint_bytes: u64,
    pub(super) heartbeat: Duration,
}

/// Checks a task's message; the reason says what is wrong with it.
pub(super) fn check(task: v1::Task) -> Result<Checked, String> {
    let id = task.task_id.parse().map_err(|error| format!("task_id: {error}"))?;
    let evaluate = task.kind() == v1::TaskKind::Evaluate;
    if task.kind() == v1::TaskKind::Unspecified {
        return Err("a task of a kind that this client does not know".to_owned());
    }
    if Digest::of(task.spec.as_bytes()).to_string() != task.spec_digest {
        return Err("the spec's digest is not the task's".to_owned());
    }
    let spec = JobSpec::parse(&task.spec).map_err(|faults| format!("the spec has {faults}"))?;
    let checkpoint =
        task.checkpoint_digest.parse().map_err(|error| format!("checkpoint_digest: {error}"))?;
    let expected = tributary_core::checkpoint::file_len(spec.model.schema());
    if task.checkpoint_bytes != expected {
        let found = task.checkpoint_bytes;
        return Err(format!("expected a checkpoint of {expected} bytes, found {found}"));
    }
    let millis = task.heartbeat_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end());
    Ok(Checked {
        id,
        origin: Origin {
            job: task.job_id,
            round: task.round,
            submitted_by: task.submitted_by,
            spec: task.spec,
        },
        evaluate,
        spec: Arc::new(spec),
        checkpoint,
        checkpoint_bytes: task.checkpoint_bytes,
        heartbeat: Duration::from_millis(millis.into()),
    })
}
