//! Uploads that hold what others need: places, and room on the disk.

use std::time::Duration;

use tonic::Code;
use tributary_core::codec;
use tributary_core::digest::Digest;
use tributary_core::identity::Role;
use tributary_proto::v1;
use v1::job_service_client::JobServiceClient;
use v1::upload_update_request::Message;

use crate::world::{PATIENCE, Somebody, World, caller, refusal};

type Answer = Result<tonic::Response<v1::UploadUpdateResponse>, tonic::Status>;

/// An upload that sends its header and then nothing; dropping the sender ends it.
fn stall(
    who: &Somebody,
    name: &str,
    task: &v1::Task,
) -> (tokio::sync::mpsc::Sender<v1::UploadUpdateRequest>, impl Future<Output = Answer> + use<>) {
    let mut messages = update_of(name, task, &[0.25; 8]);
    messages.truncate(1);
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    sender.try_send(messages.remove(0)).expect("room for one");
    let mut client = who.participant();
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    (sender, async move { client.upload_update(receiver).await })
}

/// The next of the stalled uploads to end was cut for its slowness.
async fn one_is_cut(answers: &mut tokio::task::JoinSet<Answer>) {
    let answer = tokio::time::timeout(PATIENCE, answers.join_next()).await.expect("cut in time");
    let status = answer.expect("one").expect("it ran").expect_err("it sent nothing");
    assert!(status.message().contains("took too long"), "{status:?}");
    assert_eq!(refusal(Err::<(), _>(status)).1, "damaged_in_transfer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_that_are_held_for_nothing_are_given_to_those_who_wait() {
    let world = World::start(|config| {
        config.limits.uploads_max = 4;
        // It is not their patience with a slow line that ends the hostile uploads.
        config.limits.upload_part_s = 3600;
        config.limits.upload_wait_s = 3600;
    })
    .await;
    // Three hostile clients hold what they can of a job of their own.
    let names = ["eve", "mallory", "trudy"];
    let mut hostile = Vec::new();
    for name in names {
        hostile.push(world.enroll(Role::Client, name).await);
    }
    world.submit(3, 3).await;
    let polled = tokio::join!(
        hostile[0].poll(names[0], 3, 60_000),
        hostile[1].poll(names[1], 3, 60_000),
        hostile[2].poll(names[2], 3, 60_000),
    );
    let tasks: Vec<v1::Task> = [polled.0, polled.1, polled.2]
        .into_iter()
        .map(|task| task.expect("polled").expect("a task"))
        .collect();
    let (mut held, mut answers) = (Vec::new(), tokio::task::JoinSet::new());
    for ((who, name), task) in hostile.iter().zip(names).zip(&tasks) {
        for _ in 0..2 {
            let (sender, answer) = stall(who, name, task);
            held.push(sender);
            answers.spawn(answer);
        }
    }
    // Two of the six wait, so one of the four that have a place is cut; then all of them are in
    // use, and another one waits.
    one_is_cut(&mut answers).await;
    // An honest client's round goes on among them, with its update's receipt and its checkpoint.
    let honest = world.enroll(Role::Client, "site-a").await;
    let job = world.submit(5, 1).await;
    let task = honest.poll("site-a", 5, 60_000).await.expect("polled").expect("a task");
    let update = update_of("site-a", &task, &[0.5; 12]);
    let receipt = tokio::time::timeout(PATIENCE, send(&honest, &update)).await.expect("in time");
    assert_eq!(receipt.expect("a receipt").reason, "accepted");
    let mut jobs = JobServiceClient::new(world.admin.clone());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let request = v1::GetJobRequest { job: job.clone() };
        let found = jobs.get_job(request).await.expect("a job").into_inner().job.expect("a job");
        if found.status == "completed" {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_identity_leaves_on_the_disk_is_bounded() {
    let world = World::start(|config| config.limits.open_bytes_per_identity_mb = 1).await;
    let a = world.enroll(Role::Client, "site-a").await;
    // 2 × 2^18 + 2 values are two megabytes.
    world.submit(1 << 18, 1).await;
    let task = a.poll("site-a", 1 << 18, 60_000).await.expect("polled").expect("a task");
    let update = update_of("site-a", &task, &vec![0.5; (2 << 18) + 2]);
    let status = send(&a, &update[..1].to_vec()).await.expect_err("more than its share");
    assert!(tributary_proto::fault::retry_after(&status) > Some(Duration::ZERO));
    assert_eq!(refusal(Err::<(), _>(status)).1, "quota_exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_one_client_are_counted_and_a_lying_header_is_refused() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    world.submit(3, 1).await;
    let task = a.poll("site-a", 3, 20_000).await.expect("polled").expect("a task");
    let part = Digest::of(b"part");
    let header = |bytes: u64| {
        let digest = codec::update_digest(bytes, &[part]);
        header_of("site-a", &task, (digest, bytes, &[part]))
    };
    // Terabytes announced in a small message.
    for bytes in [u64::MAX, 1 << 50, 0] {
        let first = v1::UploadUpdateRequest { message: Some(Message::Header(header(bytes))) };
        let answer = a.participant().upload_update(tokio_stream::iter([first])).await;
        assert_eq!(refusal(answer).0, Code::InvalidArgument, "{bytes}");
    }
    let bytes = codec::update_len(8);
    let mut open = Vec::new();
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let first = v1::UploadUpdateRequest { message: Some(Message::Header(header(bytes))) };
        sender.send(first).await.expect("sent");
        open.push(sender);
        let mut client = a.participant();
        let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
        answers.spawn(async move { client.upload_update(receiver).await });
    }
    for _ in 0..2 {
        let answer = answers.join_next().await.expect("one is refused").expect("it ran");
        let refused = refusal(answer);
        assert_eq!(refused, (Code::ResourceExhausted, "too_many_uploads".to_owned()));
    }
    drop(open);
    while let Some(answer) = answers.join_next().await {
        let refused = refusal(answer.expect("it ran"));
        assert_eq!(refused.1, "damaged_in_transfer", "the other two were waited for");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_is_new_and_says_when_to_come_again() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    world.submit(3, 1).await;
    let task = a.poll("site-a", 3, 20_000).await.expect("polled").expect("a task");
    let mut config = world.config.clone();
    world.coordinator.stop().await.expect("stopped");
    // No disk of this world has four exabytes to spare.
    config.disk_reserve_mb = u32::MAX;
    let full = tributary_coordinator::app::Coordinator::start(&config).await.expect("start");
    let at = format!("https://localhost:{}", full.address().port());
    let remote = tributary_client::rpc::Remote::secure(&at, &a.credential).expect("a remote");
    let channel = remote.connect().await.expect("connected");
    let a = Somebody { credential: a.credential, channel };
    let update = update_of("site-a", &task, &[0.5; 8]);
    let status = send(&a, &update).await.expect_err("no room");
    assert_eq!(tributary_proto::fault::reason(&status).as_deref(), Some("disk_full"));
    assert!(tributary_proto::fault::retry_after(&status) > Some(Duration::ZERO));
    full.stop().await.expect("stopped");
    config.disk_reserve_mb = 0;
    let roomy = tributary_coordinator::app::Coordinator::start(&config).await.expect("start");
    let at = format!("https://localhost:{}", roomy.address().port());
    let remote = tributary_client::rpc::Remote::secure(&at, &a.credential).expect("a remote");
    let channel = remote.connect().await.expect("connected");
    let a = Somebody { credential: a.credential, channel };
    let receipt = send(&a, &update).await.expect("room again: the same update is taken");
    assert_eq!(receipt.reason, "accepted");
    let replayed = send(&a, &update).await.expect("a replay gives the same receipt");
    assert_eq!(receipt, replayed);
}

pub(crate) type Messages = Vec<v1::UploadUpdateRequest>;

/// The header of an update of five examples, all of them right, with this digest, length and parts.
fn header_of(
    name: &str,
    task: &v1::Task,
    (digest, bytes, parts): (Digest, u64, &[Digest]),
) -> v1::UploadHeader {
    v1::UploadHeader {
        caller: caller(name),
        task_id: task.task_id.clone(),
        update_digest: digest.to_string(),
        bytes,
        part_digests: parts.iter().map(|part| part.as_bytes().to_vec().into()).collect(),
        examples: 5,
        statistics: Some(statistics()),
        beginning: None,
    }
}

/// Of five examples of one of two classes, all of them right.
pub(crate) fn statistics() -> v1::Statistics {
    v1::Statistics {
        examples: 5,
        loss_sum: 0,
        classes: 2,
        confusion: vec![5, 0, 0, 0],
        correct: 5,
        top_k: 5,
        scores: [vec![5], vec![0; 1023]].concat(),
        values: vec![],
        withheld: false,
    }
}

pub(crate) fn update_of(name: &str, task: &v1::Task, values: &[f32]) -> Messages {
    let spec = tributary_core::spec::JobSpec::parse(&task.spec).expect("a spec");
    let (mut bytes, mut hasher) = (Vec::new(), codec::ManifestHasher::new());
    codec::write_update(spec.model.schema().digest(), values, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), std::convert::Infallible>(())
    })
    .expect("written");
    hasher.update(&bytes);
    let manifest = hasher.finish();
    let header = header_of(name, task, (manifest.digest(), manifest.len, &manifest.parts));
    let chunk = v1::UploadChunk { part: 0, data: bytes.into() };
    let message = |message| v1::UploadUpdateRequest { message: Some(message) };
    vec![message(Message::Header(header)), message(Message::Chunk(chunk))]
}

pub(crate) async fn send(who: &Somebody, update: &Messages) -> Result<v1::Receipt, tonic::Status> {
    let messages = tokio_stream::iter(update.clone());
    let answer = who.participant().upload_update(messages).await?;
    Ok(answer.into_inner().receipt.expect("a receipt"))
}
