//! Chaos: jobs of real processes whose parts are killed at random moments, and whether every round came
//! to the bytes of an undisturbed run; and how long it took until a job moved again.

mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tributary_core::prg::Prg;

use crate::args::ChaosArgs;
use world::{Plan, SITES, World, ended, spec, two_parts};

/// Rounds of one job: short enough that a kill costs little, long enough that one lands in it.
const ROUNDS: u32 = 8;
/// Every so many jobs the model has two parts, so that kills land between an upload's parts.
const TWO_PARTS_EVERY: u32 = 4;
/// Rounds of such a job: each takes far longer.
const TWO_PARTS_ROUNDS: u32 = 3;
/// Local epochs: training takes most of a round, as it does in earnest.
const EPOCHS: u32 = 4;
/// How long a silent replica keeps its jobs in the bench.
const DRIVER_LEASE_S: u32 = 2;
/// How long a stopped process stands still: longer than its lease.
const STOPPED: Duration = Duration::from_millis(2500);
/// A job that nothing moves for so long is lost.
const LOST: Duration = Duration::from_secs(120);

/// What is done to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// A coordinator is killed and started at once.
    Coordinator,
    /// A replica is killed, and comes back once another one has moved the job on.
    Replica,
    Client,
    /// The database is stopped as by a power cut, and started at once.
    Database,
    /// A coordinator stands still for longer than its lease, and then goes on.
    ZombieCoordinator,
    ZombieClient,
}

impl Place {
    fn word(self) -> &'static str {
        match self {
            Place::Coordinator => "coordinator",
            Place::Replica => "replica",
            Place::Client => "client",
            Place::Database => "database",
            Place::ZombieCoordinator => "zombie_coordinator",
            Place::ZombieClient => "zombie_client",
        }
    }
}

/// One blow that landed, or did not.
struct Kill {
    place: Place,
    at_us: i64,
    /// From the moment the process was back (or, for a replica, was killed) until the job moved.
    moved: Duration,
}

pub(crate) fn run(args: &ChaosArgs) -> anyhow::Result<()> {
    let binaries = std::env::current_exe()?;
    let binaries = binaries.parent().context("a folder")?.to_owned();
    let sqlite = args.database == "sqlite";
    ensure!(sqlite || args.database == "postgres", "--database: expected postgres or sqlite");
    let replicas = if sqlite { 0 } else { args.replicas.max(1) as usize };
    let keep_updates = "until_commit";
    let env = Vec::new();
    let plan = Plan { binaries, replicas, driver_lease_s: DRIVER_LEASE_S, keep_updates, env };
    let mut world = World::start(plan)?;
    let small = Kind::undisturbed(&world, "small", spec(ROUNDS, EPOCHS), ROUNDS)?;
    let mut large = None;

    let mut prg = Prg::for_round(args.seed, "chaos", 0, 0);
    let (mut kills, mut equal, mut jobs, mut rounds) = (Vec::new(), 0, 0_u32, 0);
    let mut lost = Duration::ZERO;
    while kills.len() < args.kills as usize {
        let key = format!("disturbed-{jobs}");
        jobs += 1;
        if jobs.is_multiple_of(TWO_PARTS_EVERY) && large.is_none() {
            let text = two_parts(TWO_PARTS_ROUNDS, EPOCHS);
            large = Some(Kind::undisturbed(&world, "two-parts", text, TWO_PARTS_ROUNDS)?);
        }
        let kind = large.as_ref().filter(|_| jobs.is_multiple_of(TWO_PARTS_EVERY));
        let kind = kind.unwrap_or(&small);
        let began = Instant::now();
        let job = world.submit(&kind.spec, &key)?;
        let most = args.kills as usize - kills.len();
        let mut landed = disturb(&mut world, &job, kind.quiet, most, &mut prg)?;
        let done = world.finish(&job)?;
        lost += began.elapsed().saturating_sub(kind.quiet);
        let end = done["updated_at_us"].as_i64().context("a time")?;
        // Only what hit a job that was not done counts.
        landed.retain(|kill| kill.at_us < end);
        let digests = world.digests(&job)?;
        rounds += digests.len();
        if digests == kind.digests {
            equal += landed.len();
        } else {
            tracing::error!(%job, ?digests, expected = ?kind.digests, "the digests differ");
        }
        for kill in &landed {
            tracing::info!(place = kill.place.word(), moved_ms = kill.moved.as_millis(), "landed");
        }
        kills.append(&mut landed);
    }
    println!("{}", report(args, &kills, equal, (jobs, rounds), lost));
    ensure!(equal == kills.len(), "digests differ behind {} kills", kills.len() - equal);
    Ok(())
}

/// A kind of job, and what it comes to undisturbed.
struct Kind {
    spec: String,
    digests: Vec<String>,
    /// How long it takes.
    quiet: Duration,
}

impl Kind {
    /// Two runs: the first one warms up, the second says how long a job takes.
    fn undisturbed(world: &World, name: &str, spec: String, rounds: u32) -> anyhow::Result<Self> {
        let run = |number: u32| {
            let began = Instant::now();
            let job = world.submit(&spec, &format!("undisturbed-{name}-{number}"))?;
            world.finish(&job)?;
            let took = began.elapsed();
            let digests = world.digests(&job)?;
            ensure!(digests.len() == rounds as usize, "expected {rounds} rounds: {digests:?}");
            Ok((digests, took))
        };
        let (digests, _) = run(0)?;
        let (again, quiet) = run(1)?;
        ensure!(digests == again, "two undisturbed runs differ: {digests:?} and {again:?}");
        Ok(Self { spec, digests, quiet })
    }
}

/// Blows at moments drawn uniformly over what a job takes, until the job has ended or had its share.
fn disturb(
    world: &mut World,
    job: &str,
    quiet: Duration,
    most: usize,
    prg: &mut Prg,
) -> anyhow::Result<Vec<Kill>> {
    let mut kills = Vec::new();
    while kills.len() < most {
        std::thread::sleep(quiet.mul_f64(prg.unit_f64() * 0.5));
        if ended(&world.status(job)?) {
            return Ok(kills);
        }
        let mut places = vec![Place::Coordinator, Place::Client, Place::ZombieClient];
        if world.postgres.is_some() {
            places.extend([Place::Database, Place::ZombieCoordinator]);
        }
        if world.replicas() > 1 {
            places.push(Place::Replica);
        }
        let place = places[prg.below(places.len() as u64) as usize];
        kills.push(blow(world, job, place, prg)?);
    }
    Ok(kills)
}

fn blow(world: &mut World, job: &str, place: Place, prg: &mut Prg) -> anyhow::Result<Kill> {
    let replica = prg.below(world.replicas() as u64) as usize;
    let client = prg.below(SITES as u64) as usize;
    let at_us = now_us()?;
    let back = match place {
        Place::Coordinator => {
            world.replica(replica)?.sigkill()?;
            world.start_replica(replica, &[])?;
            Instant::now()
        }
        Place::Replica => {
            let killed = Instant::now();
            world.replica(replica)?.sigkill()?;
            let moved = moves(world, job, killed)?;
            world.start_replica(replica, &[])?;
            return Ok(Kill { place, at_us, moved });
        }
        Place::Client => {
            world.client(client)?.sigkill()?;
            world.start_client(client, &[])?;
            Instant::now()
        }
        Place::Database => {
            let postgres = world.postgres.as_ref().context("a database of our own")?;
            postgres.kill_immediate()?;
            postgres.restart()?;
            Instant::now()
        }
        Place::ZombieCoordinator => {
            world.replica(replica)?.sigstop()?;
            std::thread::sleep(STOPPED);
            world.replica(replica)?.sigcont()?;
            Instant::now()
        }
        Place::ZombieClient => {
            world.client(client)?.sigstop()?;
            std::thread::sleep(STOPPED);
            world.client(client)?.sigcont()?;
            Instant::now()
        }
    };
    let moved = moves(world, job, back)?;
    Ok(Kill { place, at_us, moved })
}

/// How long it takes from `since` until the job has made a durable step (or has ended).
fn moves(world: &World, job: &str, since: Instant) -> anyhow::Result<Duration> {
    let before = world.status(job)?;
    let moved = |now: &Value| ended(now) || now["updated_at_us"] != before["updated_at_us"];
    while !moved(&world.status(job)?) {
        ensure!(since.elapsed() < LOST, "the job stands still: {before:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(since.elapsed())
}

fn now_us() -> anyhow::Result<i64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_micros())?)
}

fn report(
    args: &ChaosArgs,
    kills: &[Kill],
    equal: usize,
    (jobs, rounds): (u32, usize),
    lost: Duration,
) -> Value {
    let mut by_place: BTreeMap<&str, usize> = BTreeMap::new();
    for kill in kills {
        *by_place.entry(kill.place.word()).or_default() += 1;
    }
    // A process that is back: the zombies were never gone, and a replica's work goes to another.
    let back = [Place::Coordinator, Place::Client, Place::Database];
    let of = |places: &[Place]| {
        spread(kills.iter().filter(|k| places.contains(&k.place)).map(|k| k.moved).collect())
    };
    json!({
        "bench": "chaos",
        "seed": args.seed,
        "database": args.database,
        "replicas": if args.database == "sqlite" { 1 } else { args.replicas.max(1) },
        "kills": kills.len(),
        "digests_equal": equal,
        "by_place": by_place,
        "recovery_ms": of(&back),
        "recovery_by_place_ms": {
            "coordinator": of(&[Place::Coordinator]),
            "client": of(&[Place::Client]),
            "database": of(&[Place::Database]),
        },
        "failover_ms": of(&[Place::Replica]),
        "zombie_ms": of(&[Place::ZombieCoordinator, Place::ZombieClient]),
        "lost_per_kill_ms": lost.as_millis() as u64 / kills.len().max(1) as u64,
        "jobs": jobs,
        "rounds": rounds,
        "exact_replay": true,
        "fsync": true,
        "synchronous_commit": true,
    })
}

fn spread(mut times: Vec<Duration>) -> Value {
    times.sort();
    let at = |share: f64| {
        let index = (share * times.len().saturating_sub(1) as f64).round() as usize;
        times.get(index).map(|time| time.as_secs_f64() * 1000.0)
    };
    json!({ "median": at(0.5), "p95": at(0.95), "max": at(1.0) })
}
