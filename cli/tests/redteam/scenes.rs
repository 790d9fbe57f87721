//! Messages that are as they should be, for mutations to begin from: with the tasks, jobs, digests, tokens
//! and requests of a running federation, made anew where an earlier one was used up.

use prost::Message;
use tonic::transport::Channel;
use tributary_client::identity::Request;
use tributary_core::checkpoint;
use tributary_core::digest::Digest;
use tributary_core::identity::Role;
use tributary_core::params::ParameterSet;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::{NumericSums, SiteSums};
use tributary_proto::convert::sums_to_wire;
use tributary_proto::v1;
use v1::TaskKind;
use v1::job_service_client::JobServiceClient;

use crate::uploads::{send, statistics, update_of};
use crate::world::{PATIENCE, Somebody, World, caller, spec};

/// How long a poll waits before another job is submitted.
const WAIT_MS: u32 = 300;
/// Features of the jobs that train, and values of their updates.
const FEATURES: u32 = 3;
const VALUES: [f32; 8] = [0.5; 8];
/// Who waits for what nobody has.
const NOBODY_S: usize = 9;

/// A federation at work, and who calls.
pub(crate) struct Scenes {
    pub(crate) world: World,
    client: Somebody,
    /// Two who are asked for sums.
    asked: [Somebody; 2],
    renewer: Somebody,
    admin: Somebody,
    nobody: Channel,
    /// A job that goes on waiting.
    waiting: String,
    jobs: u32,
}

/// A call of somebody's that is as it should be.
pub(crate) struct Base {
    pub(crate) channel: Channel,
    pub(crate) messages: Vec<Vec<u8>>,
}

impl Scenes {
    pub(crate) async fn set(world: World, nobody: Channel) -> Self {
        let client = world.enroll(Role::Client, "site-a").await;
        let asked = [
            world.enroll(Role::Client, "sums-a").await,
            world.enroll(Role::Client, "sums-b").await,
        ];
        let renewer = world.enroll(Role::Viewer, "renewer").await;
        world.enroll(Role::Viewer, "victim").await;
        let admin = world.enroll(Role::Admin, "boss").await;
        let waiting = world.submit(NOBODY_S, 2).await;
        Self { world, client, asked, renewer, admin, nobody, waiting, jobs: 0 }
    }

    /// A call of this method that is answered without an error.
    pub(crate) async fn base(&mut self, path: &str) -> Base {
        let method = path.rsplit('/').next().unwrap_or_default();
        match method {
            "Enroll" => {
                let token = self.world.token(Role::Viewer, "enrolled").await;
                let request = v1::EnrollRequest {
                    secret: token.secret().to_vec().into(),
                    csr: Request::new().expect("a key").csr.into(),
                };
                Base { channel: self.nobody.clone(), messages: vec![request.encode_to_vec()] }
            }
            "Renew" => {
                let csr = Request::new().expect("a key").csr.into();
                let messages = vec![v1::RenewRequest { csr }.encode_to_vec()];
                Base { channel: self.renewer.channel.clone(), messages }
            }
            "SubmitStatistics" => {
                let task = self.sums_task().await;
                let messages = vec![submit_sums(&task).encode_to_vec()];
                Base { channel: self.asked[0].channel.clone(), messages }
            }
            _ if path.contains("ParticipantService") => {
                let kind = match method {
                    "SubmitEvaluation" => TaskKind::Evaluate,
                    _ => TaskKind::Train,
                };
                let task = self.task(kind).await;
                let messages = participants(method, &task);
                Base { channel: self.client.channel.clone(), messages }
            }
            "UploadCheckpoint" => {
                let messages = brought().iter().map(Message::encode_to_vec).collect();
                Base { channel: self.admin.channel.clone(), messages }
            }
            _ => {
                let job = match method {
                    "CancelJob" => self.submit().await,
                    _ => self.waiting.clone(),
                };
                // What is held can be let go on, and the other way round.
                let mut jobs = JobServiceClient::new(self.admin.channel.clone());
                // Refused where nobody changed it since.
                let _ = match method {
                    "PauseJob" => {
                        let request = v1::ResumeJobRequest { job: job.clone() };
                        jobs.resume_job(request).await.map(|_| ())
                    }
                    "ResumeJob" => {
                        let request = v1::PauseJobRequest { job: job.clone() };
                        jobs.pause_job(request).await.map(|_| ())
                    }
                    _ => Ok(()),
                };
                let messages = vec![operators(method, job)];
                Base { channel: self.admin.channel.clone(), messages }
            }
        }
    }

    /// A job that `site-a` trains for.
    async fn submit(&mut self) -> String {
        self.jobs += 1;
        let text = spec(FEATURES as usize, 1);
        let text = text.replace("seed = 3", &format!("seed = {}", self.jobs));
        self.create(text).await
    }

    async fn create(&mut self, spec: String) -> String {
        let request_id = format!("scene-{}", self.jobs);
        let request = v1::CreateJobRequest { request_id, spec, validate_only: false };
        let job = JobServiceClient::new(self.admin.channel.clone()).create_job(request).await;
        job.expect("created").into_inner().job.expect("a job").job_id
    }

    /// An open task of `site-a` of this kind; those of the other are done on the way.
    async fn task(&mut self, kind: TaskKind) -> v1::Task {
        loop {
            let Some(task) = poll(&self.client, poll_of("site-a", "image", WAIT_MS)).await else {
                self.submit().await;
                continue;
            };
            if task.kind() == kind {
                return task;
            }
            match task.kind() {
                TaskKind::Train => {
                    send(&self.client, &update_of("site-a", &task, &VALUES)).await.expect("sent");
                }
                _ => {
                    let request = submit_evaluation(&task);
                    self.client.participant().submit_evaluation(request).await.expect("sent");
                }
            }
        }
    }

    /// An open task of `sums-a`; the other one's stays open, so that nothing is pooled meanwhile.
    async fn sums_task(&mut self) -> v1::Task {
        loop {
            for (who, name) in self.asked.iter().zip(["sums-a", "sums-b"]) {
                let task = poll(who, poll_of(name, "table", WAIT_MS)).await;
                if let Some(task) =
                    task.filter(|task| name == "sums-a" && task.kind() == TaskKind::Statistics)
                {
                    return task;
                }
            }
            self.jobs += 1;
            let text = spec(2, 2).replace("kind = \"image\"", "kind = \"table\"");
            let text = text.replace(
                "[model]",
                "normalise = \"federated\"\nstatistics = { min_clients = 2 }\n[model]",
            );
            let text = text.replace("seed = 3", &format!("seed = {}", self.jobs));
            self.create(text).await;
        }
    }

    /// A job from its submission to its end, by the same clients that everything was tried with.
    pub(crate) async fn a_round_still_completes(&mut self) {
        let job = self.submit().await;
        let mut jobs = JobServiceClient::new(self.admin.channel.clone());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let request = v1::GetJobRequest { job: job.clone() };
            let found = jobs.get_job(request).await.expect("a job").into_inner().job;
            let found = found.expect("a job");
            if found.status == "completed" {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found:?}");
            if let Some(task) = poll(&self.client, poll_of("site-a", "image", WAIT_MS)).await {
                match task.kind() {
                    TaskKind::Train => {
                        let update = update_of("site-a", &task, &VALUES);
                        let receipt = send(&self.client, &update).await.expect("a receipt");
                        assert!(receipt.reason.contains("accepted"), "{receipt:?}");
                    }
                    _ => {
                        let request = submit_evaluation(&task);
                        self.client.participant().submit_evaluation(request).await.expect("sent");
                    }
                }
            }
        }
    }
}

fn poll_of(name: &str, kind: &str, wait_ms: u32) -> v1::PollRequest {
    v1::PollRequest {
        caller: caller(name),
        protocol_version: tributary_proto::PROTOCOL_VERSION,
        software: "test".to_owned(),
        bindings: vec![v1::Binding {
            name: "data".to_owned(),
            kind: kind.to_owned(),
            classes: 2,
            shape: vec![if kind == "table" { 2 } else { FEATURES }],
            train_examples: 5,
            evaluate_examples: 5,
            targets: 0,
            vocabulary: 0,
        }],
        wait_ms,
        reconsider: true,
    }
}

async fn poll(who: &Somebody, request: v1::PollRequest) -> Option<v1::Task> {
    let answer = who.participant().poll(request).await.expect("polled").into_inner().answer;
    match answer {
        Some(v1::poll_response::Answer::Task(task)) => Some(task),
        _ => None,
    }
}

fn submit_evaluation(task: &v1::Task) -> v1::SubmitEvaluationRequest {
    v1::SubmitEvaluationRequest {
        caller: caller("site-a"),
        task_id: task.task_id.clone(),
        statistics: Some(statistics()),
    }
}

fn submit_sums(task: &v1::Task) -> v1::SubmitStatisticsRequest {
    let mut feature = NumericSums::default();
    [1.5, -2.0].into_iter().for_each(|value| feature.add(value));
    let sums = SiteSums { rows: 2, features: vec![feature; 2], ..SiteSums::default() };
    v1::SubmitStatisticsRequest {
        caller: caller("sums-a"),
        task_id: task.task_id.clone(),
        sums: Some(sums_to_wire(&sums)),
    }
}

/// What `site-a` may send for its task.
fn participants(method: &str, task: &v1::Task) -> Vec<Vec<u8>> {
    let (task_id, caller) = (task.task_id.clone(), caller("site-a"));
    let update = update_of("site-a", task, &VALUES);
    let message = match method {
        "Poll" => poll_of("site-a", "image", 0).encode_to_vec(),
        "Heartbeat" => {
            v1::HeartbeatRequest { caller, task_id, progress: 1, progress_total: 2 }.encode_to_vec()
        }
        "FetchBlob" => {
            v1::FetchBlobRequest { caller, digest: task.checkpoint_digest.clone(), offset: 3 }
                .encode_to_vec()
        }
        "GetUpload" => {
            let Some(v1::upload_update_request::Message::Header(header)) = &update[0].message
            else {
                panic!("an update begins with its header")
            };
            let (update_digest, bytes) = (header.update_digest.clone(), header.bytes);
            v1::GetUploadRequest { caller, task_id, update_digest, bytes }.encode_to_vec()
        }
        "UploadUpdate" => return update.iter().map(Message::encode_to_vec).collect(),
        "SubmitEvaluation" => submit_evaluation(task).encode_to_vec(),
        "ReportFailure" => v1::ReportFailureRequest {
            caller,
            task_id,
            reason: "the disk is full".to_owned(),
            refused_by_site: false,
            code: "unable".to_owned(),
        }
        .encode_to_vec(),
        other => panic!("{other} has no message here: give it one"),
    };
    vec![message]
}

/// A checkpoint that jobs may start from: its header, then its bytes in one piece.
fn brought() -> [v1::UploadCheckpointRequest; 2] {
    use v1::upload_checkpoint_request::Message;
    let spec = JobSpec::parse(&spec(FEATURES as usize, 1)).expect("good");
    let file = checkpoint::encode(&ParameterSet::zeros(spec.model.schema().clone()));
    let header = v1::CheckpointHeader {
        digest: Digest::of(&file).to_string(),
        total_bytes: file.len() as u64,
    };
    [Message::Header(header), Message::Data(file.into())]
        .map(|message| v1::UploadCheckpointRequest { message: Some(message) })
}

/// What an admin may send about a job.
fn operators(method: &str, job: String) -> Vec<u8> {
    let text = |text: &str| text.to_owned();
    match method {
        "CreateJob" => v1::CreateJobRequest {
            request_id: text("one"),
            spec: spec(NOBODY_S, 2),
            validate_only: true,
        }
        .encode_to_vec(),
        "GetJob" => v1::GetJobRequest { job }.encode_to_vec(),
        "ListJobs" => {
            v1::ListJobsRequest { page_size: 10, page_token: text(""), status: text("running") }
                .encode_to_vec()
        }
        "PauseJob" => v1::PauseJobRequest { job }.encode_to_vec(),
        "ResumeJob" => v1::ResumeJobRequest { job }.encode_to_vec(),
        "CancelJob" => v1::CancelJobRequest { job, reason: text("a mistake") }.encode_to_vec(),
        "WatchJob" => v1::WatchJobRequest { job }.encode_to_vec(),
        "ListEvents" => {
            v1::ListEventsRequest { job, after_sequence: 1, page_size: 10 }.encode_to_vec()
        }
        "ListRejections" => v1::ListRejectionsRequest { job, page_size: 10 }.encode_to_vec(),
        "DownloadCheckpoint" => {
            v1::DownloadCheckpointRequest { job, round: Some(0), offset: 8 }.encode_to_vec()
        }
        "GetRound" => v1::GetRoundRequest { job, number: 1 }.encode_to_vec(),
        "ListRounds" => {
            v1::ListRoundsRequest { job, after_number: 0, page_size: 10 }.encode_to_vec()
        }
        "GetFederation" | "ListClients" | "ListIdentities" => Vec::new(),
        "CreateToken" => {
            v1::CreateTokenRequest { role: text("viewer"), name: text("eve"), ttl_s: 60 }
                .encode_to_vec()
        }
        "RevokeIdentity" => v1::RevokeIdentityRequest {
            role: text("viewer"),
            name: text("victim"),
            reason: text("stolen"),
        }
        .encode_to_vec(),
        "ListAudit" => v1::ListAuditRequest { after_sequence: 1, page_size: 10 }.encode_to_vec(),
        other => panic!("{other} has no message here: give it one"),
    }
}
