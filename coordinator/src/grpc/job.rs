//! The jobs' service: create, look, hold, end, watch, and fetch what came out.

mod create;
mod upload;
mod watch;

pub(super) use upload::UPLOADS_MAX as CHECKPOINT_UPLOADS_MAX;

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tributary_core::binding::DataNeed;
use tributary_core::name::JobId;
use tributary_core::round::{Effect, Event, JobStatus, Phase, step};
use tributary_proto::convert::all_metrics_to_wire;
use tributary_proto::fault::status;
use tributary_proto::v1;
use tributary_proto::v1::job_service_server::JobService;

use super::gate::Caller;
use super::participant::check_offset;
use super::status::{no_job, of_blob, of_rejection, of_spec, of_store};
use super::wire::{event_to_wire, job_to_wire, refusal_to_wire, rejection_to_wire};
use crate::driver::Hub;
use crate::specs::Spec;
use crate::store::{By, JobChanges, JobRow};

pub(super) struct Jobs {
    pub(super) hub: Arc<Hub>,
    pub(super) stop: CancellationToken,
    /// Of checkpoints that operators bring.
    pub(super) uploads: Semaphore,
}

/// Rows on a page, unless asked for another number.
const PAGE_DEFAULT: u32 = 100;
/// Most rows on a page.
const PAGE_MAX: u32 = 1000;

pub(super) fn page_size(asked: u32) -> u32 {
    if asked == 0 { PAGE_DEFAULT } else { asked.min(PAGE_MAX) }
}

/// The job of an id, or the newest of a spec's name.
pub(super) async fn find(hub: &Hub, name: &str) -> Result<JobRow, Status> {
    hub.store.find_job(name).await.map_err(|error| of_store(&error))?.ok_or_else(no_job)
}

async fn spec_of(hub: &Hub, job: &JobId) -> Result<Arc<Spec>, Status> {
    hub.specs.get(job).await.map_err(|error| of_spec(&error))
}

async fn present(hub: &Hub, row: &JobRow) -> Result<v1::Job, Status> {
    let spec = spec_of(hub, &row.id).await?;
    let mut job = job_to_wire(row, &spec);
    let refusals = hub.store.refusals(&row.id).await.map_err(|error| of_store(&error))?;
    job.refusals = refusals.into_iter().map(refusal_to_wire).collect();
    let tasks = || async {
        let of_round_0 = hub.store.tasks(&row.id, 0).await;
        of_round_0.map_err(|error| of_store(&error))
    };
    let selecting = match row.current {
        Some((_, _, phase)) => phase == Phase::Selecting,
        // Before the first round, until the sites are asked.
        None => row.status == JobStatus::Running && tasks().await?.is_empty(),
    };
    if row.status == JobStatus::Running && selecting {
        job.reason = waits_for(hub, row, &spec).await?;
    }
    let aggregating = matches!(row.current, Some((_, _, Phase::Aggregating)));
    if let Some(waits_for) = row.waits_for.as_ref().filter(|_| aggregating) {
        job.reason = waits_for.clone();
    }
    Ok(job)
}

/// What a job that selects waits for.
async fn waits_for(hub: &Hub, row: &JobRow, spec: &Spec) -> Result<String, Status> {
    let need = DataNeed::of(&spec.parsed);
    let clients = hub.store.clients().await.map_err(|error| of_store(&error))?;
    let fitting = clients
        .iter()
        .filter(|row| row.hello.protocol >= need.protocol)
        .filter(|row| row.hello.bindings.iter().any(|b| need.met_by(b) && b.train_examples > 0));
    let present = fitting.clone().filter(|row| row.present).count();
    let known = fitting.count();
    let needed = spec.policy.cohort.min_available_clients;
    let floor = spec.policy.statistics.filter(|_| row.current.is_none());
    let floor = floor.map_or_else(String::new, |statistics| {
        format!(", data.statistics.min_clients is {}", statistics.min_clients)
    });
    Ok(format!(
        "waiting for clients with {} data of {} classes and shape {:?}: {present} present \
         ({known} known), min_available_clients is {needed}{floor}",
        need.kind, need.classes, need.shape
    ))
}

/// Clients that a sentence names; the rest are a number.
const NAMED_MAX: usize = 5;

/// Whose tasks are open, for a job that asks for sums, trains or evaluates.
async fn works_for(hub: &Hub, row: &JobRow) -> Result<String, Status> {
    let number = row.current.map_or(0, |(number, ..)| number);
    let tasks = hub.store.tasks(&row.id, number).await.map_err(|error| of_store(&error))?;
    let open: Vec<_> = tasks.iter().filter(|task| task.state.open()).collect();
    if open.is_empty() {
        return Ok(String::new());
    }
    let named = open.iter().take(NAMED_MAX).map(|task| match task.instance {
        Some(_) => format!("{} ({} of {} steps)", task.client, task.progress, task.progress_total),
        None => format!("{} (has not asked yet)", task.client),
    });
    let named: Vec<String> = named.collect();
    let more = match open.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Ok(format!("waiting for {}{more}", named.join(", ")))
}

impl Jobs {
    /// Applies an operator's event in a transaction of its own; the driver sees it at its next pass.
    async fn operate(&self, by: &By, name: &str, event: Event) -> Result<v1::Job, Status> {
        let job = find(&self.hub, name).await?.id;
        let (action, detail) = match &event {
            Event::Pause => ("job_paused", String::new()),
            Event::Resume => ("job_resumed", String::new()),
            Event::Cancel { reason } => ("job_cancelled", reason.clone()),
            _ => ("job_changed", String::new()),
        };
        let spec = spec_of(&self.hub, &job).await?;
        let moved = self
            .hub
            .store
            .update_job(
                &job,
                None,
                |_| false,
                |state, _| {
                    let (state, effects) =
                        step(&state, &spec.policy, state.clock_ms, event.clone())?;
                    let audit = Some(by.did(action, job.to_string(), detail.clone()));
                    let mut changes = JobChanges { audit, ..JobChanges::default() };
                    changes.history.extend(effects.into_iter().filter_map(|effect| match effect {
                        Effect::Record(line) => Some(line),
                        _ => None,
                    }));
                    // A job that goes on: its clients wait in their polls.
                    let open = state.tasks.values().filter(|task| task.state.open());
                    let offered: Vec<_> = open.map(|task| task.client.clone()).collect();
                    Ok((state, changes, offered))
                },
            )
            .await;
        let offered =
            moved.map_err(|e| of_store(&e))?.map_err(|rejection| of_rejection(&rejection))?;
        self.hub.wakes.wake_job(&job);
        self.hub.wakes.wake_watchers(&job);
        for client in &offered {
            self.hub.wakes.wake_client(client);
        }
        let row = find(&self.hub, job.as_str()).await?;
        present(&self.hub, &row).await
    }
}

type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchJobResponse, Status>> + Send>>;
type DownloadStream =
    Pin<Box<dyn Stream<Item = Result<v1::DownloadCheckpointResponse, Status>> + Send>>;

#[tonic::async_trait]
impl JobService for Jobs {
    async fn create_job(
        &self,
        request: Request<v1::CreateJobRequest>,
    ) -> Result<Response<v1::CreateJobResponse>, Status> {
        let by = Caller::of(&request).by();
        let job = create::create(&self.hub, request.into_inner(), by).await?;
        Ok(Response::new(v1::CreateJobResponse { job }))
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        let row = find(&self.hub, &request.into_inner().job).await?;
        let mut job = present(&self.hub, &row).await?;
        if job.reason.is_empty() && row.status == JobStatus::Running {
            job.reason = works_for(&self.hub, &row).await?;
        }
        job.evaluation = row.evaluation.as_ref().and_then(all_metrics_to_wire);
        Ok(Response::new(v1::GetJobResponse { job: Some(job) }))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let request = request.into_inner();
        let filter = match request.status.as_str() {
            "" => None,
            word => Some(JobStatus::from_word(word).ok_or_else(|| {
                let text = format!("status: expected a job's status, found {word:?}");
                status(Code::InvalidArgument, "malformed", text)
            })?),
        };
        let before = page_from_token(&request.page_token)?;
        let limit = page_size(request.page_size);
        let rows = self.hub.store.jobs(filter, before, limit).await.map_err(|e| of_store(&e))?;
        let full = rows.len() >= limit as usize;
        let next_page_token = rows
            .last()
            .filter(|_| full)
            .map_or(String::new(), |last| format!("{}:{}", last.created_at_us, last.id));
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            jobs.push(present(&self.hub, row).await?);
        }
        Ok(Response::new(v1::ListJobsResponse { jobs, next_page_token }))
    }

    async fn pause_job(
        &self,
        request: Request<v1::PauseJobRequest>,
    ) -> Result<Response<v1::PauseJobResponse>, Status> {
        let by = Caller::of(&request).by();
        let job = Some(self.operate(&by, &request.into_inner().job, Event::Pause).await?);
        Ok(Response::new(v1::PauseJobResponse { job }))
    }

    async fn resume_job(
        &self,
        request: Request<v1::ResumeJobRequest>,
    ) -> Result<Response<v1::ResumeJobResponse>, Status> {
        let by = Caller::of(&request).by();
        let job = Some(self.operate(&by, &request.into_inner().job, Event::Resume).await?);
        Ok(Response::new(v1::ResumeJobResponse { job }))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let by = Caller::of(&request).by();
        let request = request.into_inner();
        let reason = match request.reason.trim() {
            "" => "by an operator".to_owned(),
            text => text.chars().filter(|c| !c.is_control()).take(200).collect(),
        };
        let job = Some(self.operate(&by, &request.job, Event::Cancel { reason }).await?);
        Ok(Response::new(v1::CancelJobResponse { job }))
    }

    type WatchJobStream = WatchStream;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let job = find(&self.hub, &request.into_inner().job).await?.id;
        let snapshots = watch::watch(self.hub.clone(), job, self.stop.clone());
        Ok(Response::new(Box::pin(ReceiverStream::new(snapshots))))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let request = request.into_inner();
        let job = find(&self.hub, &request.job).await?.id;
        let (after, limit) = (request.after_sequence, page_size(request.page_size));
        let rows = self.hub.store.events(&job, after, limit).await.map_err(|e| of_store(&e))?;
        let events = rows.into_iter().map(event_to_wire).collect();
        Ok(Response::new(v1::ListEventsResponse { events }))
    }

    async fn list_rejections(
        &self,
        request: Request<v1::ListRejectionsRequest>,
    ) -> Result<Response<v1::ListRejectionsResponse>, Status> {
        let request = request.into_inner();
        let job = find(&self.hub, &request.job).await?.id;
        let limit = page_size(request.page_size);
        let rows = self.hub.store.rejections(&job, limit).await.map_err(|e| of_store(&e))?;
        let rejections = rows.into_iter().map(rejection_to_wire).collect();
        Ok(Response::new(v1::ListRejectionsResponse { rejections }))
    }

    async fn upload_checkpoint(
        &self,
        request: Request<Streaming<v1::UploadCheckpointRequest>>,
    ) -> Result<Response<v1::UploadCheckpointResponse>, Status> {
        let by = Caller::of(&request).by();
        let answer = upload::upload(&self.hub, &self.uploads, request.into_inner(), by).await?;
        Ok(Response::new(answer))
    }

    type DownloadCheckpointStream = DownloadStream;

    async fn download_checkpoint(
        &self,
        request: Request<v1::DownloadCheckpointRequest>,
    ) -> Result<Response<DownloadStream>, Status> {
        let by = Caller::of(&request).by();
        let request = request.into_inner();
        let job = find(&self.hub, &request.job).await?;
        let store = &self.hub.store;
        let row = match request.round {
            Some(round) => store.checkpoint(&job.id, round).await,
            None => store.checkpoint_by_digest(&job.checkpoint).await,
        };
        let Some(row) = row.map_err(|error| of_store(&error))? else {
            let text = format!("job {} has no checkpoint of that round", job.id);
            return Err(status(Code::NotFound, "unknown_round", text));
        };
        check_offset(request.offset, row.bytes)?;
        // Before the first byte: a model that nobody can account for does not leave.
        let detail = format!("round {}, {}, from byte {}", row.round, row.digest, request.offset);
        let event = by.did("model_downloaded", job.id.to_string(), detail);
        store.audit(&event).await.map_err(|error| of_store(&error))?;
        let mut offset = request.offset;
        let (digest, round, total_bytes) = (row.digest.to_string(), row.round, row.bytes);
        let chunks = self.hub.blobs.stream(&row.key, offset).map(move |chunk| {
            let data = chunk.map_err(|error| of_blob(&error))?;
            let at = offset;
            offset += data.len() as u64;
            let digest = digest.clone();
            Ok(v1::DownloadCheckpointResponse { digest, round, total_bytes, offset: at, data })
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}

fn page_from_token(token: &str) -> Result<Option<(i64, JobId)>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let parts = token.split_once(':');
    let parsed = parts.and_then(|(at, job)| Some((at.parse().ok()?, job.parse().ok()?)));
    parsed.map(Some).ok_or_else(|| {
        let text = "page_token: expected a token of an earlier answer";
        status(Code::InvalidArgument, "malformed", text)
    })
}
