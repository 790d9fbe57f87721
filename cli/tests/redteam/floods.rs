//! Attacks by number and by slowness: the ones who behave notice nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tributary_core::identity::Role;
use tributary_proto::v1;
use v1::job_service_client::JobServiceClient;

use crate::uploads::{send, update_of};
use crate::world::{PATIENCE, Somebody, World, caller, is_cut, shake, spec};

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
    let again = Somebody { credential: a.credential, channel };
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
    let list = |who: &Somebody| {
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
    let lines = world.audit().await;
    let line = lines.iter().find(|line| line.action == "too_many_connections").expect("audited");
    assert_eq!(line.actor, "viewer/eve", "its certificate says whose they are");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_take_every_place_of_those_who_enroll() {
    let few = 3;
    let world = World::start(|config| {
        config.limits.unknown_connections_per_address_max = few;
    })
    .await;
    let port = world.coordinator.address().port();
    let trust = world.config.ca_dir.join("current.pem");
    let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let (mut open, mut cut) = (Vec::new(), 0);
    for _ in 0..8 {
        let mut stream = shake(port, versions, None, &trust).await.expect("the handshake is free");
        match is_cut(&mut stream).await {
            true => cut += 1,
            false => open.push(stream),
        }
    }
    // The enrolment that the world began with may not have hung up yet.
    assert!((2..=few as usize).contains(&open.len()) && cut >= 5, "{} open, {cut} cut", open.len());
    world.submit(3, 1).await;
    let lines = world.audit().await;
    let line = lines.iter().find(|line| line.action == "too_many_connections").expect("audited");
    assert_eq!(line.actor, "unknown");
    drop(open);
}

/// Connections of a flood: a third says nothing, a third shakes hands and says nothing more, a third
/// breaks off in the middle of its first message.
const FLOOD: usize = 5000;
/// Of these, how many knock at once: with both ends in this process each is two open files.
const AT_ONCE: usize = 500;
/// Polls of a flood, and how many of them are open at once.
const POLLS: (usize, usize) = (5000, 250);

/// A job of three rounds, done by one client; its result.
async fn three_rounds(world: &World, site: &Somebody) -> String {
    let mut jobs = JobServiceClient::new(world.admin.clone());
    let request = v1::CreateJobRequest {
        request_id: "three".to_owned(),
        spec: spec(3, 1).replace("rounds = 1", "rounds = 3"),
        validate_only: false,
    };
    let job = jobs.create_job(request).await.expect("created").into_inner().job.expect("a job");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let task = site.poll("site-a", 3, 1000).await.expect("whoever behaves is served");
        if let Some(task) = task {
            let values = [task.round as f32 * 0.125; 8];
            let receipt = send(site, &update_of("site-a", &task, &values)).await;
            assert_eq!(receipt.expect("a receipt").reason, "accepted");
        }
        let request = v1::GetJobRequest { job: job.job_id.clone() };
        let found = jobs.get_job(request).await.expect("a job").into_inner().job.expect("a job");
        if found.status == "completed" {
            assert_eq!(found.rounds_committed, 3);
            return found.result_digest;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:?}");
    }
}

/// One connection of the flood, held as long as the port holds it.
async fn knock(port: u16, kind: usize, trust: &std::path::Path) {
    let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let mut byte = [0];
    match kind % 3 {
        0 => {
            let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            let _ = socket.read(&mut byte).await;
        }
        1 => {
            let Ok(mut stream) = shake(port, versions, None, trust).await else { return };
            // The preface of HTTP/2, letter by letter, and then no more of it.
            for letter in b"PRI * HT" {
                if stream.write_all(&[*letter]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            let _ = stream.read(&mut byte).await;
        }
        _ => {
            let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            // A TLS record of 512 bytes, of which some come.
            let _ = socket.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc").await;
            let _ = socket.read(&mut byte).await;
        }
    }
}

/// Whether a refusal tells its caller to try again: with a time to wait, or, where a call is one
/// too many for its connection, by HTTP/2's own word for a call that was not looked at (RFC 9113,
/// section 8.7). The two ends count a closed call some microseconds apart, so that a caller at the
/// bound meets it now and then.
fn may_come_again(status: &tonic::Status) -> bool {
    if tributary_proto::fault::retry_after(status).is_some() {
        return true;
    }
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        source = error.source();
    }
    false
}

/// As many open files as the system lets us have.
fn raise_open_files() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("a soft limit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_through_a_flood_and_comes_to_the_same_result() {
    raise_open_files();
    let calm = World::start(|_| {}).await;
    let site = calm.enroll(Role::Client, "site-a").await;
    let undisturbed = three_rounds(&calm, &site).await;

    let world = World::start(|config| {
        config.limits.handshake_timeout_s = 1;
        config.limits.requests_per_s = 100;
    })
    .await;
    let site = world.enroll(Role::Client, "site-a").await;
    let eve = world.enroll(Role::Client, "eve").await;
    let port = world.coordinator.address().port();
    let trust = world.config.ca_dir.join("current.pem");
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut flood = tokio::task::JoinSet::new();
    for kind in 0..FLOOD {
        let (places, trust) = (places.clone(), trust.clone());
        flood.spawn(async move {
            let _place = places.acquire_owned().await.expect("open");
            // What the port lets be is given up by us, so that the next one can knock.
            let _ = tokio::time::timeout(Duration::from_secs(2), knock(port, kind, &trust)).await;
        });
    }
    let open = std::sync::Arc::new(tokio::sync::Semaphore::new(POLLS.1));
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..POLLS.0 {
        let (open, mut client) = (open.clone(), eve.participant());
        polls.spawn(async move {
            let _open = open.acquire_owned().await.expect("open");
            let request = v1::PollRequest {
                caller: caller("eve"),
                protocol_version: 1,
                ..v1::PollRequest::default()
            };
            client.poll(request).await.map(|_| ())
        });
    }
    let disturbed = three_rounds(&world, &site).await;
    assert_eq!(disturbed, undisturbed, "the same bytes as if nothing had been");
    // The flood was one, and ran its course.
    while let Some(knocked) = flood.join_next().await {
        knocked.expect("it ran");
    }
    let mut refused = 0;
    while let Some(answer) = polls.join_next().await {
        if let Err(status) = answer.expect("it ran") {
            assert!(may_come_again(&status), "{status:?}");
            refused += 1;
        }
    }
    assert!(refused > 0, "{} polls, and none too many", POLLS.0);
    site.poll("site-a", 3, 0).await.expect("over the same connection as before");
}
