//! Where blobs lie changes no byte: a bucket instead of a folder, with kills, outages, and blobs that
//! fail on purpose.

use serde_json::Value;
use tributary_testing::s3::{S3, SECRET_KEY};

use crate::world::{Plan, World, ended, spec};
use crate::{plan, postgres};

const ROUNDS: u32 = 6;

/// A plan over a server's bucket.
fn in_bucket(plan: Plan, server: &S3) -> Plan {
    Plan { env: server.env("models/a"), ..plan }
}

/// A plan whose blobs fail at a rate, and how its coordinators say so.
fn faulty(mut plan: Plan, seed: u32) -> Plan {
    plan.env.push(("TRIBUTARY_BLOB_FAULTS".to_owned(), format!("{seed}:0.1")));
    plan.env.push(("RUST_LOG".to_owned(), "info,tributary_coordinator::blobs=debug".to_owned()));
    plan
}

/// What one process over a folder comes to, undisturbed.
fn undisturbed() -> &'static [String] {
    static DIGESTS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    DIGESTS.get_or_init(|| {
        let digests = run(&World::start(plan(0)).expect("a world"));
        assert_eq!(digests.len(), ROUNDS as usize);
        digests
    })
}

fn run(world: &World) -> Vec<String> {
    let job = world.submit(&spec(ROUNDS, 2), "one").expect("submitted");
    world.finish(&job).expect("completed");
    world.digests(&job).expect("digests")
}

#[test]
fn two_replicas_over_a_bucket_come_to_the_folder_s_bytes_whoever_is_killed() {
    if !postgres() {
        return;
    }
    let server = S3::start().expect("a server");
    let plan = Plan { keep_updates: "always", ..in_bucket(plan(2), &server) };
    let mut world = World::start(plan).expect("a world");
    let job = world.submit(&spec(ROUNDS, 4), "one").expect("submitted");
    for round in 1..=3_u64 {
        world.until(&job, |job| job["rounds_committed"].as_u64() >= Some(round)).expect("moves");
        let i = round as usize % 2;
        world.replica(i).expect("running").sigkill().expect("killed");
        world.start_replica(i, &[]).expect("back");
    }
    world.finish(&job).expect("completed");
    let digests = world.digests(&job).expect("digests");
    let report = world.verify(&job).expect("verified");
    assert_eq!((&report["same"], &report["differ"]), (&ROUNDS.into(), &0.into()), "{report:#}");

    let folder = World::start(crate::plan(0)).expect("a world");
    let alone = folder.submit(&spec(ROUNDS, 4), "one").expect("submitted");
    folder.finish(&alone).expect("completed");
    assert_eq!(digests, folder.digests(&alone).expect("digests"), "against a folder");

    // An operator's tool gets the model through any replica, and nobody printed the secret.
    let to = world.folder().join("model.safetensors").display().to_string();
    let pulled = world.ask(&["model", "pull", &job, "--to", &to]).expect("a model");
    assert_eq!(pulled["digest"], world.status(&job).expect("status")["checkpoint_digest"]);
    assert!(!world.logs().contains(SECRET_KEY), "the secret is in a log");
}

#[test]
fn blobs_that_fail_on_purpose_change_no_byte_in_a_folder() {
    let world = World::start(faulty(plan(0), 7)).expect("a world");
    assert_eq!(run(&world), undisturbed());
    assert!(world.logs().contains("a fault on purpose"), "nothing failed:\n{}", world.logs());
}

#[test]
fn blobs_that_fail_on_purpose_change_no_byte_in_a_bucket() {
    let server = S3::start().expect("a server");
    let world = World::start(faulty(in_bucket(plan(0), &server), 9)).expect("a world");
    assert_eq!(run(&world), undisturbed());
    assert!(world.logs().contains("a fault on purpose"), "nothing failed:\n{}", world.logs());
}

#[test]
fn a_bucket_that_is_away_is_waited_for_and_status_says_so() {
    let mut server = S3::start().expect("a server");
    let mut world = World::start(in_bucket(plan(0), &server)).expect("a world");
    let dir = world.folder().join("failpoint");
    std::fs::create_dir(&dir).expect("a folder");
    let at = dir.display().to_string();
    world.replica(0).expect("running").sigkill().expect("killed");
    let armed =
        [("TRIBUTARY_FAILPOINT", "driver.fold.due"), ("TRIBUTARY_FAILPOINT_DIR", at.as_str())];
    world.start_replica(0, &armed).expect("armed");
    let job = world.submit(&spec(2, 1), "away").expect("submitted");
    world.until(&job, |_| dir.join("reached").exists()).expect("the fold is due");
    server.stop();
    std::fs::write(dir.join("go"), "").expect("written");
    let says = |why: &str| {
        let waits = |job: &Value| {
            let reason = job["reason"].as_str().unwrap_or_default();
            let waiting = format!("waiting to fold round 1: {why}");
            job["phase"] == "aggregating" && reason.starts_with(&waiting)
        };
        let now = world.until(&job, |job| waits(job) || ended(job)).expect("it says so");
        assert!(waits(&now), "{now:#}");
    };
    says("cannot read blob");
    // It is back, but the key is another one: that is for people to mend, and is not an outage.
    server.replace_secret("rotated").expect("back");
    says("the store does not let us read blob");
    server.replace_secret(SECRET_KEY).expect("back");
    let done = world.finish(&job).expect("completed");
    assert_eq!(done["reason"], "", "what it waited for is over");
}
