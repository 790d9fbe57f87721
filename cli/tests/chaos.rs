//! Rounds that cannot be lost: replicas, kills at random moments, and a kill at every failpoint.

#[path = "chaos/failpoints.rs"]
mod failpoints;
#[path = "../src/bench/chaos/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tributary_testing::Postgres;
use world::{Plan, World, spec};

fn binaries() -> PathBuf {
    let cli = Path::new(env!("CARGO_BIN_EXE_tributary"));
    cli.parent().expect("a folder").to_owned()
}

fn plan(replicas: usize) -> Plan {
    Plan { binaries: binaries(), replicas, driver_lease_s: 2 }
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
