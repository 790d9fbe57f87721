//! A task's message, checked before anything is done for it.

use std::sync::Arc;
use std::time::Duration;

use tributary_core::digest::Digest;
use tributary_core::name::TaskId;
use tributary_core::round::TaskKind;
use tributary_core::spec::JobSpec;
use tributary_proto::convert::kind_from_wire;
use tributary_proto::v1;

use crate::spool::Origin;

/// The shortest and the longest time between heartbeats, whatever the coordinator asks for.
const HEARTBEAT_MS: std::ops::RangeInclusive<u32> = 50..=60_000;

/// A task whose message has been checked.
pub(super) struct Checked {
    pub(super) id: TaskId,
    pub(super) origin: Origin,
    pub(super) kind: TaskKind,
    pub(super) spec: Arc<JobSpec>,
    pub(super) checkpoint: Digest,
    pub(super) checkpoint_bytes: u64,
    pub(super) heartbeat: Duration,
}

/// Checks a task's message; the reason says what is wrong with it.
pub(super) fn check(task: v1::Task) -> Result<Checked, String> {
    let id = task.task_id.parse().map_err(|error| format!("task_id: {error}"))?;
    let kind = kind_from_wire(task.kind)
        .ok_or_else(|| "a task of a kind that this client does not know".to_owned())?;
    if Digest::of(task.spec.as_bytes()).to_string() != task.spec_digest {
        return Err("the spec's digest is not the task's".to_owned());
    }
    let spec = JobSpec::parse(&task.spec).map_err(|faults| format!("the spec has {faults}"))?;
    let spec = with_constants(spec, kind, &task)?;
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
        kind,
        spec: Arc::new(spec),
        checkpoint,
        checkpoint_bytes: task.checkpoint_bytes,
        heartbeat: Duration::from_millis(millis.into()),
    })
}

/// The spec with the constants that its sites' sums gave, in a task behind them.
fn with_constants(spec: JobSpec, kind: TaskKind, task: &v1::Task) -> Result<JobSpec, String> {
    match (&spec.statistics, kind) {
        (None, TaskKind::Statistics) => {
            return Err("expected a spec that asks for sums, found one that does not".to_owned());
        }
        (None, _) | (Some(_), TaskKind::Statistics) => return Ok(spec),
        (Some(_), TaskKind::Train | TaskKind::Evaluate) => {}
    }
    if Digest::of(&task.constants).to_string() != task.constants_digest {
        return Err("the digest of the constants is not the task's".to_owned());
    }
    spec.with_constants(&task.constants).map_err(|error| error.to_string())
}
