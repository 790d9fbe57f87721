//! A run: a seed and its operations, then calm, until every job has ended; and what must be true then.

use std::cell::RefCell;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tributary_coordinator::simulation::{Rule, break_rule};
use tributary_coordinator::store::{JobRow, Store};
use tributary_coordinator::verification::verify;
use tributary_core::digest::Digest;
use tributary_core::round::{JobStatus, Task};
use tributary_outside::simulated::enter;

use crate::chance::Lent;
use crate::op::{JOBS, Op};
use crate::operator::{NAMES, Order};
use crate::world::World;

/// Behind the last operation, until what was under way has come or is lost, seconds.
const SETTLE_S: u64 = 60;
/// How long jobs may take in calm, seconds: some rounds, and the waits that grew in the trouble.
const CALM_S: u64 = 1_200;
/// More rows of rounds than a run has.
const PAGE: u32 = 1_000;

/// What came of a run.
pub(crate) struct Run {
    pub(crate) trace: Vec<String>,
    /// The waiting job's last result, where it came to its end; or the rule that did not hold.
    pub(crate) outcome: Result<Option<Digest>, String>,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of tasks are the runtime's to catch; a run that had one has failed.
fn hear_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANIC.set(Some(panic.to_string()));
            before(panic);
        }));
    });
    PANIC.set(None);
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_time().start_paused(true).build()?)
}

/// Runs these operations under a seed, with a rule broken on purpose, or with none.
pub(crate) fn run(seed: u64, ops: &[Op], broken: Option<Rule>) -> Run {
    hear_panics();
    break_rule(broken);
    let lent = Arc::new(Lent::default());
    let runtime = runtime().expect("a runtime without sockets");
    let mut run = enter(lent.clone(), || runtime.block_on(live(seed, ops, &lent)));
    // What is dropped with the runtime still runs in the simulation.
    enter(lent, || drop(runtime));
    break_rule(None);
    if let Some(panic) = PANIC.take() {
        run.outcome = Err(panic);
    }
    run
}

async fn live(seed: u64, ops: &[Op], lent: &Lent) -> Run {
    let mut world = World::start(seed, lent).expect("a world");
    for op in ops {
        world.perform(*op).await;
        if world.rules.broken().is_some() {
            break;
        }
    }
    let outcome = end(&mut world).await;
    let outcome = world.rules.broken().map_or(outcome, Err);
    Run { trace: world.chance.trace(), outcome }
}

async fn end(world: &mut World) -> Result<Option<Digest>, String> {
    world.operator.forget();
    world.calm();
    let settled = world.chance.now_ms() + SETTLE_S * 1000;
    let late = settled + CALM_S * 1000;
    let (store, blobs) = world.history();
    let mut resumed = false;
    let jobs = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Who was asked to stop has done so by now.
        world.all_run();
        if world.rules.broken().is_some() {
            return Ok(None);
        }
        let jobs = jobs(&store).await?;
        if jobs.len() == JOBS && jobs.iter().all(|job| job.status.ended()) {
            break jobs;
        }
        let now = world.chance.now_ms();
        if now >= settled && !resumed {
            (0..JOBS).for_each(|job| world.operator.order(Order::Resume, job));
            resumed = true;
        }
        if now >= late {
            return Err(format!("jobs have not ended after {CALM_S} s of calm: {}", tell(&jobs)));
        }
    };
    for (number, job) in jobs.iter().enumerate() {
        let cancelled = world.operator.has_cancelled(number);
        // Time decides nothing for the job that waits.
        let may_fail = number != 0 || world.ailed;
        ended_well(&store, job, cancelled, may_fail).await?;
        let report = verify(&store, &blobs, job.id.as_str()).await;
        let report = report.map_err(|error| format!("{} cannot be replayed: {error}", job.name))?;
        if !report.is_same() {
            return Err(format!("{} is another one when replayed: {report:?}", job.name));
        }
    }
    let waits = &jobs[0];
    Ok((waits.status == JobStatus::Completed).then_some(waits.result))
}

async fn jobs(store: &Store) -> Result<Vec<JobRow>, String> {
    let mut jobs = Vec::new();
    for name in NAMES {
        let found = store.find_job(name).await.map_err(|error| error.to_string())?;
        jobs.extend(found);
    }
    Ok(jobs)
}

fn tell(jobs: &[JobRow]) -> String {
    let tell = |job: &JobRow| format!("{} {:?} {:?}", job.name, job.status, job.current);
    jobs.iter().map(tell).collect::<Vec<_>>().join(", ")
}

/// A job ends as it may, says why, and leaves nothing open and no receipt without an outcome.
async fn ended_well(
    store: &Store,
    job: &JobRow,
    cancelled: bool,
    may_fail: bool,
) -> Result<(), String> {
    let name = &job.name;
    let allowed = match job.status {
        JobStatus::Completed => true,
        JobStatus::Cancelled => cancelled,
        JobStatus::Failed => may_fail,
        _ => false,
    };
    let says = job.status == JobStatus::Completed
        || job.reason.as_ref().is_some_and(|reason| !reason.is_empty());
    if !allowed || !says {
        return Err(format!("{name} ended as {:?} for {:?}", job.status, job.reason));
    }
    let rounds = store.rounds(&job.id, None, PAGE).await.map_err(|error| error.to_string())?;
    if let Some(open) = rounds.iter().find(|row| !row.state.phase.ended()) {
        return Err(format!("{name} ended, and left {:?}", open.state));
    }
    // Round 0 has the sites' sums.
    for number in std::iter::once(0).chain(rounds.iter().map(|row| row.state.number)) {
        let tasks = store.tasks(&job.id, number).await;
        let tasks = tasks.map_err(|error| error.to_string())?;
        if let Some(open) = tasks.iter().find(|task| task.state.open()) {
            return Err(format!("{name} ended, and left {open:?}"));
        }
        let receipts = |task: &&Task| task.accepted.is_some();
        if let Some(lost) = tasks.iter().filter(receipts).find(|task| task.outcome.is_none()) {
            return Err(format!("{name} ended, and nothing became of {lost:?}"));
        }
    }
    Ok(())
}
