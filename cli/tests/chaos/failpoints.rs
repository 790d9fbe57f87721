//! One kill at every failpoint of the tables: of the process itself, of a replica whose work another
//! one takes up, of a client, of the database. Behind each the job comes to the bytes of an
//! undisturbed one.

use std::time::{Duration, Instant};

use tributary_client::failpoint::FAILPOINTS as CLIENT;
use tributary_coordinator::failpoint::FAILPOINTS as COORDINATOR;

use crate::world::{World, spec};
use crate::{plan, postgres};

const ROUNDS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(120);

/// The job that comes to a failpoint: those of sums are passed where the spec asks the sites for them.
fn spec_for(point: &str) -> String {
    let plain = spec(ROUNDS, 1);
    if !point.starts_with("sums.") {
        return plain;
    }
    let asks = "normalise = \"federated\"\nstatistics = { min_clients = 3 }\n[model]\n";
    plain.replace("[model]\n", asks)
}

fn digests(world: &World, key: &str) -> Vec<String> {
    let job = world.submit(&spec_for(key), key).expect("submitted");
    world.finish(&job).unwrap_or_else(|error| panic!("{key}: {error:#}"));
    world.digests(&job).expect("digests")
}

/// What undisturbed jobs come to: without sums, and with them.
struct Undisturbed([Vec<String>; 2]);

impl Undisturbed {
    fn of(world: &World) -> Self {
        let [plain, asking] = ["undisturbed", "sums.undisturbed"].map(|key| digests(world, key));
        assert_ne!(plain, asking, "the constants are in the digests");
        Self([plain, asking])
    }

    fn at(&self, point: &str) -> &[String] {
        &self.0[usize::from(point.starts_with("sums."))]
    }
}

fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "nobody came to {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets a job run into an armed process, and waits until that has fallen.
fn run_into(world: &mut World, point: &str, fallen: impl Fn(&mut World) -> anyhow::Result<bool>) {
    let _submitting = world.submit_beside(&spec_for(point), point).expect("submitted");
    wait_for(point, || fallen(world).expect("known"));
}

#[test]
fn a_coordinator_that_ends_at_any_failpoint_goes_on() {
    let mut world = World::start(plan(0)).expect("a world");
    let expected = Undisturbed::of(&world);
    for point in COORDINATOR {
        world.replica(0).expect("running").sigkill().expect("killed");
        world.start_replica(0, &[("TRIBUTARY_FAILPOINT", point)]).expect("armed");
        run_into(&mut world, point, |world| Ok(!world.replica(0)?.is_running()?));
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
        world.start_replica(falls, &[("TRIBUTARY_FAILPOINT", point)]).expect("armed");
        run_into(&mut world, point, |world| Ok(!world.replica(falls)?.is_running()?));
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
        world.start_replica(0, &armed).expect("armed");
        run_into(&mut world, point, |_| Ok(dir.join("reached").exists()));
        let postgres = world.postgres.as_ref().expect("a database");
        postgres.kill_immediate().expect("stopped");
        std::fs::write(dir.join("go"), "").expect("written");
        postgres.restart().expect("back");
        assert_eq!(digests(&world, point), expected.at(point), "the database stopped at {point}");
    }
}
