//! Processes that stand still and come back: a driver whose lease went to another, a client whose task
//! did, a client that the deadline does not wait for.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{SITES, World, spec};
use crate::{PATIENCE, Plan, plan, postgres, wait_for};

/// The replica that drives a job, by its own word.
fn driver_of(world: &mut World, job: &str) -> usize {
    let line = format!("drives this job job={job}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        for i in 0..2 {
            let lines = world.replica(i).expect("running").lines();
            if lines.iter().any(|said| said.contains(&line)) {
                return i;
            }
        }
        assert!(Instant::now() < deadline, "nobody drives {job}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn events(world: &World, job: &str) -> String {
    world.ask(&["events", job]).expect("events").to_string()
}

fn until_told(world: &World, job: &str, words: &[&str]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = events(world, job);
        if words.iter().all(|word| told.contains(word)) {
            return told;
        }
        assert!(Instant::now() < deadline, "never told {words:?}: {told}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whoever stops before it has said hello is not known, and no round would wait for it.
fn until_present(world: &World) {
    wait_for("a federation of all sites", || {
        let clients = world.ask(&["clients"]).expect("clients");
        let present = |client: &&Value| client["present"] == true;
        clients.as_array().expect("a list").iter().filter(present).count() == SITES
    });
}

/// The clients whose train tasks of round 1 are in a state.
fn clients(world: &World, job: &str, state: &str) -> Vec<usize> {
    let round = world.ask(&["round", job, "1"]).expect("a round");
    let tasks = round["tasks"].as_array().cloned().unwrap_or_default();
    let of_state = tasks.iter().filter(|t| t["kind"] == "train" && t["state"] == state);
    let site = |task: &Value| task["client"].as_str()?.strip_prefix("site-")?.parse().ok();
    of_state.filter_map(site).collect()
}

/// A job that time decides: two of the three, and a task that shows no progress goes to the third.
fn timed(rounds: u32, epochs: u32) -> String {
    spec(rounds, epochs).replace("exact_replay = true\n", "deadline_s = 120\n").replace(
        "min_train_clients = 3\nmin_updates = 3",
        "fraction_train = 0.5\nmin_train_clients = 2\nmin_updates = 2",
    )
}

#[test]
fn a_driver_that_stood_still_finds_another_one_at_its_job() {
    if !postgres() {
        return;
    }
    let mut world = World::start(Plan { driver_lease_s: 1, ..plan(2) }).expect("a world");
    let quiet = world.submit(&spec(12, 2), "quiet").expect("submitted");
    world.finish(&quiet).expect("completed");
    let expected = world.digests(&quiet).expect("digests");

    let job = world.submit(&spec(12, 2), "zombie").expect("submitted");
    world.until(&job, |job| job["rounds_committed"].as_u64() >= Some(1)).expect("begun");
    let zombie = driver_of(&mut world, &job);
    let other = 1 - zombie;
    let process = world.replica(zombie).expect("running");
    let said = process.line_count();
    process.sigstop().expect("stopped");
    let line = format!("drives this job job={job}");
    world.replica(other).expect("running").wait_for_line(&line, PATIENCE).expect("takes over");
    let process = world.replica(zombie).expect("stopped");
    process.sigcont().expect("goes on");
    let lost = "another replica drives this job now";
    process.wait_for_line_after(said, lost, PATIENCE).expect("the zombie lets go");
    world.finish(&job).expect("completed");
    assert_eq!(world.digests(&job).expect("digests"), expected);

    // Nobody can reach the replica that drives: what the other one receives, it folds.
    let job = world.submit(&spec(12, 2), "beside").expect("submitted");
    let driver = driver_of(&mut world, &job);
    let port = world.port(1 - driver);
    for client in 0..SITES {
        world.client(client).expect("running").sigkill().expect("killed");
        world.route_client(client, port).expect("routed");
        world.start_client(client, &[]).expect("back");
    }
    let process = world.replica(driver).expect("running");
    let committed = format!("round committed job={job} round=12");
    process.wait_for_line(&committed, PATIENCE).expect("the driver commits");
    world.finish(&job).expect("completed");
    assert_eq!(world.digests(&job).expect("digests"), expected);
}

#[test]
fn a_client_that_stood_still_is_replaced_and_told_so() {
    if !postgres() {
        return;
    }
    let mut world = World::start(Plan { keep_updates: "always", ..plan(1) }).expect("a world");
    // Far longer than anybody waits: whoever trains is stopped in the middle of it.
    let job = world.submit(&timed(1, 400), "zombie").expect("submitted");
    world.until(&job, |job| job["phase"] == "training").expect("training");
    let deadline = Instant::now() + PATIENCE;
    let zombie = loop {
        if let [first, _] = clients(&world, &job, "leased")[..] {
            break first;
        }
        assert!(Instant::now() < deadline, "nobody took a task");
    };
    let process = world.client(zombie).expect("running");
    let said = process.line_count();
    process.sigstop().expect("stopped");
    until_told(&world, &job, &["task_lapsed", "replacement_offered"]);
    let process = world.client(zombie).expect("stopped");
    process.sigcont().expect("goes on");
    process.wait_for_line_after(said, "task dropped", PATIENCE).expect("let go");
    world.finish(&job).expect("completed");
    let round = world.ask(&["round", &job, "1"]).expect("a round");
    assert_eq!((&round["updates"], &round["attempt"]), (&2.into(), &1.into()), "{round:#}");
    assert!(!clients(&world, &job, "accepted").contains(&zombie));
    let report = world.verify(&job).expect("verified");
    assert_eq!((&report["same"], &report["differ"]), (&1.into(), &0.into()), "{report:#}");
}

#[test]
fn a_deadline_does_not_wait_for_a_client_that_stands_still() {
    if !postgres() {
        return;
    }
    let mut world = World::start(Plan { keep_updates: "always", ..plan(1) }).expect("a world");
    let text = spec(2, 1)
        .replace("exact_replay = true\n", "deadline_s = 5\n")
        .replace("min_updates = 3", "min_updates = 2")
        .replace("lease_s = 2", "lease_s = 60");
    until_present(&world);
    world.client(0).expect("running").sigstop().expect("stopped");
    let job = world.submit(&text, "deadline").expect("submitted");
    world.finish(&job).expect("completed");
    world.client(0).expect("stopped").sigcont().expect("goes on");
    let rounds = world.ask(&["rounds", &job]).expect("rounds");
    let rounds = rounds.as_array().expect("a list");
    assert!(rounds.iter().all(|r| r["reason"] == "deadline" && r["updates"] == 2), "{rounds:#?}");
    let report = world.verify(&job).expect("verified");
    assert_eq!((&report["same"], &report["receipts_counted"]), (&2.into(), &4.into()));
}
