//! The border over real gRPC: what a client may send, and what becomes of what it may not.

use std::time::Duration;

use bytes::Bytes;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tributary_coordinator::app::Coordinator;
use tributary_coordinator::config::Config;
use tributary_core::codec::{self, ManifestHasher, PART_BYTES};
use tributary_core::digest::Digest;
use tributary_core::spec::JobSpec;
use tributary_proto::fault::reason;
use tributary_proto::v1;
use v1::job_service_client::JobServiceClient;
use v1::participant_service_client::ParticipantServiceClient;
use v1::round_service_client::RoundServiceClient;
use v1::upload_update_request::Message;

/// A running coordinator and a connection to it.
struct World {
    coordinator: Coordinator,
    channel: Channel,
    spec: String,
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
    let dir = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(&Config::embedded(dir.path())).await.expect("start");
    let at = format!("http://{}", coordinator.address());
    let channel = Channel::from_shared(at).expect("address").connect().await.expect("connect");
    World { coordinator, channel, spec: spec(features), _dir: dir }
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
            }),
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
        let request = v1::PollRequest {
            caller: caller(client),
            protocol_version: 1,
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
        match self.participants().poll(request).await.expect("polled").into_inner().answer {
            Some(v1::poll_response::Answer::Task(task)) => Some(task),
            _ => None,
        }
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

    async fn job(&self, job: &str) -> v1::Job {
        let request = v1::GetJobRequest { job: job.to_owned() };
        let mut jobs = JobServiceClient::new(self.channel.clone());
        jobs.get_job(request).await.expect("job").into_inner().job.expect("a job")
    }

    async fn completed(&self, job: &str) -> v1::Job {
        for _ in 0..200 {
            let found = self.job(job).await;
            if found.status == "completed" {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the job did not complete: {:?}", self.job(job).await);
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
async fn a_big_upload_resumes_by_parts_and_twice_gives_the_same_receipt() {
    // 2 × 2^20 + 2 values: one part of 8 MiB, and a short one.
    let features = 1 << 20;
    let world = world(features as usize).await;
    let job = world.submit().await;
    let [a, b] = world.tasks(features).await;
    let count = 2 * features as usize + 2;
    let values: Vec<f32> = (0..count).map(|i| (i % 97) as f32 * 1e-3).collect();
    let update = Update::of(&world.spec, &values);
    assert!(update.bytes.len() as u64 > PART_BYTES);
    let parts = codec::part_count(update.bytes.len() as u64);
    let header = update.header("a", &a.task_id);
    let held = || async {
        let request = v1::GetUploadRequest {
            caller: caller("a"),
            task_id: a.task_id.clone(),
            update_digest: header.update_digest.clone(),
            bytes: header.bytes,
        };
        world.participants().get_upload(request).await.expect("held").into_inner()
    };
    assert!(held().await.held_parts.is_empty());
    let cut = world.send(header.clone(), update.chunks(0..parts - 1)).await;
    cut.expect_err("the last part is missing");
    let so_far = held().await.held_parts;
    assert_eq!(so_far, (0..parts - 1).collect::<Vec<_>>(), "what came whole is durable");
    let rest = update.chunks(parts - 1..parts);
    let receipt = world.send(header.clone(), rest).await.expect("only the rest is sent");
    let again = world.send(header.clone(), update.all_chunks()).await.expect("again");
    assert_eq!(receipt, again);
    assert_eq!(held().await.receipt, Some(receipt.clone()));
    let mut other = update.clone();
    other.bytes[100] ^= 1;
    let adopted = world.send(other.header("a", &a.task_id), other.all_chunks()).await;
    let adopted = adopted.expect("told which one counts");
    assert_eq!(adopted.reason, "already_accepted");
    assert_eq!(adopted.update_digest, receipt.update_digest);

    world.send(update.header("b", &b.task_id), update.all_chunks()).await.expect("b");
    let done = world.completed(&job).await;
    resume_download(&world, &done).await;
    world.coordinator.stop().await.expect("stopped");
}

/// A checkpoint read from two offsets is the blob of its digest.
async fn resume_download(world: &World, job: &v1::Job) {
    let mut whole = Vec::new();
    for offset in [0, 1_500_000] {
        whole.truncate(offset as usize);
        let request = v1::FetchBlobRequest {
            caller: caller("a"),
            digest: job.checkpoint_digest.clone(),
            offset,
        };
        let mut chunks = world.participants().fetch_blob(request).await.expect("blob").into_inner();
        while let Some(chunk) = chunks.message().await.expect("chunk") {
            assert_eq!(chunk.offset, whole.len() as u64);
            whole.extend_from_slice(&chunk.data);
        }
    }
    assert_eq!(Digest::of(&whole).to_string(), job.checkpoint_digest);
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
