//! One kill at every failpoint of the tables: of the process itself, of a replica whose work another
//! one takes up, of a client, of the database. Behind each the job comes to the bytes of an
//! undisturbed one.

use std::collections::BTreeMap;

use tributary_client::failpoint::FAILPOINTS as CLIENT;
use tributary_client::ledger::verify;
use tributary_coordinator::failpoint::FAILPOINTS as COORDINATOR;

use crate::world::{SITES, World, spec};
use crate::{plan, postgres, wait_for};

const ROUNDS: u32 = 3;

/// What a job asks of its sites besides updates, by the first word of a failpoint on its way.
const KINDS: [&str; 3] = ["plain", "sums", "evaluation"];

fn kind(point: &str) -> usize {
    let word = point.split('.').next();
    KINDS.iter().position(|kind| word == Some(kind)).unwrap_or(0)
}

/// The job that comes to a failpoint.
fn spec_for(point: &str) -> String {
    let plain = spec(ROUNDS, 1);
    match KINDS[kind(point)] {
        "sums" => {
            let asks = "normalise = \"federated\"\nstatistics = { min_clients = 3 }\n[model]\n";
            plain.replace("[model]\n", asks)
        }
        "evaluation" => plain.replace("final = false", "final = true"),
        _ => plain,
    }
}

fn digests(world: &World, key: &str) -> Vec<String> {
    let job = world.submit(&spec_for(key), key).expect("submitted");
    world.finish(&job).unwrap_or_else(|error| panic!("{key}: {error:#}"));
    ledgers_tell(world, &job, key);
    world.digests(&job).expect("digests")
}

/// What undisturbed jobs of each kind come to.
struct Undisturbed([Vec<String>; 3]);

impl Undisturbed {
    fn of(world: &World) -> Self {
        let [plain, sums, evaluation] =
            KINDS.map(|kind| digests(world, &format!("{kind}.undisturbed")));
        assert!(plain != sums && plain != evaluation, "the spec and the constants are in them");
        Self([plain, sums, evaluation])
    }

    fn at(&self, point: &str) -> &[String] {
        &self.0[kind(point)]
    }
}

/// Every update that was accepted left its site with one line in the site's ledger, and no other.
fn ledgers_tell(world: &World, job: &str, key: &str) {
    let mut lines = BTreeMap::new();
    for i in 0..SITES {
        let name = format!("site-{i}");
        let state = world.folder().join(&name).join("state");
        let verified = verify(&state, |entry| {
            if entry.what == "update" {
                *lines.entry((name.clone(), entry.task)).or_insert(0) += 1;
            }
        });
        verified.unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    let mut accepted = 0;
    for round in 1..=ROUNDS {
        let round = world.ask(&["round", job, &round.to_string()]).expect("a round");
        for task in round["tasks"].as_array().expect("tasks") {
            let text = |key: &str| task[key].as_str().unwrap_or_default().to_owned();
            if text("state") == "accepted" && text("kind") == "train" {
                let told = lines.get(&(text("client"), text("task_id")));
                assert_eq!(told, Some(&1), "{key}: lines of {task}");
                accepted += 1;
            }
        }
    }
    assert_eq!(accepted, ROUNDS as usize * SITES, "{key}");
}

/// Lets a job run into an armed process, and waits until that has fallen.
fn run_into(world: &mut World, point: &str, fallen: impl Fn(&mut World) -> anyhow::Result<bool>) {
    let _submitting = world.submit_beside(&spec_for(point), point).expect("submitted");
    wait_for(point, || fallen(world).expect("known"));
}

/// Lets an armed coordinator come to a failpoint: on the way of a job of its own, or of one that another
/// process began and left in training.
fn come_to(
    world: &mut World,
    point: &str,
    i: usize,
    armed: &[(&str, &str)],
    fallen: impl Fn(&mut World) -> anyhow::Result<bool>,
) {
    if !point.starts_with("takeover.") {
        world.start_replica(i, armed).expect("armed");
        return run_into(world, point, fallen);
    }
    world.start_replica(i, &[]).expect("begins");
    for client in 0..SITES {
        world.client(client).expect("running").sigstop().expect("stopped");
    }
    let job = world.submit(&spec_for(point), point).expect("submitted");
    world.until(&job, |job| job["phase"] == "training").expect("training");
    world.replica(i).expect("running").sigkill().expect("killed");
    // It may fall before it has said that it serves.
    let _ = world.start_replica(i, armed);
    wait_for(point, || fallen(world).expect("known"));
    for client in 0..SITES {
        world.client(client).expect("stopped").sigcont().expect("goes on");
    }
}

#[test]
fn a_coordinator_that_ends_at_any_failpoint_goes_on() {
    let mut world = World::start(plan(0)).expect("a world");
    let expected = Undisturbed::of(&world);
    for point in COORDINATOR {
        world.replica(0).expect("running").sigkill().expect("killed");
        let armed = [("TRIBUTARY_FAILPOINT", *point)];
        come_to(&mut world, point, 0, &armed, |world| Ok(!world.replica(0)?.is_running()?));
        world.start_replica(0, &[]).expect("back");
        assert_eq!(digests(&world, point), expected.at(point), "ended at {point}");
    }
}

#[test]
fn another_replica_goes_on_behind_any_failpoint() {
    if !postgres() {
        return;
    }
    let mut world = World::start(plan(2)).expect("a world");
    let expected = Undisturbed::of(&world);
    for (i, point) in COORDINATOR.iter().enumerate() {
        // One drives and falls; the other one, another replica by name, was not there before.
        let (falls, takes_up) = (i % 2, (i + 1) % 2);
        for replica in [falls, takes_up] {
            world.replica(replica).expect("known").sigkill().expect("killed");
        }
        let armed = [("TRIBUTARY_FAILPOINT", *point)];
        come_to(&mut world, point, falls, &armed, |world| {
            Ok(!world.replica(falls)?.is_running()?)
        });
        world.start_replica(takes_up, &[]).expect("started");
        assert_eq!(digests(&world, point), expected.at(point), "the other took up at {point}");
    }
}

#[test]
fn a_client_that_ends_at_any_failpoint_goes_on() {
    let mut world = World::start(plan(0)).expect("a world");
    let expected = Undisturbed::of(&world);
    for point in CLIENT {
        world.client(0).expect("running").sigkill().expect("killed");
        world.start_client(0, &[("TRIBUTARY_FAILPOINT", point)]).expect("armed");
        run_into(&mut world, point, |world| Ok(!world.client(0)?.is_running()?));
        world.start_client(0, &[]).expect("back");
        assert_eq!(digests(&world, point), expected.at(point), "ended at {point}");
    }
}

#[test]
fn a_database_that_stops_at_any_failpoint_is_waited_for() {
    if !postgres() {
        return;
    }
    let mut world = World::start(plan(1)).expect("a world");
    let expected = Undisturbed::of(&world);
    for point in COORDINATOR {
        let dir = world.folder().join(point);
        std::fs::create_dir(&dir).expect("a folder");
        let at = dir.display().to_string();
        world.replica(0).expect("running").sigkill().expect("killed");
        let armed = [("TRIBUTARY_FAILPOINT", *point), ("TRIBUTARY_FAILPOINT_DIR", at.as_str())];
        come_to(&mut world, point, 0, &armed, |_| Ok(dir.join("reached").exists()));
        let postgres = world.postgres.as_ref().expect("a database");
        postgres.kill_immediate().expect("stopped");
        std::fs::write(dir.join("go"), "").expect("written");
        postgres.restart().expect("back");
        assert_eq!(digests(&world, point), expected.at(point), "the database stopped at {point}");
    }
}
