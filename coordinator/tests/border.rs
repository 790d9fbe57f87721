//! The border over real gRPC: what a client may send, and what becomes of what it may not.

#[path = "border/divergence.rs"]
mod divergence;
#[path = "border/protocols.rs"]
mod protocols;
#[path = "border/resume.rs"]
mod resume;
#[path = "border/room.rs"]
mod room;

use std::time::Duration;

use bytes::Bytes;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tributary_coordinator::app::Coordinator;
use tributary_coordinator::config::{Config, KeepUpdates};
use tributary_core::codec::{self, ManifestHasher};
use tributary_core::digest::Digest;
use tributary_core::spec::JobSpec;
use tributary_proto::fault::reason;
use tributary_proto::v1;
use v1::job_service_client::JobServiceClient;
use v1::participant_service_client::ParticipantServiceClient;
use v1::round_service_client::RoundServiceClient;
use v1::upload_update_request::Message;

/// 2 × 2^20 + 2 values: one part of 8 MiB, and a short one.
const MANY_FEATURES: u32 = 1 << 20;

/// A running coordinator and a connection to it.
struct World {
    coordinator: Coordinator,
    channel: Channel,
    spec: String,
    config: Config,
    _dir: tempfile::TempDir,
}

fn spec(features: usize) -> String {
    format!(
        "[job]\nname = \"border\"\nrounds = 1\nseed = 3\n[data]\nkind = \"image\"\nclasses = 2\n\
         [model]\ninput = {{ shape = [{features}] }}\nlayers = [{{ linear = 2 }}]\n\
         [train]\nlocal_epochs = 1\nbatch_size = 1\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n\
         [cohort]\nmin_available_clients = 2\nmin_train_clients = 2\nmin_updates = 2\n"
    )
}

async fn world(features: usize) -> World {
    world_with(features, |_| {}).await
}

async fn world_with(features: usize, tune: impl FnOnce(&mut Config)) -> World {
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = Config { keep_updates: KeepUpdates::Always, ..Config::embedded(dir.path()) };
    tune(&mut config);
    let coordinator = Coordinator::start(&config).await.expect("start");
    let at = format!("http://{}", coordinator.address());
    let channel = Channel::from_shared(at).expect("address").connect().await.expect("connect");
    World { coordinator, channel, spec: spec(features), config, _dir: dir }
}

fn caller(client: &str) -> Option<v1::Caller> {
    let instance_id = format!("{client}-process");
    Some(v1::Caller { client: client.to_owned(), instance_id })
}

/// An update as its client would send it.
#[derive(Clone)]
struct Update {
    bytes: Vec<u8>,
    examples: u64,
}

impl Update {
    fn of(spec: &str, values: &[f32]) -> Self {
        let schema = JobSpec::parse(spec).expect("spec").model.schema().digest();
        let mut bytes = Vec::new();
        codec::write_update(schema, values, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), std::convert::Infallible>(())
        })
        .expect("written");
        Self { bytes, examples: 5 }
    }

    fn header(&self, client: &str, task: &str) -> v1::UploadHeader {
        let mut hasher = ManifestHasher::new();
        hasher.update(&self.bytes);
        let manifest = hasher.finish();
        v1::UploadHeader {
            caller: caller(client),
            task_id: task.to_owned(),
            update_digest: manifest.digest().to_string(),
            bytes: manifest.len,
            part_digests: manifest
                .parts
                .iter()
                .map(|d| Bytes::copy_from_slice(d.as_bytes()))
                .collect(),
            examples: self.examples,
            statistics: Some(v1::Statistics {
                examples: 5,
                loss_sum: 0,
                classes: 2,
                confusion: vec![5, 0, 0, 0],
                correct: 5,
                top_k: 5,
                scores: [vec![5], vec![0; 1023]].concat(),
                values: vec![],
                withheld: false,
            }),
            beginning: None,
        }
    }

    fn chunks(&self, parts: impl Iterator<Item = u32>) -> Vec<v1::UploadUpdateRequest> {
        let mut chunks = Vec::new();
        for part in parts {
            let range = codec::part_range(part, self.bytes.len() as u64).expect("a part");
            let (start, end) = (range.start as usize, range.end as usize);
            for data in self.bytes[start..end].chunks(1 << 20) {
                let chunk = v1::UploadChunk { part, data: Bytes::copy_from_slice(data) };
                chunks.push(v1::UploadUpdateRequest { message: Some(Message::Chunk(chunk)) });
            }
        }
        chunks
    }

    fn all_chunks(&self) -> Vec<v1::UploadUpdateRequest> {
        self.chunks(0..codec::part_count(self.bytes.len() as u64))
    }
}

impl World {
    fn participants(&self) -> ParticipantServiceClient<Channel> {
        ParticipantServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    async fn submit(&self) -> String {
        let request = v1::CreateJobRequest {
            request_id: "one".to_owned(),
            spec: self.spec.clone(),
            validate_only: false,
        };
        let mut jobs = JobServiceClient::new(self.channel.clone());
        let job = jobs.create_job(request).await.expect("created").into_inner().job;
        job.expect("a job").job_id
    }

    async fn poll(&self, client: &str, features: u32, wait_ms: u32) -> Option<v1::Task> {
        self.poll_by(1, client, features, wait_ms).await.1
    }

    /// What a client of a protocol is answered: the protocol that both go on with, and a task.
    async fn poll_by(
        &self,
        protocol_version: u32,
        client: &str,
        features: u32,
        wait_ms: u32,
    ) -> (u32, Option<v1::Task>) {
        let request = v1::PollRequest {
            caller: caller(client),
            protocol_version,
            software: "test".to_owned(),
            bindings: vec![v1::Binding {
                name: "data".to_owned(),
                kind: "image".to_owned(),
                classes: 2,
                shape: vec![features],
                train_examples: 5,
                evaluate_examples: 0,
                targets: 0,
                vocabulary: 0,
            }],
            wait_ms,
            reconsider: false,
        };
        let answer = self.participants().poll(request).await.expect("polled").into_inner();
        let task = match answer.answer {
            Some(v1::poll_response::Answer::Task(task)) => Some(task),
            _ => None,
        };
        (answer.protocol_version, task)
    }

    /// The tasks of two clients.
    async fn tasks(&self, features: u32) -> [v1::Task; 2] {
        self.poll("a", features, 0).await;
        let (a, b) =
            tokio::join!(self.poll("a", features, 20_000), self.poll("b", features, 20_000));
        [a.expect("a task for a"), b.expect("a task for b")]
    }

    async fn send(
        &self,
        header: v1::UploadHeader,
        chunks: Vec<v1::UploadUpdateRequest>,
    ) -> Result<v1::Receipt, Status> {
        let first = v1::UploadUpdateRequest { message: Some(Message::Header(header)) };
        let messages = tokio_stream::iter(std::iter::once(first).chain(chunks));
        let answer = self.participants().upload_update(messages).await?;
        Ok(answer.into_inner().receipt.expect("a receipt"))
    }

    /// What the coordinator has of an update.
    async fn there(&self, header: &v1::UploadHeader) -> v1::GetUploadResponse {
        let request = v1::GetUploadRequest {
            caller: header.caller.clone(),
            task_id: header.task_id.clone(),
            update_digest: header.update_digest.clone(),
            bytes: header.bytes,
        };
        self.participants().get_upload(request).await.expect("known").into_inner()
    }

    /// A job, the tasks of two clients, and an update for them, in a world of [`MANY_FEATURES`].
    async fn of_two_parts(&self) -> (String, [v1::Task; 2], Update) {
        let job = self.submit().await;
        let tasks = self.tasks(MANY_FEATURES).await;
        let values: Vec<f32> = (0..2 * MANY_FEATURES + 2).map(|i| (i % 97) as f32 * 1e-3).collect();
        (job, tasks, Update::of(&self.spec, &values))
    }

    async fn job(&self, job: &str) -> v1::Job {
        let request = v1::GetJobRequest { job: job.to_owned() };
        let mut jobs = JobServiceClient::new(self.channel.clone());
        jobs.get_job(request).await.expect("job").into_inner().job.expect("a job")
    }

    async fn completed(&self, job: &str) -> v1::Job {
        self.comes_to(job, "completed").await
    }

    async fn comes_to(&self, job: &str, status: &str) -> v1::Job {
        for _ in 0..200 {
            let found = self.job(job).await;
            if found.status == status {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the job is not {status}: {:?}", self.job(job).await);
    }

    async fn round(&self, job: &str, number: u32) -> v1::Round {
        let mut rounds = RoundServiceClient::new(self.channel.clone());
        let request = v1::GetRoundRequest { job: job.to_owned(), number };
        let answer = rounds.get_round(request).await.expect("a round").into_inner();
        answer.round.expect("a round")
    }

    /// A failure as a client reports it.
    async fn fail(&self, client: &str, task: &v1::Task, code: &str) -> Result<(), Status> {
        let request = v1::ReportFailureRequest {
            caller: caller(client),
            task_id: task.task_id.clone(),
            reason: "the loss is NaN".to_owned(),
            refused_by_site: false,
            code: code.to_owned(),
        };
        self.participants().report_failure(request).await.map(|_| ())
    }

    async fn refusals(&self, job: &str) -> Vec<String> {
        let request = v1::ListRejectionsRequest { job: job.to_owned(), page_size: 0 };
        let mut jobs = JobServiceClient::new(self.channel.clone());
        let rows = jobs.list_rejections(request).await.expect("listed").into_inner().rejections;
        rows.into_iter().map(|row| row.code).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_updates_are_refused_recorded_and_do_not_harm_the_round() {
    let world = world(3).await;
    let job = world.submit().await;
    let [a, b] = world.tasks(3).await;
    let good = Update::of(&world.spec, &[0.5; 8]);

    // Somebody else's task, and an update of another model: the task itself is not touched.
    let stolen = world.send(good.header("b", &a.task_id), good.all_chunks()).await;
    let stolen = stolen.expect_err("not b's task");
    assert_eq!(
        (stolen.code(), reason(&stolen).as_deref()),
        (Code::PermissionDenied, Some("not_your_task"))
    );
    let mut greedy = good.header("a", &a.task_id);
    greedy.examples = 1 << 40;
    let greedy = world.send(greedy, good.all_chunks()).await.expect_err("too many");
    assert_eq!(reason(&greedy).as_deref(), Some("examples_out_of_range"));
    let mut lying = good.header("a", &a.task_id);
    lying.update_digest = Digest::of(b"other").to_string();
    let lying = world.send(lying, good.all_chunks()).await.expect_err("another digest");
    assert_eq!(reason(&lying).as_deref(), Some("malformed"));
    let unknown = world.send(good.header("a", &"0".repeat(32)), good.all_chunks()).await;
    assert_eq!(unknown.expect_err("no such task").code(), Code::NotFound);
    let mut damaged = good.clone();
    damaged.bytes[70] ^= 1;
    let damaged = world.send(good.header("a", &a.task_id), damaged.all_chunks()).await;
    let damaged = damaged.expect_err("damaged");
    assert_eq!(reason(&damaged).as_deref(), Some("damaged_in_transfer"), "try again");
    let cut = world.send(good.header("a", &a.task_id), Vec::new()).await.expect_err("cut");
    assert_eq!(reason(&cut).as_deref(), Some("damaged_in_transfer"), "try again");

    // A good one of each: the round goes on as if nothing had been.
    let receipt = world.send(good.header("a", &a.task_id), good.all_chunks()).await.expect("a");
    assert_eq!(receipt.reason, "accepted");
    world.send(good.header("b", &b.task_id), good.all_chunks()).await.expect("b");
    let done = world.completed(&job).await;
    assert_eq!(done.rounds_committed, 1);
    let mut refusals = world.refusals(&job).await;
    refusals.sort();
    assert_eq!(refusals, ["examples_out_of_range", "not_your_task"]);
    world.coordinator.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_cannot_count_ends_its_task_and_another_client_steps_in() {
    for (wrong, code) in [
        (vec![f32::NAN; 8], "not_finite"),
        (vec![f32::INFINITY; 8], "not_finite"),
        (vec![65.0; 8], "too_large"),
    ] {
        let world = world(3).await;
        let job = world.submit().await;
        let [a, b] = world.tasks(3).await;
        let bad = Update::of(&world.spec, &wrong);
        let refused = world.send(bad.header("a", &a.task_id), bad.all_chunks()).await;
        let refused = refused.expect_err("not a number that counts");
        assert_eq!(reason(&refused).as_deref(), Some(code));
        assert_eq!(world.refusals(&job).await, [code]);
        let failed = world.round(&job, 1).await.tasks;
        let failed: Vec<_> = failed.iter().filter(|t| t.state == "failed").collect();
        assert_eq!(failed.iter().map(|t| t.code.as_str()).collect::<Vec<_>>(), ["diverged"]);
        // A third client, that the cohort did not need before.
        let c = world.poll("c", 3, 20_000).await.expect("c is asked instead");
        let good = Update::of(&world.spec, &[0.25; 8]);
        world.send(good.header("b", &b.task_id), good.all_chunks()).await.expect("b");
        world.send(good.header("c", &c.task_id), good.all_chunks()).await.expect("c");
        world.completed(&job).await;
        world.coordinator.stop().await.expect("stopped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_of_another_model_or_length_are_refused() {
    let world = world(3).await;
    let job = world.submit().await;
    let [a, b] = world.tasks(3).await;
    let foreign = Update::of(&spec(7), &[0.5; 8]);
    let refused = world.send(foreign.header("a", &a.task_id), foreign.all_chunks()).await;
    assert_eq!(reason(&refused.expect_err("foreign")).as_deref(), Some("wrong_schema"));
    let long = Update::of(&world.spec, &[0.5; 9]);
    let refused = world.send(long.header("b", &b.task_id), long.all_chunks()).await;
    assert_eq!(reason(&refused.expect_err("long")).as_deref(), Some("wrong_size"));
    assert_eq!(world.refusals(&job).await.len(), 2);
    world.coordinator.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_spec_lists_all_its_faults() {
    let world = world(3).await;
    let mut jobs = JobServiceClient::new(world.channel.clone());
    let text = world.spec.replace("rounds = 1", "rounds = 0\nround = 2").replace("0.1", "-1.0");
    let request =
        v1::CreateJobRequest { request_id: "x".to_owned(), spec: text, validate_only: false };
    let refused = jobs.create_job(request).await.expect_err("faulty");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(reason(&refused).as_deref(), Some("spec_invalid"));
    for part in ["3 faults", "job.rounds", "job.round:", "learning_rate"] {
        assert!(refused.message().contains(part), "{part}: {}", refused.message());
    }
    let unknown = jobs.get_job(v1::GetJobRequest { job: "nothing".to_owned() }).await;
    assert_eq!(reason(&unknown.expect_err("none")).as_deref(), Some("unknown_job"));
    world.coordinator.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_polls_name_the_field() {
    let world = world(3).await;
    for (client, version, field) in [
        ("Not A Name", 1, "caller.client"),
        ("../../etc", 1, "caller.client"),
        ("a", 0, "protocol 1"),
    ] {
        let request = v1::PollRequest {
            caller: caller(client).map(|c| v1::Caller { instance_id: "i".to_owned(), ..c }),
            protocol_version: version,
            ..v1::PollRequest::default()
        };
        let refused = world.participants().poll(request).await.expect_err("malformed");
        assert!(refused.message().contains(field), "{refused:?}");
    }
    let mut rounds = RoundServiceClient::new(world.channel.clone());
    let request = v1::GetRoundRequest { job: "none".to_owned(), number: 1 };
    assert_eq!(rounds.get_round(request).await.expect_err("none").code(), Code::NotFound);
    world.coordinator.stop().await.expect("stopped");
}

impl World {
    /// A whole checkpoint, as an operator fetches it.
    async fn checkpoint(&self, job: &str, round: u32) -> (Digest, String) {
        let request = v1::DownloadCheckpointRequest {
            job: job.to_owned(),
            round: Some(round),
            ..v1::DownloadCheckpointRequest::default()
        };
        let mut jobs = JobServiceClient::new(self.channel.clone());
        let mut chunks = jobs.download_checkpoint(request).await.expect("a model").into_inner();
        let (mut whole, mut digest) = (Vec::new(), String::new());
        while let Some(chunk) = chunks.message().await.expect("chunk") {
            whole.extend_from_slice(&chunk.data);
            digest = chunk.digest;
        }
        (Digest::of(&whole), digest)
    }

    async fn audited(&self, action: &str) -> usize {
        let request = v1::ListAuditRequest { after_sequence: 0, page_size: 1000 };
        let mut federation =
            v1::federation_service_client::FederationServiceClient::new(self.channel.clone());
        let lines = federation.list_audit(request).await.expect("the audit").into_inner().lines;
        lines.iter().filter(|line| line.action == action).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_that_is_used_again_leaves_the_first_job_s_checkpoint_alone() {
    let world = world(3).await;
    let job = world.submit().await;
    let (content, digest) = world.checkpoint(&job, 0).await;
    assert_eq!(content.to_string(), digest);
    let again = |spec: String| {
        let mut jobs = JobServiceClient::new(world.channel.clone());
        let request_id = "one".to_owned();
        let request = v1::CreateJobRequest { request_id, spec, validate_only: false };
        async move { jobs.create_job(request).await }
    };
    // The same job's name, and so its id; another seed, and so another first checkpoint. Some at
    // once: none of them may write over the first one's in the time between look and write.
    let mut tries = tokio::task::JoinSet::new();
    for seed in 4..10 {
        tries.spawn(again(world.spec.replace("seed = 3", &format!("seed = {seed}"))));
    }
    while let Some(answer) = tries.join_next().await {
        let refused = answer.expect("it ran").expect_err("another spec");
        assert_eq!(
            (refused.code(), reason(&refused).as_deref()),
            (Code::AlreadyExists, Some("request_id_reused"))
        );
    }
    let same = again(world.spec.clone()).await.expect("the same request is answered again");
    assert_eq!(same.into_inner().job.expect("a job").job_id, job);
    assert_eq!(world.checkpoint(&job, 0).await, (content, digest), "the same bytes");
    assert_eq!(world.audited("job_created").await, 1, "a repetition is no second act");
    assert_eq!(world.audited("model_downloaded").await, 2);
    world.coordinator.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_specs_with_one_request_id_at_once_one_wins_with_its_own_checkpoint() {
    let world = world(3).await;
    let mut tries = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let mut jobs = JobServiceClient::new(world.channel.clone());
        let spec = world.spec.replace("seed = 3", &format!("seed = {seed}"));
        let request_id = "one".to_owned();
        let request = v1::CreateJobRequest { request_id, spec, validate_only: false };
        tries.spawn(async move { jobs.create_job(request).await });
    }
    let answers = tries.join_all().await;
    let made: Vec<_> = answers.into_iter().flatten().collect();
    assert_eq!(made.len(), 1, "one request id, one job");
    let job = made[0].get_ref().job.clone().expect("a job");
    let (content, digest) = world.checkpoint(&job.job_id, 0).await;
    assert_eq!((content.to_string(), &digest), (digest.clone(), &job.checkpoint_digest));
    world.coordinator.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_s_words_are_kept_without_what_a_terminal_would_do() {
    let world = world(3).await;
    let job = world.submit().await;
    let [a, _] = world.tasks(3).await;
    let request = v1::ReportFailureRequest {
        caller: caller("a"),
        task_id: a.task_id,
        reason: "\u{1b}[2J\u{1b}]0;gone\u{7} no\0 memory\r\n".to_owned(),
        refused_by_site: false,
        code: String::new(),
    };
    world.participants().report_failure(request).await.expect("taken");
    let request = v1::GetRoundRequest { job, number: 1 };
    let mut rounds = RoundServiceClient::new(world.channel.clone());
    let answer = rounds.get_round(request).await.expect("a round").into_inner();
    let told: Vec<v1::Round> = answer.round.into_iter().chain(answer.missed).collect();
    let reasons: Vec<&str> =
        told.iter().flat_map(|round| &round.tasks).map(|task| task.reason.as_str()).collect();
    assert!(reasons.contains(&"[2J]0;gone no memory"), "{reasons:?}");
    world.coordinator.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_fetch_what_its_own_tasks_begin_with_and_nothing_after_a_refusal() {
    let world = world(3).await;
    let job = world.submit().await;
    let [a, b] = world.tasks(3).await;
    let fetch = |client: &str, digest: &str| {
        let (caller, digest) = (caller(client), digest.to_owned());
        let mut client = world.participants();
        let request = v1::FetchBlobRequest { caller, digest, offset: 0 };
        async move { client.fetch_blob(request).await.map(|_| ()) }
    };
    fetch("a", &a.checkpoint_digest).await.expect("its task's");
    let refusal = v1::ReportFailureRequest {
        caller: caller("a"),
        task_id: a.task_id.clone(),
        reason: "not this job".to_owned(),
        refused_by_site: true,
        code: String::new(),
    };
    world.participants().report_failure(refusal).await.expect("refused");
    let refused = fetch("a", &a.checkpoint_digest).await.expect_err("it refused the job");
    assert_eq!(reason(&refused).as_deref(), Some("blob_not_found"));
    // Others do the round without it; what came of it is theirs to see.
    let c = world.poll("c", 3, 20_000).await.expect("c is asked instead");
    let good = Update::of(&world.spec, &[0.25; 8]);
    world.send(good.header("b", &b.task_id), good.all_chunks()).await.expect("b");
    world.send(good.header("c", &c.task_id), good.all_chunks()).await.expect("c");
    let done = world.completed(&job).await;
    fetch("b", &done.checkpoint_digest).await.expect("it helped to make it");
    fetch("a", &done.checkpoint_digest).await.expect_err("a later one");
    world.coordinator.stop().await.expect("stopped");
}
