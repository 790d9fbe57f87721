//! Uploads: parts are checked and made durable as they come, two at a time; then the whole update is
//! accepted in one transaction, and only then is there a receipt.
//!
//! Memory per upload is bounded by [`PARTS_IN_FLIGHT`] parts and the one that is being received;
//! the number of uploads that receive at once by [`UPLOADS_MAX`]. The others wait: HTTP/2 flow
//! control holds their bytes at the client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tributary_core::codec::{self, Expectation, UpdateFault};
use tributary_core::digest::Digest;
use tributary_core::name::{ClientName, TaskId};
use tributary_core::round::task::TaskEvent;
use tributary_core::round::{Rejection, TaskKind};
use tributary_proto::convert::{CallerId, Upload, WireFault, statistics_from_wire};
use tributary_proto::v1;

use super::{IngestError, Known, Receipt, accept, context, known, move_task, record_rejection};
use crate::blobs::UpdateKey;
use crate::driver::Hub;
use crate::failpoint::failpoint;
use crate::store::UpdateRow;

/// Parts of one upload that are hashed and written while the next one is received.
const PARTS_IN_FLIGHT: usize = 2;
/// Uploads that receive at once: with 8 MiB parts, 3 each, at most 192 MiB of buffers.
const UPLOADS_MAX: usize = 8;
static UPLOADS: Semaphore = Semaphore::const_new(UPLOADS_MAX);
/// Uploads of one client that are open at once: an agent sends one, and may take up another that
/// broke off before the break was noticed here.
const UPLOADS_PER_CLIENT_MAX: u32 = 2;
/// How long one part may take: 28 kB/s is the slowest line that is waited for. A peer that sends a
/// byte now and then holds its place no longer; the parts that came whole are kept.
const PART: Duration = Duration::from_secs(300);

/// Uploads that are open, by client.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<BTreeMap<ClientName, u32>>);

/// An open upload's place, given back when dropped.
struct Place<'a>(&'a Uploads, ClientName);

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClientName, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, client: &ClientName) -> Result<Place<'_>, IngestError> {
        let mut open = self.lock();
        let count = open.entry(client.clone()).or_default();
        if *count >= UPLOADS_PER_CLIENT_MAX {
            return Err(IngestError::TooMany);
        }
        *count += 1;
        Ok(Place(self, client.clone()))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        match open.get_mut(&self.1) {
            Some(count @ 2..) => *count -= 1,
            _ => {
                open.remove(&self.1);
            }
        }
    }
}

/// The chunks behind an upload's header; an error ends the upload and can be tried again.
pub(crate) type UploadStream =
    std::pin::Pin<Box<dyn Stream<Item = Result<v1::UploadChunk, IngestError>> + Send>>;

/// Which parts of an update are durable, and the receipt where it was accepted.
pub(crate) async fn held(
    hub: &Hub,
    caller: &CallerId,
    task: &TaskId,
    digest: Digest,
    bytes: u64,
) -> Result<(Vec<u32>, Option<Receipt>), IngestError> {
    let known = known(hub, task).await?;
    if known.view.task.client != caller.client {
        return Err(Rejection::NotYourTask.into());
    }
    if let Some(receipt) = earlier_receipt(&known, digest) {
        return Ok((Vec::new(), Some(receipt)));
    }
    let bytes = expected_bytes(&known, bytes)?;
    let key = key_of(&known, digest);
    Ok((hub.blobs.held_parts(&key, bytes).await?, None))
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
            _ => None,
        };
        if let Some(code) = refused {
            let job = Some((&known.view.job, known.view.task.round));
            record_rejection(hub, job, &upload.caller, code, error.to_string()).await;
        }
        if matches!(error, IngestError::Update(_)) {
            end_task(hub, &known, &upload.caller, error).await;
        }
    }
    result
}

async fn end_task(hub: &Hub, known: &Known, caller: &CallerId, error: &IngestError) {
    let reason = format!("update refused: {error}");
    match move_task(hub, known, caller, TaskEvent::Fail { reason }, None).await {
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
    let _of_client = hub.uploads.take(&upload.caller.client)?;
    let _place = UPLOADS.acquire().await.map_err(|e| IngestError::Damaged(e.to_string()))?;
    let key = key_of(known, upload.digest);
    let held = hub.blobs.held_parts(&key, upload.bytes).await?;
    let mut parts = Parts::new(hub, known, upload, key.clone(), held);
    parts.receive(chunks).await?;
    accept(hub, &upload.caller, known, row).await
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

/// The parts of one upload on their way to disk.
struct Parts<'a> {
    hub: &'a Arc<Hub>,
    upload: &'a Upload,
    key: UpdateKey,
    expect: Expectation,
    missing: Vec<u32>,
    writing: JoinSet<Result<(), IngestError>>,
}

impl<'a> Parts<'a> {
    fn new(
        hub: &'a Arc<Hub>,
        known: &Known,
        upload: &'a Upload,
        key: UpdateKey,
        held: Vec<u32>,
    ) -> Self {
        let schema = known.spec.parsed.model.schema();
        let expect = Expectation {
            schema: schema.digest(),
            parameters: schema.len(),
            max_abs: known.spec.parsed.strategy.max_abs_update(),
        };
        let all = 0..codec::part_count(upload.bytes);
        let missing = all.filter(|part| held.binary_search(part).is_err()).collect();
        Self { hub, upload, key, expect, missing, writing: JoinSet::new() }
    }

    /// Receives what is missing. Parts that came whole before the upload broke off are durable when
    /// its error goes out: the next try need not send them.
    async fn receive(&mut self, mut chunks: UploadStream) -> Result<(), IngestError> {
        let received = self.receive_missing(&mut chunks).await;
        let mut written = Ok(());
        while !self.writing.is_empty() {
            written = written.and(self.finish_one().await);
        }
        received.and(written)
    }

    async fn receive_missing(&mut self, chunks: &mut UploadStream) -> Result<(), IngestError> {
        for part in std::mem::take(&mut self.missing) {
            let received = tokio::time::timeout(PART, self.part(part, chunks)).await;
            let slow =
                |_| IngestError::Damaged(format!("part {part} took too long: send it again"));
            let bytes = received.map_err(slow)??;
            while self.writing.len() >= PARTS_IN_FLIGHT {
                self.finish_one().await?;
            }
            self.store(part, bytes);
        }
        Ok(())
    }

    /// The next part's bytes. Parts that are held already may be sent again; they are passed over.
    async fn part(&self, part: u32, chunks: &mut UploadStream) -> Result<Bytes, IngestError> {
        let len = codec::part_range(part, self.upload.bytes).map_or(0, |r| r.end - r.start);
        let len = usize::try_from(len).unwrap_or(0);
        let mut buffer = BytesMut::with_capacity(len);
        while buffer.len() < len {
            let Some(chunk) = chunks.next().await else {
                let found = format!("the end at {} bytes of part {part}", buffer.len());
                return Err(IngestError::Damaged(format!("expected {len} bytes, found {found}")));
            };
            let chunk = chunk?;
            if chunk.part < part && buffer.is_empty() {
                continue;
            }
            if chunk.part != part || chunk.data.is_empty() || buffer.len() + chunk.data.len() > len
            {
                let expected = format!("1 to {} bytes of part {part}", len - buffer.len());
                let found = format!("{} bytes of part {}", chunk.data.len(), chunk.part);
                return Err(WireFault::new("chunk", expected, found).into());
            }
            if chunk.data.len() == len {
                return Ok(chunk.data);
            }
            buffer.extend_from_slice(&chunk.data);
        }
        Ok(buffer.freeze())
    }

    fn store(&mut self, part: u32, bytes: Bytes) {
        let (hub, key, expect) = (self.hub.clone(), self.key.clone(), self.expect);
        let digest = self.upload.parts.get(part as usize).copied();
        self.writing.spawn(async move {
            let checked = bytes.clone();
            let check = tokio::task::spawn_blocking(move || {
                if digest != Some(Digest::of(&checked)) {
                    let text = format!("part {part} was damaged on its way: send it again");
                    return Err(IngestError::Damaged(text));
                }
                codec::check_part(part, &checked, &expect).map_err(IngestError::from)
            });
            check.await.map_err(|error| IngestError::Damaged(error.to_string()))??;
            failpoint!("upload.part.received");
            hub.blobs.put_part(&key, part, bytes).await?;
            failpoint!("upload.part.stored");
            Ok(())
        });
    }

    async fn finish_one(&mut self) -> Result<(), IngestError> {
        match self.writing.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(IngestError::Damaged(error.to_string())),
            None => Ok(()),
        }
    }
}
