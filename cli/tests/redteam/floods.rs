//! Attacks by number and by slowness: the ones who behave notice nothing.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::Code;
use tributary_core::codec;
use tributary_core::identity::Role;
use tributary_proto::v1;
use v1::job_service_client::JobServiceClient;

use crate::world::{PATIENCE, World, caller, refusal};

/// Connections that say nothing. With both ends in this process, a limit of 1024 open files allows
/// no more.
const SILENT: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_stop_no_round_and_are_dropped() {
    let world = World::start(|config| config.limits.handshake_timeout_s = 1).await;
    let a = world.enroll(Role::Client, "site-a").await;
    let port = world.coordinator.address().port();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.expect("connected"));
    }
    // A round goes on beside them, over the connection that is there and over a new one.
    world.submit(3, 1).await;
    let task = a.poll("site-a", 3, 20_000).await.expect("polled").expect("a task");
    assert_eq!(task.round, 1);
    for mut socket in silent {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, socket.read(&mut byte)).await;
        assert!(!matches!(read.expect("dropped"), Ok(1..)), "nothing is said to the silent");
    }
    let channel = world.connect(&a.credential).await;
    let again = crate::world::Somebody { credential: a.credential, channel };
    again.poll("site-a", 3, 0).await.expect("a new connection is taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_of_one_address_are_counted() {
    let few = 4;
    let world = World::start(|config| {
        config.limits.handshakes_per_address_max = few;
        // None of them ends by itself while the test runs.
        config.limits.handshake_timeout_s = 3600;
    })
    .await;
    let port = world.coordinator.address().port();
    let mut dropped = tokio::task::JoinSet::new();
    let total = 20;
    for _ in 0..total {
        dropped.spawn(async move {
            let socket = TcpStream::connect(("127.0.0.1", port)).await;
            let mut byte = [0];
            match socket {
                Ok(mut socket) => matches!(socket.read(&mut byte).await, Ok(0) | Err(_)),
                Err(_) => true,
            }
        });
    }
    for _ in few..total {
        let ended = tokio::time::timeout(PATIENCE, dropped.join_next()).await;
        assert!(ended.expect("dropped at once").expect("one").expect("it ran"));
    }
    world.submit(3, 2).await;
    assert_eq!(dropped.len(), few as usize, "those that were let in still say nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_identity_s_flood_is_its_own_trouble() {
    let world = World::start(|config| config.limits.requests_per_s = 20).await;
    let (flooder, calm) =
        (world.enroll(Role::Viewer, "eve").await, world.enroll(Role::Viewer, "vera").await);
    let list = |who: &crate::world::Somebody| {
        let mut jobs = JobServiceClient::new(who.channel.clone());
        async move { jobs.list_jobs(v1::ListJobsRequest::default()).await }
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        calls.spawn(list(&flooder));
    }
    let mut refused = 0;
    while let Some(answer) = calls.join_next().await {
        if let Err(status) = answer.expect("it ran") {
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert!(tributary_proto::fault::retry_after(&status).is_some(), "it may come again");
            refused += 1;
        }
    }
    assert!(refused > 0, "300 at once are too many");
    list(&calm).await.expect("another's calls are answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_identity_are_counted() {
    let world = World::start(|config| config.limits.connections_per_identity_max = 3).await;
    let eve = world.enroll(Role::Viewer, "eve").await;
    let mut open = vec![eve.channel.clone()];
    let remote = || tributary_client::rpc::Remote::secure(&world.at(), &eve.credential);
    let mut ended = false;
    for _ in 0..8 {
        // TLS 1.3 lets the dialler believe that it is connected before the port says no.
        let Ok(channel) = remote().expect("a remote").connect().await else {
            ended = true;
            break;
        };
        let list = v1::ListJobsRequest::default();
        match JobServiceClient::new(channel.clone()).list_jobs(list).await {
            Ok(_) => open.push(channel),
            Err(_) => {
                ended = true;
                break;
            }
        }
    }
    assert!(ended && open.len() <= 3, "{} are open", open.len());
    let calm = world.enroll(Role::Viewer, "vera").await;
    let list = v1::ListJobsRequest::default();
    JobServiceClient::new(calm.channel).list_jobs(list).await.expect("another comes in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_one_client_are_counted_and_a_lying_header_is_refused() {
    use v1::upload_update_request::Message;
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    world.submit(3, 1).await;
    let task = a.poll("site-a", 3, 20_000).await.expect("polled").expect("a task");
    let part = tributary_core::digest::Digest::of(b"part");
    let header = |bytes: u64| {
        let digest = codec::update_digest(bytes, &[part]);
        v1::UploadHeader {
            caller: caller("site-a"),
            task_id: task.task_id.clone(),
            update_digest: digest.to_string(),
            bytes,
            part_digests: vec![part.as_bytes().to_vec().into()],
            examples: 5,
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
    let a = crate::world::Somebody { credential: a.credential, channel };
    let update = update_of(&task, &[0.5; 8]);
    let status = send(&a, &update).await.expect_err("no room");
    assert_eq!(tributary_proto::fault::reason(&status).as_deref(), Some("disk_full"));
    assert!(tributary_proto::fault::retry_after(&status) > Some(Duration::ZERO));
    full.stop().await.expect("stopped");
    config.disk_reserve_mb = 0;
    let roomy = tributary_coordinator::app::Coordinator::start(&config).await.expect("start");
    let at = format!("https://localhost:{}", roomy.address().port());
    let remote = tributary_client::rpc::Remote::secure(&at, &a.credential).expect("a remote");
    let channel = remote.connect().await.expect("connected");
    let a = crate::world::Somebody { credential: a.credential, channel };
    let receipt = send(&a, &update).await.expect("room again: the same update is taken");
    assert_eq!(receipt.reason, "accepted");
    let replayed = send(&a, &update).await.expect("a replay gives the same receipt");
    assert_eq!(receipt, replayed);
}

type Messages = Vec<v1::UploadUpdateRequest>;

fn update_of(task: &v1::Task, values: &[f32]) -> Messages {
    use v1::upload_update_request::Message;
    let spec = tributary_core::spec::JobSpec::parse(&task.spec).expect("a spec");
    let (mut bytes, mut hasher) = (Vec::new(), codec::ManifestHasher::new());
    codec::write_update(spec.model.schema().digest(), values, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), std::convert::Infallible>(())
    })
    .expect("written");
    hasher.update(&bytes);
    let manifest = hasher.finish();
    let parts = manifest.parts.iter().map(|part| part.as_bytes().to_vec().into()).collect();
    let header = v1::UploadHeader {
        caller: caller("site-a"),
        task_id: task.task_id.clone(),
        update_digest: manifest.digest().to_string(),
        bytes: manifest.len,
        part_digests: parts,
        examples: 5,
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
    };
    let chunk = v1::UploadChunk { part: 0, data: bytes.into() };
    let message = |message| v1::UploadUpdateRequest { message: Some(message) };
    vec![message(Message::Header(header)), message(Message::Chunk(chunk))]
}

async fn send(
    who: &crate::world::Somebody,
    update: &Messages,
) -> Result<v1::Receipt, tonic::Status> {
    let messages = tokio_stream::iter(update.clone());
    let answer = who.participant().upload_update(messages).await?;
    Ok(answer.into_inner().receipt.expect("a receipt"))
}
