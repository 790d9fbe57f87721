//! The participants' service: polls, heartbeats, blobs down, updates up.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tributary_core::name::ClientName;
use tributary_core::round::Rejection;
use tributary_core::round::task::REFUSED_BY_SITE;
use tributary_proto::convert::{
    CallerId, WireFault, binding_from_wire, digest_from_wire, failure_code_from_wire, kind_to_wire,
    progress_from_wire, statistics_from_wire, task_id_from_wire, upload_from_wire,
};
use tributary_proto::fault::status;
use tributary_proto::v1::participant_service_server::ParticipantService;
use tributary_proto::{PIECE_BYTES, POLL_WAIT_MS_MAX, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, v1};

use super::gate::{Caller, Gate};
use super::status::{of_blob, of_ingest, of_store, stopping};
use crate::blobs::BlobError;
use crate::driver::Hub;
use crate::ingest::{self, Held, IngestError, Known, Polled, Receipt};
use crate::store::ClientHello;

pub(super) struct Participants {
    pub(super) hub: Arc<Hub>,
    pub(super) gate: Arc<Gate>,
    pub(super) stop: CancellationToken,
}

/// Most data sets that one client binds.
const BINDINGS_MAX: usize = 64;
/// Longest software version that is kept.
const SOFTWARE_CHARS_MAX: usize = 64;
/// A client must be heard this many times within a lease.
const HEARTBEATS_PER_LEASE: u64 = 3;

/// How long an upload's header may take to come.
const HEADER: Duration = Duration::from_secs(30);

fn no_header() -> Status {
    let text = format!("no header of an upload within {} s", HEADER.as_secs());
    status(Code::DeadlineExceeded, "upload_stalled", text)
}

type FetchStream = Pin<Box<dyn Stream<Item = Result<v1::FetchBlobResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ParticipantService for Participants {
    async fn poll(
        &self,
        request: Request<v1::PollRequest>,
    ) -> Result<Response<v1::PollResponse>, Status> {
        let who = Caller::of(&request);
        let mut request = request.into_inner();
        let protocol_version = agree(request.protocol_version)?;
        let wait = Duration::from_millis(request.wait_ms.min(POLL_WAIT_MS_MAX).into());
        let caller = self.gate.client(&who, request.caller.take()).await?;
        let reconsider = request.reconsider;
        let hello = hello_from_wire(caller, protocol_version, request)?;
        let name = hello.name.clone();
        let polled = tokio::select! {
            biased;
            polled = ingest::poll(&self.hub, hello, reconsider, wait) => polled,
            () = self.stop.cancelled() => return Err(stopping()),
        };
        if matches!(polled, Err(IngestError::IdentityInUse)) {
            self.second_agent(&who, &name, "it polled while another agent is at work").await;
        }
        let answer = match polled.map_err(|error| of_ingest(&error))? {
            Polled::Task(known) => {
                let task = task_to_wire(&self.hub, &known).await?;
                v1::poll_response::Answer::Task(task)
            }
            Polled::Nothing => v1::poll_response::Answer::Wait(v1::Wait { retry_after_ms: 0 }),
        };
        Ok(Response::new(v1::PollResponse { protocol_version, answer: Some(answer) }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        use v1::heartbeat_response::Action;
        let who = Caller::of(&request);
        let request = request.into_inner();
        let caller = self.gate.client(&who, request.caller).await?;
        let task = task_id_from_wire(&request.task_id)?;
        let (progress, total) = progress_from_wire(request.progress, request.progress_total)?;
        let result = ingest::heartbeat(&self.hub, &caller, &task, progress, total).await;
        let (action, reason) = match result {
            Ok(()) => (Action::Continue, String::new()),
            Err(IngestError::Rejected(rejection)) => {
                if rejection == Rejection::Superseded {
                    let detail = "a heartbeat of a process whose task another one took over";
                    self.second_agent(&who, &caller.client, detail).await;
                }
                (Action::Stop, rejection.code().to_owned())
            }
            Err(IngestError::NoTask) => (Action::Stop, "unknown_task".to_owned()),
            Err(error) => return Err(of_ingest(&error)),
        };
        Ok(Response::new(v1::HeartbeatResponse { action: action.into(), reason }))
    }

    type FetchBlobStream = FetchStream;

    async fn fetch_blob(
        &self,
        request: Request<v1::FetchBlobRequest>,
    ) -> Result<Response<FetchStream>, Status> {
        let who = Caller::of(&request);
        let request = request.into_inner();
        let caller = self.gate.client(&who, request.caller).await?;
        let digest = digest_from_wire("digest", &request.digest)?;
        // A blob of other jobs is not told from one that is not there.
        let none = || status(Code::NotFound, "blob_not_found", format!("no blob {digest}"));
        let store = &self.hub.store;
        let allowed = store.may_fetch(&caller.client, &digest).await;
        if !allowed.map_err(|error| of_store(&error))? {
            return Err(none());
        }
        let row = store.checkpoint_by_digest(&digest).await;
        let row = row.map_err(|error| of_store(&error))?.ok_or_else(none)?;
        check_offset(request.offset, row.bytes)?;
        let total_bytes = row.bytes;
        let mut offset = request.offset;
        let pieces = pieces(self.hub.blobs.stream(&row.key, offset)).map(move |piece| {
            let data = piece.map_err(|error| of_blob(&error))?;
            let response = v1::FetchBlobResponse { offset, total_bytes, data };
            offset += response.data.len() as u64;
            Ok(response)
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn get_upload(
        &self,
        request: Request<v1::GetUploadRequest>,
    ) -> Result<Response<v1::GetUploadResponse>, Status> {
        let who = Caller::of(&request);
        let request = request.into_inner();
        let caller = self.gate.client(&who, request.caller).await?;
        let task = task_id_from_wire(&request.task_id)?;
        let digest = digest_from_wire("update_digest", &request.update_digest)?;
        let held = ingest::held(&self.hub, &caller, &task, digest, request.bytes).await;
        let held = held.map_err(|error| of_ingest(&error))?;
        let answer = match held {
            Held::Whole(receipt) => v1::GetUploadResponse {
                receipt: Some(receipt_to_wire(&receipt)),
                ..Default::default()
            },
            Held::Parts { parts, beginning } => v1::GetUploadResponse {
                held_parts: parts,
                receipt: None,
                beginning: beginning.map(|(part, bytes)| v1::PartBeginning { part, bytes }),
            },
        };
        Ok(Response::new(answer))
    }

    async fn upload_update(
        &self,
        request: Request<Streaming<v1::UploadUpdateRequest>>,
    ) -> Result<Response<v1::UploadUpdateResponse>, Status> {
        use v1::upload_update_request::Message;
        let who = Caller::of(&request);
        // Before its header is read, which can be long.
        let uploads = &self.hub.uploads;
        let claimed = match &who {
            Caller::Member { identity, .. } => Some(uploads.claim(&identity.name)),
            _ => None,
        };
        let claimed = claimed.transpose().map_err(|error| of_ingest(&error))?;
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(HEADER, messages.message()).await;
        let first = first.map_err(|_| no_header())??.and_then(|request| request.message);
        let Some(Message::Header(header)) = first else {
            return Err(WireFault::new("message", "a header first", "something else").into());
        };
        self.gate.client(&who, header.caller.clone()).await?;
        let upload = upload_from_wire(header)?;
        let _claim = match claimed {
            Some(claim) => claim,
            None => uploads.claim(&upload.caller.client).map_err(|error| of_ingest(&error))?,
        };
        let chunks = messages
            .map_err(|status| IngestError::Damaged(status.message().to_owned()))
            .and_then(|request| async move {
                match request.message {
                    Some(Message::Chunk(chunk)) => Ok(chunk),
                    _ => {
                        let found = "something else";
                        Err(WireFault::new("message", "chunks behind the header", found).into())
                    }
                }
            });
        let receipt = ingest::upload(&self.hub, upload, Box::pin(chunks)).await;
        let receipt = receipt.map_err(|error| of_ingest(&error))?;
        let receipt = Some(receipt_to_wire(&receipt));
        Ok(Response::new(v1::UploadUpdateResponse { receipt }))
    }

    async fn submit_evaluation(
        &self,
        request: Request<v1::SubmitEvaluationRequest>,
    ) -> Result<Response<v1::SubmitEvaluationResponse>, Status> {
        let who = Caller::of(&request);
        let request = request.into_inner();
        let caller = self.gate.client(&who, request.caller).await?;
        let task = task_id_from_wire(&request.task_id)?;
        let receipt = self.evaluation(&caller, &task, request.statistics).await;
        let receipt = Some(receipt_to_wire(&receipt.map_err(|error| of_ingest(&error))?));
        Ok(Response::new(v1::SubmitEvaluationResponse { receipt }))
    }

    async fn submit_statistics(
        &self,
        request: Request<v1::SubmitStatisticsRequest>,
    ) -> Result<Response<v1::SubmitStatisticsResponse>, Status> {
        let who = Caller::of(&request);
        let request = request.into_inner();
        let caller = self.gate.client(&who, request.caller).await?;
        let task = task_id_from_wire(&request.task_id)?;
        let known = ingest::known(&self.hub, &task).await.map_err(|error| of_ingest(&error))?;
        let receipt = ingest::sums(&self.hub, &caller, &known, request.sums).await;
        let receipt = Some(receipt_to_wire(&receipt.map_err(|error| of_ingest(&error))?));
        Ok(Response::new(v1::SubmitStatisticsResponse { receipt }))
    }

    async fn report_failure(
        &self,
        request: Request<v1::ReportFailureRequest>,
    ) -> Result<Response<v1::ReportFailureResponse>, Status> {
        let who = Caller::of(&request);
        let request = request.into_inner();
        let caller = self.gate.client(&who, request.caller).await?;
        let task = task_id_from_wire(&request.task_id)?;
        let code = match request.refused_by_site {
            true => REFUSED_BY_SITE.to_owned(),
            false => failure_code_from_wire(&request.code)?,
        };
        let result = ingest::failure(&self.hub, &caller, &task, code, request.reason).await;
        result.map_err(|error| of_ingest(&error))?;
        Ok(Response::new(v1::ReportFailureResponse {}))
    }
}

impl Participants {
    /// A security event: one identity, two agents.
    async fn second_agent(&self, who: &Caller, name: &ClientName, detail: &str) {
        let event = who.by().refused("identity_in_use", name.to_string(), detail.to_owned());
        self.gate.note(event).await;
    }

    async fn evaluation(
        &self,
        caller: &CallerId,
        task: &tributary_core::name::TaskId,
        statistics: Option<v1::Statistics>,
    ) -> Result<Receipt, IngestError> {
        let known = ingest::known(&self.hub, task).await?;
        let statistics = statistics_from_wire(statistics, known.spec.parsed.data.measure())?;
        ingest::evaluation(&self.hub, caller, &known, statistics).await
    }
}

/// What is read in chunks, in messages that a slow link carries in a second; no byte is copied.
fn pieces(
    chunks: impl Stream<Item = Result<Bytes, BlobError>>,
) -> impl Stream<Item = Result<Bytes, BlobError>> {
    chunks
        .map_ok(|chunk| {
            let starts = (0..chunk.len()).step_by(PIECE_BYTES);
            let piece = move |start| Ok(chunk.slice(start..chunk.len().min(start + PIECE_BYTES)));
            futures::stream::iter(starts.map(piece))
        })
        .try_flatten()
}

/// The protocol that both sides go on with.
fn agree(theirs: u32) -> Result<u32, Status> {
    if theirs < PROTOCOL_VERSION_MIN {
        let text = format!(
            "expected protocol {PROTOCOL_VERSION_MIN} or newer, found {theirs}: update the client"
        );
        return Err(status(Code::FailedPrecondition, "protocol_too_old", text));
    }
    Ok(theirs.min(PROTOCOL_VERSION))
}

pub(super) fn check_offset(offset: u64, bytes: u64) -> Result<(), WireFault> {
    if offset > bytes {
        return Err(WireFault::new("offset", format!("at most {bytes}"), offset.to_string()));
    }
    Ok(())
}

fn hello_from_wire(
    caller: CallerId,
    protocol: u32,
    request: v1::PollRequest,
) -> Result<ClientHello, WireFault> {
    if request.bindings.len() > BINDINGS_MAX {
        let found = request.bindings.len().to_string();
        return Err(WireFault::new("bindings", format!("at most {BINDINGS_MAX}"), found));
    }
    let printable = request.software.chars().filter(|c| !c.is_control());
    let bindings = request.bindings.into_iter().map(binding_from_wire);
    Ok(ClientHello {
        name: caller.client,
        instance: caller.instance,
        version: printable.take(SOFTWARE_CHARS_MAX).collect(),
        protocol,
        bindings: bindings.collect::<Result<_, _>>()?,
    })
}

async fn task_to_wire(hub: &Hub, known: &Known) -> Result<v1::Task, Status> {
    let task = &known.view.task;
    let row = hub.store.checkpoint_by_digest(&known.view.checkpoint).await;
    let Some(checkpoint) = row.map_err(|error| of_store(&error))? else {
        let text = format!("checkpoint {} is not in the store", known.view.checkpoint);
        return Err(status(Code::Internal, "checkpoint_missing", text));
    };
    let constants = match known.view.constants {
        Some(digest) => {
            let bytes = known.spec.constants(&hub.blobs, &known.view.job, digest).await;
            (bytes.map_err(|error| of_blob(&error))?, digest.to_string())
        }
        None => Default::default(),
    };
    let heartbeat_ms = known.spec.policy.lease_ms() / HEARTBEATS_PER_LEASE;
    let cap = 1_u64 << known.view.cap_exponent.min(29);
    Ok(v1::Task {
        task_id: task.id.to_string(),
        kind: kind_to_wire(task.kind).into(),
        job_id: known.view.job.to_string(),
        round: task.round,
        attempt: task.attempt,
        spec: known.spec.text.clone(),
        spec_digest: known.spec.parsed.digest.to_string(),
        checkpoint_digest: checkpoint.digest.to_string(),
        checkpoint_bytes: checkpoint.bytes,
        heartbeat_ms: u32::try_from(heartbeat_ms).unwrap_or(u32::MAX),
        examples_max: cap.min(known.spec.policy.cohort.max_examples),
        submitted_by: known.view.submitted_by.clone(),
        constants: constants.0,
        constants_digest: constants.1,
    })
}

fn receipt_to_wire(receipt: &Receipt) -> v1::Receipt {
    let reason = if receipt.already { "already_accepted" } else { "accepted" };
    v1::Receipt {
        task_id: receipt.task.to_string(),
        update_digest: receipt.digest.to_string(),
        reason: reason.to_owned(),
    }
}
