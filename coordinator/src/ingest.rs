//! What clients send: polls, heartbeats, updates, failures. Stateless: any replica can take any of
//! it, because everything that must be remembered is a row before the answer goes out.

mod parts;
mod places;
mod poll;
mod sums;
mod upload;

pub(crate) use places::Uploads;
pub(crate) use poll::{Polled, poll};
pub(crate) use sums::sums;
pub(crate) use upload::{Held, held, upload};

use std::sync::Arc;

use tributary_core::codec::UpdateFault;
use tributary_core::digest::Digest;
use tributary_core::metrics::Statistics;
use tributary_core::name::{ClientName, JobId, TaskId};
use tributary_core::round::task::{Accepted, REFUSED_BY_SITE, REVOKED, TaskContext, TaskEvent};
use tributary_core::round::{Rejection, Task, TaskKind};
use tributary_proto::convert::{CallerId, WireFault};

use crate::blobs::BlobError;
use crate::driver::Hub;
use crate::sabotage::{Rule, is_broken};
use crate::specs::{Spec, SpecError};
use crate::store::{IDENTITY_HELD, RejectionRow, StoreError, TaskView, UpdateRow};

/// Why something of a client's was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IngestError {
    /// The machine says no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The update is not one that can be counted.
    #[error(transparent)]
    Update(#[from] UpdateFault),
    /// The message is malformed.
    #[error(transparent)]
    Malformed(#[from] WireFault),
    /// The task is unknown.
    #[error("no such task: drop the work and poll for another")]
    NoTask,
    /// Bytes were damaged or cut on the way; sending again helps.
    #[error("{0}")]
    Damaged(String),
    /// The client sends too many updates at once.
    #[error("too many uploads of this client at once: wait for the others' receipts")]
    TooMany,
    /// Everybody's places are in use.
    #[error("others upload and more wait: try again")]
    Busy,
    /// The client sends ever other updates for one task.
    #[error("too many different updates of one task: it goes to another client")]
    TooManyUpdates,
    /// The client has too much on the disk.
    #[error(
        "expected at most {max} bytes of this client's updates that are not folded yet, found \
         {total}: try again when rounds have ended"
    )]
    Quota {
        /// What it would be.
        total: u64,
        /// What it may be.
        max: u64,
    },
    /// Another process of the same identity is at work.
    #[error(
        "another agent with this identity is at work: stop one of them, or wait until it has been \
         silent for {} s; each machine needs an identity and a state folder of its own",
        IDENTITY_HELD.as_secs()
    )]
    IdentityInUse,
    /// The store failed; it is ours.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blobs failed; it is ours.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The job's spec cannot be had.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// What a client is told when its result counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) task: TaskId,
    /// The result that counts.
    pub(crate) digest: Digest,
    /// Whether it is another one than was sent.
    pub(crate) already: bool,
}

/// A task with its job's spec.
pub(crate) struct Known {
    pub(crate) view: TaskView,
    pub(crate) spec: Arc<Spec>,
}

pub(crate) async fn known(hub: &Hub, task: &TaskId) -> Result<Known, IngestError> {
    let view = hub.store.task(task).await?.ok_or(IngestError::NoTask)?;
    let spec = hub.specs.get(&view.job).await?;
    Ok(Known { view, spec })
}

fn context(view: &TaskView, spec: &Spec) -> TaskContext {
    TaskContext {
        status: view.status,
        phase: view.phase,
        round: view.round,
        evaluating: view.evaluating,
        pooling: view.constants.is_none(),
        now_ms: view.clock_ms,
        lease_ms: spec.policy.lease_ms(),
        examples_max: (1_u64 << view.cap_exponent.min(29)).min(spec.policy.cohort.max_examples),
    }
}

/// Moves one task by one event, in one transaction.
async fn move_task(
    hub: &Hub,
    known: &Known,
    caller: &CallerId,
    event: TaskEvent,
    update: Option<UpdateRow>,
) -> Result<Task, IngestError> {
    let moved = hub
        .store
        .update_task(&known.view.task.id, |view| {
            let view = if is_broken(Rule::Close) { &known.view } else { view };
            let context = context(view, &known.spec);
            let (client, instance) = (&caller.client, caller.instance.as_str());
            let task = view.task.step(&context, client, instance, event.clone())?;
            Ok((task.clone(), update.clone(), task))
        })
        .await?;
    Ok(moved.ok_or(IngestError::NoTask)??)
}

/// Takes a sign of life; an error says why to stop.
pub(crate) async fn heartbeat(
    hub: &Hub,
    caller: &CallerId,
    task: &TaskId,
    progress: u64,
    total: u64,
) -> Result<(), IngestError> {
    let known = known(hub, task).await?;
    move_task(hub, &known, caller, TaskEvent::Heartbeat { progress, total }, None).await?;
    hub.store.seen(&caller.client).await?;
    hub.wakes.wake_watchers(&known.view.job);
    Ok(())
}

/// Takes a client's word that it cannot do a task.
pub(crate) async fn failure(
    hub: &Hub,
    caller: &CallerId,
    task: &TaskId,
    code: String,
    reason: String,
) -> Result<(), IngestError> {
    // A peer's words go to logs, tables and terminals, and Postgres takes no NUL.
    let reason: String = reason.chars().filter(|c| !c.is_control()).collect();
    let known = known(hub, task).await?;
    if code == REFUSED_BY_SITE && known.view.task.client == caller.client {
        // Before the task ends: nobody draws this client anew in between.
        hub.store.refuse_job(&known.view.job, &caller.client, &reason).await?;
        tracing::info!(client = %caller.client, job = %known.view.job, %reason, "refused by its site");
    }
    move_task(hub, &known, caller, TaskEvent::Fail { code, reason }, None).await?;
    hub.wakes.wake_job(&known.view.job);
    Ok(())
}

/// Most open tasks of one client that are given to others when it is revoked.
const RELEASED_MAX: usize = 1000;

/// Ends a revoked client's open tasks, so that others step in at once. What fails here lapses with
/// its lease.
pub(crate) async fn release(hub: &Hub, client: &ClientName) {
    for _ in 0..RELEASED_MAX {
        let released = async {
            let Some(task) = hub.store.open_task(client).await? else { return Ok(None) };
            let known = known(hub, &task).await?;
            let instance = known.view.task.instance.clone().unwrap_or_default();
            let caller = CallerId { client: client.clone(), instance };
            let reason = "the client was revoked".to_owned();
            let event = TaskEvent::Fail { code: REVOKED.to_owned(), reason };
            move_task(hub, &known, &caller, event, None).await?;
            Ok::<_, IngestError>(Some(known.view.job.clone()))
        };
        match released.await {
            Ok(Some(job)) => hub.wakes.wake_job(&job),
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%client, %error, "an open task of a revoked client lapses later");
                break;
            }
        }
    }
    // Its waiting polls end with its connection; jobs that counted on it look again.
    hub.wakes.wake_client(client);
    hub.wakes.wake_all_jobs();
}

/// Takes the statistics of an evaluate task.
pub(crate) async fn evaluation(
    hub: &Hub,
    caller: &CallerId,
    known: &Known,
    statistics: Statistics,
) -> Result<Receipt, IngestError> {
    let task = &known.view.task;
    if task.kind != TaskKind::Evaluate {
        let expected = "an evaluate task";
        return Err(WireFault::new("task_id", expected, task.kind.word()).into());
    }
    let text = serde_json::to_vec(&statistics).map_err(|e| IngestError::Damaged(e.to_string()))?;
    let digest = Digest::of_fields("tributary/evaluation/v1", [text.as_slice()]);
    let row = UpdateRow {
        task: task.id.clone(),
        client: task.client.clone(),
        round: task.round,
        digest,
        examples: statistics.examples,
        bytes: 0,
        statistics,
    };
    accept(hub, caller, known, row).await
}

/// The one way to a receipt: the task accepts the result in a transaction with the row that counts.
async fn accept(
    hub: &Hub,
    caller: &CallerId,
    known: &Known,
    row: UpdateRow,
) -> Result<Receipt, IngestError> {
    let accepted = Accepted { digest: row.digest, examples: row.examples };
    let (task, digest) = (row.task.clone(), row.digest);
    match move_task(hub, known, caller, TaskEvent::Accept(accepted), Some(row)).await {
        Ok(_) => {
            hub.wakes.wake_job(&known.view.job);
            Ok(Receipt { task, digest, already: false })
        }
        Err(IngestError::Rejected(Rejection::AlreadyAccepted { accepted })) => {
            Ok(Receipt { task, digest: accepted, already: true })
        }
        Err(error) => Err(error),
    }
}

/// Keeps a line of what was refused; a store that fails here does not hide the refusal.
pub(crate) async fn record_rejection(
    hub: &Hub,
    job: Option<(&JobId, u32)>,
    caller: &CallerId,
    code: &str,
    detail: String,
) {
    tracing::warn!(client = %caller.client, code, %detail, "refused");
    let row = RejectionRow {
        job: job.map(|(job, _)| job.clone()),
        round: job.map_or(0, |(_, round)| round),
        client: caller.client.clone(),
        code: code.to_owned(),
        detail,
        at_us: 0,
    };
    if let Err(error) = hub.store.record_rejection(&row).await {
        tracing::warn!(%error, "the refusal could not be recorded");
    }
}
