//! Rounds that cannot be lost: replicas, kills at random moments, and a kill at every failpoint.

#[path = "chaos/failpoints.rs"]
mod failpoints;
#[path = "chaos/receipts.rs"]
mod receipts;
#[path = "chaos/slow.rs"]
mod slow;
#[path = "chaos/storage.rs"]
mod storage;
#[path = "../src/bench/chaos/world.rs"]
mod world;
#[path = "chaos/zombies.rs"]
mod zombies;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tributary_testing::Postgres;
use world::{Plan, World, spec};

/// How long something may take that is looked for: far more than on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Looks until something is so.
fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "nobody came to {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn binaries() -> PathBuf {
    let cli = Path::new(env!("CARGO_BIN_EXE_tributary"));
    cli.parent().expect("a folder").to_owned()
}

fn plan(replicas: usize) -> Plan {
    let binaries = binaries();
    Plan { binaries, replicas, driver_lease_s: 2, keep_updates: "until_commit", env: Vec::new() }
}

/// Whether there is a Postgres; where there is none, it has said SKIP.
fn postgres() -> bool {
    Postgres::start_own().expect("postgres").is_some()
}

fn bench(args: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    let output = command.args(["bench", "chaos"]).args(args).output().expect("the bench");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("text");
    let line = text.lines().last().expect("a line");
    let report: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(report["digests_equal"], report["kills"], "{report:#}\n{said}");
    report
}

#[test]
fn kills_at_random_moments_change_no_byte_on_replicas() {
    if !postgres() {
        return;
    }
    let report = bench(&["--kills", "8", "--seed", "3", "--replicas", "2"]);
    assert!(report["kills"].as_u64() >= Some(8), "{report:#}");
}

#[test]
fn kills_at_random_moments_change_no_byte_on_sqlite() {
    let report = bench(&["--kills", "4", "--seed", "5", "--database", "sqlite"]);
    assert!(report["kills"].as_u64() >= Some(4), "{report:#}");
}

#[test]
fn one_two_and_four_replicas_give_the_same_bytes() {
    if !postgres() {
        return;
    }
    let run = |replicas| {
        let world = World::start(plan(replicas)).expect("a world");
        let job = world.submit(&spec(4, 2), "replicas").expect("submitted");
        world.finish(&job).expect("completed");
        world.digests(&job).expect("digests")
    };
    let alone = run(0);
    assert_eq!(alone.len(), 4);
    for replicas in [1, 2, 4] {
        assert_eq!(run(replicas), alone, "{replicas} replicas, against one process with SQLite");
    }
}

#[test]
fn a_clean_stop_hands_the_job_over() {
    if !postgres() {
        return;
    }
    // A lease that outlasts the test: only a hand-over lets the job go on.
    let plan = Plan { driver_lease_s: 600, ..plan(2) };
    let mut world = World::start(plan).expect("a world");
    let job = world.submit(&spec(12, 4), "handover").expect("submitted");
    world.until(&job, |job| job["rounds_committed"].as_u64() >= Some(1)).expect("begun");
    for replica in [0, 1] {
        let process = world.replica(replica).expect("running");
        process.sigterm().expect("asked");
        World::await_end(process).expect("a clean stop");
        let committed = world.status(&job).expect("the other answers")["rounds_committed"].clone();
        let moved = |now: &Value| now["rounds_committed"] != committed || world::ended(now);
        world.until(&job, moved).expect("the other one drives");
        world.start_replica(replica, &[]).expect("back");
    }
    world.finish(&job).expect("completed");
}

#[test]
fn what_time_decided_is_recomputed_from_the_record() {
    if !postgres() {
        return;
    }
    let plan = Plan { keep_updates: "always", ..plan(2) };
    let mut world = World::start(plan).expect("a world");
    // Two of three count: whoever is slow, or killed, is not waited for.
    let timed = spec(6, 2)
        .replace("exact_replay = true\n", "over_selection = 1.5\ndeadline_s = 30\n")
        .replace(
            "min_train_clients = 3\nmin_updates = 3",
            "fraction_train = 0.5\nmin_train_clients = 2\nmin_updates = 2",
        );
    let job = world.submit(&timed, "timed").expect("submitted");
    for round in 1..=3_u64 {
        world.until(&job, |job| job["rounds_committed"].as_u64() >= Some(round)).expect("moves");
        let i = round as usize % 2;
        world.replica(i).expect("running").sigkill().expect("killed");
        world.start_replica(i, &[]).expect("back");
        world.client(i).expect("running").sigkill().expect("killed");
        world.start_client(i, &[]).expect("back");
    }
    world.finish(&job).expect("completed");
    let rounds = world.ask(&["rounds", &job]).expect("rounds");
    assert!(rounds.as_array().expect("a list").iter().all(|r| r["reason"] == "complete"));
    let report = world.verify(&job).expect("verified");
    assert_eq!(report["same"], 6, "{report:#}");
    assert_eq!((&report["differ"], &report["receipts_unused"]), (&0.into(), &0.into()));
    assert_eq!(report["outcomes"]["folded"], report["receipts_counted"], "{report:#}");
    assert!(report["receipts_counted"].as_u64() >= Some(12), "{report:#}");
    // A single other bit is noticed.
    let part = world.accepted_part(&job, 1).expect("an update");
    let mut bytes = std::fs::read(&part).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&part, bytes).expect("written");
    let report = world.verify(&job).expect("verified");
    assert_eq!((&report["same"], &report["differ"]), (&5.into(), &1.into()), "{report:#}");
}

#[test]
fn an_outage_longer_than_deadline_and_lease_costs_nothing_but_time() {
    let mut world = World::start(plan(0)).expect("a world");
    // Deadline and lease are shorter than the outage, and one try is all there is.
    let tight = spec(2, 10).replace("exact_replay = true\n", "deadline_s = 5\nmax_attempts = 1\n");
    let job = world.submit(&tight, "outage").expect("submitted");
    world.until(&job, |job| job["phase"] == "training").expect("training");
    world.replica(0).expect("running").sigkill().expect("killed");
    for client in 0..world::SITES {
        world.client(client).expect("running").sigkill().expect("killed");
    }
    std::thread::sleep(Duration::from_secs(6));
    world.start_replica(0, &[]).expect("back");
    for client in 0..world::SITES {
        world.start_client(client, &[]).expect("back");
    }
    world.finish(&job).expect("completed");
    let events = world.ask(&["events", &job]).expect("events").to_string();
    assert!(!events.contains("task_lapsed") && !events.contains("attempt_missed"), "{events}");
}

#[test]
fn a_lost_hint_is_found_by_the_next_look() {
    if !postgres() {
        return;
    }
    let mut world = World::start(plan(2)).expect("a world");
    for replica in [0, 1] {
        world.replica(replica).expect("running").sigkill().expect("killed");
        world.start_replica(replica, &[("TRIBUTARY_LOSE_HINTS", "1")]).expect("deaf");
    }
    // Each asks its own first address again: they moved while the replicas were away.
    for client in 0..world::SITES {
        world.client(client).expect("running").sigkill().expect("killed");
        world.start_client(client, &[]).expect("back");
    }
    // Whoever polls at the replica that does not drive hears of nothing: without the look its task
    // would lapse, because a poll waits far longer than a lease lasts.
    let timed =
        spec(3, 1).replace("exact_replay = true\n", "").replace("lease_s = 2", "lease_s = 5");
    let job = world.submit(&timed, "deaf").expect("submitted");
    world.finish(&job).expect("completed");
    let events = world.ask(&["events", &job]).expect("events").to_string();
    assert!(!events.contains("task_lapsed"), "{events}");
}

#[test]
fn two_jobs_share_the_clients() {
    let world = World::start(plan(0)).expect("a world");
    let second = spec(6, 2).replace("seed = 11", "seed = 12");
    let a = world.submit(&spec(6, 2), "a").expect("submitted");
    let b = world.submit(&second, "b").expect("submitted");
    world.finish(&a).expect("completed");
    // By the time that the first one ends, the second one has all but ended as well.
    let b_now = world.status(&b).expect("status");
    assert!(b_now["rounds_committed"].as_u64() >= Some(4), "{b_now:#}");
    world.finish(&b).expect("completed");
}

#[test]
fn a_job_that_diverges_stops_with_its_last_good_checkpoint() {
    let world = World::start(plan(0)).expect("a world");
    let wild = spec(50, 2)
        .replace("learning_rate = 0.05", "learning_rate = 1000.0")
        .replace("exact_replay = true\n", "max_attempts = 1000\n");
    let job = world.submit(&wild, "wild").expect("submitted");
    let ended = world.until(&job, world::ended).expect("it ends");
    assert_eq!(ended["status"], "failed", "{ended:#}");
    let reason = ended["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("diverged: round ") && reason.contains("site-"), "{reason}");
    // Every outcome has its word: the round's, the tasks' and the receipts'.
    let receipts = world.outcomes(&job).expect("outcomes");
    assert!(receipts.keys().all(|word| word == "folded" || word == "diverged"), "{receipts:?}");
    let rounds = world.ask(&["rounds", &job]).expect("rounds");
    let last = rounds.as_array().and_then(|rounds| rounds.last()).expect("a round");
    assert_eq!((&last["phase"], &last["reason"]), (&"missed".into(), &"diverged".into()));
    let round = world.ask(&["round", &job, &last["number"].to_string()]).expect("the round");
    let tasks = round["tasks"].as_array().expect("tasks").iter();
    let diverged = tasks.filter(|t| t["state"] == "failed" && t["code"] == "diverged").count();
    assert!(diverged >= 2, "more than half of three: {round:#}");
    let to = world.folder().join("model.safetensors").display().to_string();
    let pulled = world.ask(&["model", "pull", &job, "--to", &to]).expect("a model");
    assert_eq!(pulled["digest"], ended["checkpoint_digest"]);
    let bytes = std::fs::read(&to).expect("read");
    let model = tributary_core::checkpoint::decode(&bytes).expect("safetensors");
    assert!(model.values().iter().all(|value| value.is_finite()));
}

#[test]
fn a_held_job_lets_go_of_its_clients_and_takes_them_again() {
    let world = World::start(plan(0)).expect("a world");
    let job = world.submit(&spec(3, 40), "held").expect("submitted");
    let training = world.until(&job, |job| job["phase"] == "training").expect("training");
    let reason = training["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("waiting for site-"), "{reason}");
    world.ask(&["pause", &job]).expect("held");
    // What they train is no longer wanted: another job has them, although the first is not done.
    let other = spec(2, 1).replace("seed = 11", "seed = 13");
    let other = world.submit(&other, "between").expect("submitted");
    world.finish(&other).expect("completed");
    let held = world.status(&job).expect("status");
    assert_eq!(held["status"], "paused", "{held:#}");
    world.ask(&["resume", &job]).expect("goes on");
    world.finish(&job).expect("completed");
}
