//! Uploads: who may send what is asked before the bytes come (`parts` takes them); then the whole update
//! is accepted in one transaction, and only then is there a receipt.
//!
//! The number of uploads that receive at once is bounded by `places`. The others wait: HTTP/2 flow
//! control holds their bytes at the client. What one client may leave on the disk is bounded before it
//! comes.

use std::sync::Arc;

use futures::Stream;
use tributary_core::codec::{self, UpdateFault};
use tributary_core::digest::Digest;
use tributary_core::name::TaskId;
use tributary_core::round::task::{DIVERGED, TaskEvent};
use tributary_core::round::{Rejection, TaskKind};
use tributary_proto::convert::{CallerId, Upload, WireFault, statistics_from_wire};
use tributary_proto::v1;

use super::parts::{Parts, missing};
use super::{IngestError, Known, Receipt, accept, context, known, move_task, record_rejection};
use crate::blobs::UpdateKey;
use crate::driver::Hub;
use crate::store::UpdateRow;

/// Different updates of one task that parts are kept of. An honest client makes one, and another when
/// it lost its state; each stays until its round is final.
const UPDATES_PER_TASK_MAX: usize = 4;

/// The chunks behind an upload's header; an error ends the upload and can be tried again.
pub(crate) type UploadStream =
    std::pin::Pin<Box<dyn Stream<Item = Result<v1::UploadChunk, IngestError>> + Send>>;

/// What is here of an update.
pub(crate) enum Held {
    /// All of it, and it counts.
    Whole(Receipt),
    /// These parts; of the first one that is not, maybe these many bytes.
    Parts { parts: Vec<u32>, beginning: Option<(u32, u64)> },
}

/// How much of an update is durable.
pub(crate) async fn held(
    hub: &Hub,
    caller: &CallerId,
    task: &TaskId,
    digest: Digest,
    bytes: u64,
) -> Result<Held, IngestError> {
    let known = known(hub, task).await?;
    if known.view.task.client != caller.client {
        return Err(Rejection::NotYourTask.into());
    }
    if let Some(receipt) = earlier_receipt(&known, digest) {
        return Ok(Held::Whole(receipt));
    }
    let bytes = expected_bytes(&known, bytes)?;
    let key = key_of(&known, digest);
    let parts = hub.blobs.held_parts(&key, bytes).await?;
    let beginning = match missing(bytes, &parts).next() {
        Some(part) => Some((part, hub.blobs.beginning_len(&key, part).await?)),
        None => None,
    };
    Ok(Held::Parts { parts, beginning: beginning.filter(|(_, begun)| *begun > 0) })
}

/// Receives an update and gives its receipt. What cannot be counted is refused with a stable
/// reason and recorded, and its task ends so that another client can step in.
pub(crate) async fn upload(
    hub: &Arc<Hub>,
    upload: Upload,
    chunks: UploadStream,
) -> Result<Receipt, IngestError> {
    let known = known(hub, &upload.task).await?;
    let result = receive(hub, &known, &upload, chunks).await;
    if let Err(error) = &result {
        let refused = match error {
            IngestError::Update(fault) => Some(fault.reason()),
            IngestError::Rejected(rejection) => Some(rejection.code()),
            IngestError::Malformed(_) => Some("malformed"),
            IngestError::TooManyUpdates => Some("too_many_updates"),
            _ => None,
        };
        if let Some(code) = refused {
            let job = Some((&known.view.job, known.view.task.round));
            record_rejection(hub, job, &upload.caller, code, error.to_string()).await;
        }
        if let IngestError::Update(_) | IngestError::TooManyUpdates = error {
            end_task(hub, &known, &upload.caller, error).await;
        }
    }
    result
}

async fn end_task(hub: &Hub, known: &Known, caller: &CallerId, fault: &IngestError) {
    let code = match fault {
        // Values like these come of training that runs away.
        IngestError::Update(UpdateFault::NotFinite { .. } | UpdateFault::TooLarge { .. }) => {
            DIVERGED
        }
        IngestError::Update(other) => other.reason(),
        _ => "too_many_updates",
    };
    let event =
        TaskEvent::Fail { code: code.to_owned(), reason: format!("update refused: {fault}") };
    match move_task(hub, known, caller, event, None).await {
        Ok(_) => hub.wakes.wake_job(&known.view.job),
        Err(error) => tracing::debug!(%error, "the refused update's task stays as it is"),
    }
}

async fn receive(
    hub: &Arc<Hub>,
    known: &Known,
    upload: &Upload,
    chunks: UploadStream,
) -> Result<Receipt, IngestError> {
    if known.view.task.client != upload.caller.client {
        return Err(Rejection::NotYourTask.into());
    }
    if let Some(receipt) = earlier_receipt(known, upload.digest) {
        return Ok(receipt);
    }
    let row = row_of(known, upload)?;
    // Said before the bytes come, not only after: a closed round need not be paid for.
    let accepted =
        tributary_core::round::task::Accepted { digest: row.digest, examples: row.examples };
    known.view.task.step(
        &context(&known.view, &known.spec),
        &upload.caller.client,
        &upload.caller.instance,
        TaskEvent::Accept(accepted),
    )?;
    hub.blobs.check_room()?;
    let key = key_of(known, upload.digest);
    check_quota(hub, &upload.caller, &key, upload.bytes).await?;
    let place = hub.uploads.place().await?;
    let held = hub.blobs.held_parts(&key, upload.bytes).await?;
    let mut parts = Parts::new(hub, known, upload, (key, held), place);
    parts.receive(chunks).await?;
    accept(hub, &upload.caller, known, row).await
}

/// Whether the client may leave this much more on the disk: a digest is a client's own word, and
/// another one would be another folder of parts.
async fn check_quota(
    hub: &Hub,
    caller: &CallerId,
    key: &UpdateKey,
    bytes: u64,
) -> Result<(), IngestError> {
    let mut total = bytes;
    let mut live = hub.store.live_tasks(&caller.client).await?;
    live.push((key.job.clone(), key.round, key.task.clone()));
    live.sort();
    live.dedup();
    for (job, round, task) in live {
        let updates = hub.blobs.updates_of(&job, round, &task).await?;
        if task == key.task {
            let known = updates.get(&key.digest.hex());
            if known.is_none() && updates.len() >= UPDATES_PER_TASK_MAX {
                return Err(IngestError::TooManyUpdates);
            }
            total = total.saturating_sub(known.copied().unwrap_or(0));
        }
        total = updates.values().fold(total, |sum, bytes| sum.saturating_add(*bytes));
    }
    if total > hub.open_bytes_max {
        return Err(IngestError::Quota { total, max: hub.open_bytes_max });
    }
    Ok(())
}

fn earlier_receipt(known: &Known, sent: Digest) -> Option<Receipt> {
    let task = &known.view.task;
    let accepted = task.accepted.as_ref()?;
    let already = accepted.digest != sent;
    Some(Receipt { task: task.id.clone(), digest: accepted.digest, already })
}

fn expected_bytes(known: &Known, bytes: u64) -> Result<u64, IngestError> {
    if known.view.task.kind != TaskKind::Train {
        let found = known.view.task.kind.word();
        return Err(WireFault::new("task_id", "a train task", found).into());
    }
    let expected = codec::update_len(known.spec.parsed.model.schema().len());
    if bytes != expected {
        return Err(UpdateFault::WrongSize { part: 0, expected, found: bytes }.into());
    }
    Ok(expected)
}

fn row_of(known: &Known, upload: &Upload) -> Result<UpdateRow, IngestError> {
    let bytes = expected_bytes(known, upload.bytes)?;
    let measure = known.spec.parsed.data.measure();
    Ok(UpdateRow {
        task: upload.task.clone(),
        client: upload.caller.client.clone(),
        round: known.view.task.round,
        digest: upload.digest,
        examples: upload.examples,
        bytes,
        statistics: statistics_from_wire(upload.statistics.clone(), measure)?,
    })
}

fn key_of(known: &Known, digest: Digest) -> UpdateKey {
    UpdateKey {
        job: known.view.job.clone(),
        round: known.view.task.round,
        task: known.view.task.id.clone(),
        digest,
    }
}
