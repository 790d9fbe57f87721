//! Receipts: each one ends in an accepted set or with another outcome, however its job ends.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::{self, World, spec};
use crate::{Plan, plan, postgres};

/// How many tasks of a round have a receipt.
fn receipts(round: &Value) -> usize {
    let tasks = round["tasks"].as_array().expect("tasks").iter();
    tasks.filter(|task| task["state"] == "accepted").count()
}

fn only(outcome: &str, count: u32) -> BTreeMap<String, u32> {
    [(outcome.to_owned(), count)].into()
}

/// Waits until a round of a job has so many receipts.
fn until_receipts(world: &World, job: &str, count: usize) {
    let told = |_: &Value| {
        let rounds = world.ask(&["rounds", job]).expect("rounds");
        let any = rounds.as_array().is_some_and(|rounds| !rounds.is_empty());
        any && receipts(&world.ask(&["round", job, "1"]).expect("a round")) == count
    };
    world.until(job, told).expect("receipts");
}

#[test]
fn a_receipt_of_a_job_that_ends_early_says_how() {
    if !postgres() {
        return;
    }
    let mut world = World::start(Plan { keep_updates: "always", ..plan(1) }).expect("a world");
    let whole = world.submit(&spec(2, 1), "whole").expect("submitted");
    world.finish(&whole).expect("completed");
    assert_eq!(world.outcomes(&whole).expect("outcomes"), only("folded", 6));

    // One of three stands still: the other two have receipts of a round that is never whole.
    world.client(0).expect("running").sigstop().expect("stopped");
    let cut = world.submit(&spec(2, 1), "cut").expect("submitted");
    until_receipts(&world, &cut, 2);
    world.ask(&["cancel", &cut]).expect("cancelled");
    assert_eq!(world.outcomes(&cut).expect("outcomes"), only("job_cancelled", 2));

    let timed = spec(2, 1).replace("exact_replay = true\n", "deadline_s = 3\nmax_attempts = 1\n");
    let missed = world.submit(&timed, "missed").expect("submitted");
    let ended = world.until(&missed, world::ended).expect("it ends");
    assert_eq!(ended["status"], "failed", "{ended:#}");
    assert_eq!(world.outcomes(&missed).expect("outcomes"), only("job_failed", 2));
    world.client(0).expect("stopped").sigcont().expect("goes on");

    // The offline replay says the same.
    for (job, outcome, count) in [(&whole, "folded", 6), (&cut, "job_cancelled", 2)] {
        let report = world.verify(job).expect("verified");
        assert_eq!(report["outcomes"], serde_json::json!({ outcome: count }), "{report:#}");
        assert_eq!(
            (&report["receipts_open"], report["receipts_lost"].as_array().map(Vec::len)),
            (&0.into(), Some(0)),
            "{report:#}"
        );
    }
}
