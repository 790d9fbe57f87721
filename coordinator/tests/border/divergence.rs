//! Jobs that run away: which updates end one, and with what.

use std::time::Duration;

use tonic::Code;
use tributary_coordinator::blobs::Blobs;
use tributary_coordinator::store::Store;
use tributary_coordinator::verification::{self, Verdict};
use tributary_core::round::Outcome;

use super::{Update, World, world};

/// A round in which both clients send the same values.
async fn round_of(world: &World, value: f32) {
    let [a, b] = world.tasks(3).await;
    let update = Update::of(&world.spec, &[value; 8]);
    world.send(update.header("a", &a.task_id), update.all_chunks()).await.expect("a");
    world.send(update.header("b", &b.task_id), update.all_chunks()).await.expect("b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_that_grow_end_the_job_with_its_last_good_checkpoint() {
    let mut world = world(3).await;
    world.spec = world.spec.replace("rounds = 1", "rounds = 9");
    let job = world.submit().await;
    // Each within the bound of a coordinate; the last one is 160 times the median.
    for value in [0.25, 0.5, 0.125, 40.0] {
        round_of(&world, value).await;
    }
    let failed = world.comes_to(&job, "failed").await;
    assert!(failed.reason.starts_with("diverged: round 4: "), "{}", failed.reason);
    assert!(failed.reason.contains("160 times the median"), "{}", failed.reason);
    assert_eq!(failed.rounds_committed, 3);
    let (good, wild) = (world.round(&job, 3).await, world.round(&job, 4).await);
    assert_eq!((wild.phase.as_str(), wild.reason.as_str()), ("missed", "diverged"));
    assert_eq!((wild.checkpoint_out.as_str(), wild.updates), ("", 2));
    assert_eq!(failed.checkpoint_digest, good.checkpoint_out, "the last good one");
    assert!((good.update_norm - 0.125 * 8_f64.sqrt()).abs() < 1e-8, "{}", good.update_norm);
    // What the fold made is no checkpoint of anybody's.
    let orphan = format!("checkpoints/{job}/000004-01.safetensors");
    let orphan = std::path::Path::new(&world.config.blobs).join(orphan);
    for _ in 0..200 {
        if !orphan.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!orphan.exists() && orphan.with_file_name("000003-01.safetensors").exists());

    world.coordinator.stop().await.expect("stopped");
    let store = Store::open(world.config.database_url.reveal()).await.expect("store");
    let blobs = Blobs::open(&world.config).await.expect("blobs");
    let report = verification::verify(&store, &blobs, &job).await.expect("verified");
    let same: Vec<_> = (1..=4).map(|number| (number, Verdict::Same)).collect();
    assert_eq!(report.rounds, same, "the replay stops at the same round");
    assert_eq!((report.counted(), report.outcomes.get(&Outcome::Diverged)), (6, Some(&2)));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_has_a_stable_code_and_a_cohort_that_diverges_ends_the_job() {
    let world = world(3).await;
    let job = world.submit().await;
    let [a, b] = world.tasks(3).await;
    for malformed in ["Diverged", "no such", "../x", &"x".repeat(41)] {
        let refused = world.fail("a", &a, malformed).await.expect_err("no word");
        assert_eq!(refused.code(), Code::InvalidArgument, "{malformed}");
        assert!(refused.message().contains("code: expected a word"), "{refused:?}");
    }
    // A client of an earlier version says no word.
    world.fail("a", &a, "").await.expect("said");
    let c = world.poll("c", 3, 20_000).await.expect("c steps in");
    world.fail("c", &c, "diverged").await.expect("said");
    // One of two is not more than half; a fourth client steps in.
    let d = world.poll("d", 3, 20_000).await.expect("d steps in");
    assert_eq!(world.job(&job).await.status, "running");
    world.fail("b", &b, "diverged").await.expect("said");
    let failed = world.comes_to(&job, "failed").await;
    assert!(failed.reason.starts_with("diverged: round 1: "), "{}", failed.reason);
    assert!(failed.reason.contains("2 of 2") && failed.reason.contains("NaN"), "{}", failed.reason);
    let round = world.round(&job, 1).await;
    assert_eq!((round.phase.as_str(), round.reason.as_str()), ("missed", "diverged"));
    assert_eq!(round.attempt, 1, "at once, not after max_attempts");
    let code = |client: &str| {
        let task = round.tasks.iter().find(|t| t.client == client).expect("a task");
        (task.state.clone(), task.code.clone())
    };
    let word = |state: &str, code: &str| (state.to_owned(), code.to_owned());
    assert_eq!(code("a"), word("failed", "unable"));
    assert_eq!(code("b"), word("failed", "diverged"));
    assert_eq!(code("d"), word("abandoned", ""));
    let late = world.fail("d", &d, "diverged").await.expect_err("the job has ended");
    assert_eq!(late.code(), Code::FailedPrecondition);
    world.coordinator.stop().await.expect("stopped");
}
