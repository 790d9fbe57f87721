//! Numbers at and beyond the ends of their types: counts, sums, shapes, sizes. After each of them the
//! round that was there completes.

use tonic::{Code, Status};
use tributary_core::identity::Role;
use tributary_core::statistics::NumericSums;
use tributary_proto::v1;
use v1::job_service_client::JobServiceClient;
use v1::upload_update_request::Message;

use crate::uploads::{Messages, send, statistics, update_of};
use crate::world::{PATIENCE, Somebody, World, caller, refusal, spec};

/// One client with a task of a job that needs it alone.
async fn at_work() -> (World, Somebody, v1::Task, String) {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    let job = world.submit(3, 1).await;
    let task = a.poll("site-a", 3, 60_000).await.expect("polled").expect("a task");
    (world, a, task, job)
}

/// The update that would have counted, still does, and its job completes.
async fn completes(world: &World, who: &Somebody, task: &v1::Task, job: &str) {
    let receipt = send(who, &update_of("site-a", task, &[0.5; 8])).await.expect("a receipt");
    assert_eq!(receipt.reason, "accepted");
    until_completed(world, job).await;
}

async fn until_completed(world: &World, job: &str) -> v1::Job {
    let mut jobs = JobServiceClient::new(world.admin.clone());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let request = v1::GetJobRequest { job: job.to_owned() };
        let found = jobs.get_job(request).await.expect("a job").into_inner().job.expect("a job");
        if found.status == "completed" {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// An update with its header changed.
fn with_header(task: &v1::Task, change: impl FnOnce(&mut v1::UploadHeader)) -> Messages {
    let mut update = update_of("site-a", task, &[0.5; 8]);
    if let Some(Message::Header(header)) = &mut update[0].message {
        change(header);
    }
    update
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_of_examples_beyond_its_cap_does_not_weigh() {
    let (world, a, task, job) = at_work().await;
    assert!(task.examples_max < u64::MAX, "{}", task.examples_max);
    for examples in [0, task.examples_max + 1, 1 << 62, i64::MAX as u64 + 1, u64::MAX] {
        let answer = send(&a, &with_header(&task, |header| header.examples = examples)).await;
        let refused = refusal(answer);
        assert_eq!(refused, (Code::InvalidArgument, "examples_out_of_range".to_owned()));
    }
    completes(&world, &a, &task, &job).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_that_overflow_when_they_are_added_are_refused() {
    let (world, a, task, job) = at_work().await;
    let wrong: [fn(&mut v1::Statistics); 8] = [
        // Two counts whose sum wraps round to the five examples.
        |wire| wire.confusion = vec![u64::MAX, 6, 0, 0],
        |wire| (wire.examples, wire.confusion) = (u64::MAX, vec![u64::MAX, 0, 0, 0]),
        |wire| wire.scores[..2].copy_from_slice(&[u64::MAX, 6]),
        |wire| wire.correct = u64::MAX,
        |wire| wire.top_k = 1 << 63,
        |wire| wire.loss_sum = i64::MAX,
        |wire| wire.loss_sum = i64::MIN,
        |wire| wire.values = vec![vec![0xff; 64].into()],
    ];
    for (at, change) in wrong.into_iter().enumerate() {
        let mut lying = statistics();
        change(&mut lying);
        let update = with_header(&task, |header| header.statistics = Some(lying));
        let refused = refusal(send(&a, &update).await);
        assert_eq!(refused, (Code::InvalidArgument, "malformed".to_owned()), "{at}");
    }
    completes(&world, &a, &task, &job).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_updates_with_the_largest_counts_add_up() {
    let world = World::start(|_| {}).await;
    let names = ["site-a", "site-b"];
    let who =
        [world.enroll(Role::Client, names[0]).await, world.enroll(Role::Client, names[1]).await];
    let job = world.submit(3, 2).await;
    let (a, b) = tokio::join!(who[0].poll(names[0], 3, 60_000), who[1].poll(names[1], 3, 60_000));
    let tasks = [a, b].map(|task| task.expect("polled").expect("a task"));
    // 64 is the largest magnitude that a spec allows unless it says so; both add up to three quarters.
    for (at, values) in [[64.0_f32; 8], [32.0; 8]].iter().enumerate() {
        let mut update = update_of(names[at], &tasks[at], values);
        if let Some(Message::Header(header)) = &mut update[0].message {
            header.examples = tasks[at].examples_max;
        }
        assert_eq!(send(&who[at], &update).await.expect("a receipt").reason, "accepted");
    }
    let done = until_completed(&world, &job).await;
    let mut bytes = Vec::new();
    let request = v1::DownloadCheckpointRequest { job, round: None, offset: 0 };
    let mut jobs = JobServiceClient::new(world.admin.clone());
    let mut chunks = jobs.download_checkpoint(request).await.expect("a model").into_inner();
    while let Some(chunk) = chunks.message().await.expect("a chunk") {
        bytes.extend_from_slice(&chunk.data);
    }
    let model = tributary_core::checkpoint::decode(&bytes).expect("a checkpoint");
    let spec = tributary_core::spec::JobSpec::parse(&done.spec).expect("a spec");
    for (value, first) in model.values().iter().zip(spec.model.initial(spec.seed).values()) {
        assert_eq!(*value, (f64::from(*first) + 48.0) as f32);
    }
}

/// What the job of [`sums_at_the_ends_of_their_integers_are_refused`] asks for.
fn asking() -> String {
    let text = spec(1, 2).replace("kind = \"image\"", "kind = \"table\"");
    let data = "normalise = \"federated\"\nstatistics = { min_clients = 2 }\n[model]";
    text.replace("[model]", data)
}

async fn asked(who: &Somebody, name: &str) -> v1::Task {
    let binding = v1::Binding {
        name: "data".to_owned(),
        kind: "table".to_owned(),
        classes: 2,
        shape: vec![1],
        train_examples: 5,
        ..v1::Binding::default()
    };
    let request = v1::PollRequest {
        caller: caller(name),
        protocol_version: tributary_proto::PROTOCOL_VERSION,
        software: "test".to_owned(),
        bindings: vec![binding],
        wait_ms: 60_000,
        reconsider: false,
    };
    let polled = who.participant().poll(request).await.expect("polled").into_inner().answer;
    let Some(v1::poll_response::Answer::Task(task)) = polled else { panic!("{polled:?}") };
    assert_eq!(task.kind(), v1::TaskKind::Statistics);
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_at_the_ends_of_their_integers_are_refused() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    let b = world.enroll(Role::Client, "site-b").await;
    let request = v1::CreateJobRequest {
        request_id: "sums".to_owned(),
        spec: asking(),
        validate_only: false,
    };
    let mut jobs = JobServiceClient::new(world.admin.clone());
    let job = jobs.create_job(request).await.expect("created").into_inner().job.expect("a job");
    let (task, other) = tokio::join!(asked(&a, "site-a"), asked(&b, "site-b"));
    let submit = async |who: &Somebody, name: &str, task: &v1::Task, rows, sums: NumericSums| {
        let sums = v1::SiteSums {
            rows,
            features: vec![sums.to_bytes().to_vec().into()],
            ..v1::SiteSums::default()
        };
        let request = v1::SubmitStatisticsRequest {
            caller: caller(name),
            task_id: task.task_id.clone(),
            sums: Some(sums),
        };
        who.participant().submit_statistics(request).await
    };
    let of = |count, left_out, sum, squares| NumericSums { count, left_out, sum, squares };
    for (rows, sums) in [
        (u64::MAX, of(1, 0, 0, 0)),
        (5, of(u64::MAX, 0, 0, 0)),
        (5, of(u64::MAX, 6, 0, 0)),
        (5, of(5, u64::MAX, 0, 0)),
        (5, of(5, 0, i128::MAX, i128::MAX)),
        (5, of(5, 0, i128::MIN, i128::MAX)),
        (5, of(5, 0, 0, i128::MIN)),
        (5, of(5, 0, 1 << 100, 0)),
        (5, of(0, 0, 1, 1)),
    ] {
        let refused = refusal(submit(&a, "site-a", &task, rows, sums).await);
        assert_eq!(refused, (Code::InvalidArgument, "malformed".to_owned()), "{rows} {sums:?}");
    }
    // The greatest that there may be, from both: they are pooled, and the job goes on to its rounds.
    let mut greatest = NumericSums::default();
    (0..5).for_each(|_| greatest.add(tributary_core::statistics::VALUE_MAX));
    submit(&a, "site-a", &task, 5, greatest).await.expect("the greatest of five rows");
    submit(&b, "site-b", &other, 5, greatest).await.expect("as great");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let request = v1::GetJobRequest { job: job.job_id.clone() };
        let found = jobs.get_job(request).await.expect("a job").into_inner().job.expect("a job");
        if !found.constants_digest.is_empty() {
            assert_eq!(found.status, "running", "{}", found.reason);
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// What is refused of a spec.
async fn faults_of(world: &World, spec: String) -> Status {
    let request = v1::CreateJobRequest { request_id: "x".to_owned(), spec, validate_only: false };
    let answer = JobServiceClient::new(world.admin.clone()).create_job(request).await;
    answer.expect_err("no spec")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn negative_shapes_and_those_that_overflow_are_no_spec() {
    let (world, a, task, job) = at_work().await;
    let good = spec(3, 1);
    for (from, to) in [
        ("shape = [3]", "shape = [-3]"),
        ("shape = [3]", "shape = [0]"),
        ("shape = [3]", "shape = [9223372036854775807, 9223372036854775807]"),
        ("shape = [3]", "shape = [4294967296, 4294967296, 4294967296]"),
        ("shape = [3]", "shape = [18446744073709551616]"),
        ("linear = 2", "linear = -2"),
        ("linear = 2", "linear = 9223372036854775807"),
        ("linear = 2", "linear = 4294967297"),
        ("classes = 2", "classes = -2"),
        ("batch_size = 1", "batch_size = -1"),
        ("rounds = 1", "rounds = 4294967297"),
        ("local_epochs = 1", "local_epochs = -1"),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good);
        let status = faults_of(&world, text).await;
        let refused = refusal(Err::<(), _>(status.clone()));
        assert_eq!(refused, (Code::InvalidArgument, "spec_invalid".to_owned()), "{to}");
        assert!(status.message().contains("expected"), "{to}: {}", status.message());
    }
    // On the wire a size has no sign: minus one is the largest there is, and serves no job.
    let b = world.enroll(Role::Client, "site-b").await;
    let nothing = b.poll("site-b", u32::MAX, 0).await.expect("polled");
    assert!(nothing.is_none(), "{nothing:?}");
    completes(&world, &a, &task, &job).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_that_says_a_thing_twice_is_none() {
    let world = World::start(|_| {}).await;
    let good = spec(3, 1);
    for (from, to) in [
        ("layers = [{ linear = 2 }]", "layers = [{ linear = 2, linear = 3 }]"),
        ("layers = [{ linear = 2 }]", "layers = [{ linear = 2 }]\nlayers = [{ linear = 3 }]"),
        ("[train]", "[model]\n[train]"),
        ("seed = 3", "seed = 3\nseed = 4"),
    ] {
        let status = faults_of(&world, good.replace(from, to)).await;
        assert_eq!(refusal(Err::<(), _>(status.clone())).1, "spec_invalid", "{to}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_counts_are_refused_or_bounded() {
    let (world, a, task, job) = at_work().await;
    // A part's digest for every part that 16 exabytes have, or more digests than parts.
    for (bytes, digests) in [(u64::MAX, 3), (1 << 40, 3), (96, 2000)] {
        let update = with_header(&task, |header| {
            header.bytes = bytes;
            header.part_digests = vec![vec![7; 32].into(); digests];
        });
        assert_eq!(refusal(send(&a, &update).await).0, Code::InvalidArgument, "{bytes}");
    }
    let lying: [fn(&mut v1::Statistics); 3] = [
        |wire| wire.classes = u32::MAX,
        |wire| wire.confusion = vec![0; 100_000],
        |wire| wire.scores = vec![1; 100_000],
    ];
    for change in lying {
        let mut wire = statistics();
        change(&mut wire);
        let update = with_header(&task, |header| header.statistics = Some(wire));
        assert_eq!(refusal(send(&a, &update).await).0, Code::InvalidArgument);
    }
    let binding =
        v1::Binding { name: "data".to_owned(), kind: "image".to_owned(), ..v1::Binding::default() };
    for bindings in [
        vec![binding.clone(); 65],
        vec![v1::Binding { shape: vec![1; 9], ..binding.clone() }],
        vec![v1::Binding { train_examples: (1 << 29) + 1, ..binding.clone() }],
        vec![v1::Binding { evaluate_examples: u64::MAX, ..binding }],
    ] {
        let request = v1::PollRequest {
            caller: caller("site-a"),
            protocol_version: 1,
            bindings,
            ..v1::PollRequest::default()
        };
        let answer = a.participant().poll(request).await;
        assert_eq!(refusal(answer), (Code::InvalidArgument, "malformed".to_owned()));
    }
    // Progress beyond what a column holds.
    for (progress, progress_total) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
        let (task_id, caller) = (task.task_id.clone(), caller("site-a"));
        let beat = v1::HeartbeatRequest { caller, task_id, progress, progress_total };
        let refused = refusal(a.participant().heartbeat(beat).await);
        assert_eq!(refused, (Code::InvalidArgument, "malformed".to_owned()));
    }
    let request = v1::ListAuditRequest { after_sequence: 0, page_size: u32::MAX };
    let page = world.federation().list_audit(request).await.expect("a page").into_inner();
    assert!(page.lines.len() <= 1000);
    completes(&world, &a, &task, &job).await;
}
