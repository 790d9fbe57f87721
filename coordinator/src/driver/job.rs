//! One job's pump: every pass is one transaction that moves the job as far as it goes by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_core::digest::Digest;
use tributary_core::name::JobId;
use tributary_core::round::cohort::Roster;
use tributary_core::round::step::needs_roster;
use tributary_core::round::{
    Effect, Event, JobState, JobStatus, Phase, Policy, Rejection, TaskState, step,
};

use super::fold::{Folded, fold};
use super::pool::pool;
use super::{Hub, Pause, RETRY, TICK, TICK_MAX};
use crate::failpoint::failpoint;
use crate::specs::{Spec, SpecError};
use crate::store::{JobChanges, LeaseToken, StoreError};

/// Why a pass did not come through.
#[derive(Debug, thiserror::Error)]
enum DriveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("the machine refused its own driver: {0}")]
    Refused(#[from] Rejection),
    #[error("the lease went to another replica")]
    LeaseLost,
}

/// What a pass leaves to do.
enum Next {
    /// More can happen at once.
    Again,
    /// Nothing until a bell or a tick.
    Wait,
    /// The accepted set is to be folded.
    Fold(Box<JobState>),
    /// The sites' sums are to be pooled.
    Pool(Box<JobState>),
    /// The job has ended.
    Ended,
}

/// Drives a job until it ends, its lease is lost, or `stop`.
pub(super) async fn drive(hub: Arc<Hub>, job: JobId, token: LeaseToken, stop: CancellationToken) {
    let bell = hub.wakes.job(&job);
    let mut driver = match Driver::new(hub.clone(), job.clone(), token).await {
        Ok(driver) => driver,
        Err(error) => {
            tracing::error!(%job, %error, "cannot drive this job");
            tokio::time::sleep(RETRY.1).await;
            return;
        }
    };
    let lost = CancellationToken::new();
    let renewing =
        tokio::spawn(renew(hub.clone(), job.clone(), driver.token.clone(), lost.clone()));
    let _renewing = AbortOnDropHandle::new(renewing);
    driver.halt = Some((stop.clone(), lost.clone()));
    let mut pause = Pause::new();
    while !stop.is_cancelled() && !lost.is_cancelled() {
        // Subscribe, then read: a bell that rings during the pass is heard after it.
        let rung = bell.notified();
        let wait = match driver.pass().await {
            Ok(Next::Again | Next::Fold(_) | Next::Pool(_)) => continue,
            Ok(Next::Ended) => return,
            Ok(Next::Wait) => {
                pause = Pause::new();
                TICK
            }
            Err(DriveError::LeaseLost) | Err(DriveError::Store(StoreError::Fenced { .. })) => {
                tracing::warn!(%job, "another replica drives this job now");
                return;
            }
            Err(error) => {
                let wait = pause.lengthen();
                tracing::warn!(%job, %error, retry_in = ?wait, "a pass failed; trying again");
                wait
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = lost.cancelled() => {}
            () = rung => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    if lost.is_cancelled() {
        tracing::warn!(%job, "another replica drives this job now");
        return;
    }
    if let Err(error) = hub.store.release_lease(&job, &driver.token).await {
        tracing::warn!(%job, %error, "the lease could not be handed back; it expires by itself");
    }
    hub.wakes.wake_supervisor();
}

/// Keeps the lease, whatever a pass is busy with: a fold may take longer than a lease lasts.
async fn renew(hub: Arc<Hub>, job: JobId, token: LeaseToken, lost: CancellationToken) {
    let replica = &hub.replica;
    loop {
        tokio::time::sleep(replica.lease / 3).await;
        let renewed = hub.store.renew_lease(&job, &token, replica.lock(), replica.lease).await;
        match renewed {
            Ok(true) => {}
            Ok(false) => return lost.cancel(),
            // A pass that tries to write meanwhile is fenced, should the lease be gone.
            Err(error) => tracing::warn!(%job, %error, "the lease could not be renewed yet"),
        }
    }
}

struct Driver {
    hub: Arc<Hub>,
    job: JobId,
    spec: Arc<Spec>,
    token: LeaseToken,
    ticked: Instant,
    /// Nothing has been written by this driver yet.
    fresh: bool,
    /// What ends a fold early: a stop, or the loss of the lease.
    halt: Option<(CancellationToken, CancellationToken)>,
}

impl Driver {
    async fn new(hub: Arc<Hub>, job: JobId, token: LeaseToken) -> Result<Self, DriveError> {
        let spec = hub.specs.get(&job).await?;
        let ticked = Instant::now();
        Ok(Self { hub, job, spec, token, ticked, fresh: true, halt: None })
    }

    async fn pass(&mut self) -> Result<Next, DriveError> {
        let next = self.apply(None).await?;
        match &next {
            Next::Fold(state) => {
                failpoint!("driver.fold.due");
                let folding = fold(&self.hub, &self.spec, state, &self.token);
                let Some(folded) = self.unless_halted(folding).await? else {
                    return Ok(Next::Wait);
                };
                failpoint!("driver.fold.done");
                let made = folded.checkpoint.as_ref().map(|row| (row.key.clone(), row.digest));
                let ended = matches!(self.apply(Some(folded)).await?, Next::Ended);
                if let Some((key, digest)) = made.filter(|_| ended) {
                    self.discard(&key, &digest).await;
                }
            }
            Next::Pool(state) => {
                failpoint!("sums.pool.due");
                let pooling = pool(&self.hub, &self.spec, state);
                let Some(pooled) = self.unless_halted(pooling).await? else {
                    return Ok(Next::Wait);
                };
                failpoint!("sums.pool.done");
                self.apply(Some(pooled)).await?;
            }
            Next::Again | Next::Wait | Next::Ended => {}
        }
        Ok(next)
    }

    /// The work's outcome; none at a stop: whoever drives next works on the same rows to the same bytes.
    async fn unless_halted(
        &self,
        work: impl Future<Output = Result<Folded, StoreError>>,
    ) -> Result<Option<Folded>, DriveError> {
        let Some((stop, lost)) = self.halt.clone() else { return Ok(Some(work.await?)) };
        tokio::select! {
            biased;
            done = work => Ok(Some(done?)),
            () = lost.cancelled() => Err(DriveError::LeaseLost),
            () = stop.cancelled() => Ok(None),
        }
    }

    /// One transaction: the fold's result where there is one, then as many ticks as have effect.
    async fn apply(&mut self, folded: Option<Folded>) -> Result<Next, DriveError> {
        let elapsed = self.ticked.elapsed().min(TICK_MAX);
        let started = Instant::now();
        let policy = &self.spec.policy;
        let fresh = self.fresh;
        let moved = self
            .hub
            .store
            .update_job(&self.job, Some(&self.token), needs_roster, |state, roster| {
                if fresh && is_begun(&state) {
                    failpoint!("takeover.begun");
                }
                advance(state, roster, policy, elapsed, (fresh, folded.clone()))
            })
            .await??;
        if moved.took_over {
            failpoint!("takeover.committed");
        }
        self.ticked = started;
        self.fresh = false;
        self.follow(&moved);
        Ok(moved.next)
    }

    /// Deletes what a fold made and the job did not want, because it had diverged or was ended.
    async fn discard(&self, key: &str, digest: &Digest) {
        let wanted = self.hub.store.checkpoint_by_digest(digest).await;
        if !matches!(wanted, Ok(None)) {
            return;
        }
        if let Err(error) = self.hub.blobs.delete(key).await {
            tracing::warn!(job = %self.job, key, %error, "a checkpoint that was not committed stays");
        }
    }

    /// What follows a committed pass: bells, and updates that are no longer needed.
    fn follow(&self, moved: &Moved) {
        for client in &moved.offered {
            self.hub.wakes.wake_client(client);
        }
        if moved.changed {
            self.hub.wakes.wake_watchers(&self.job);
        }
        let Some(round) = moved.committed else { return };
        tracing::info!(job = %self.job, round, "round committed");
        // The next round need not wait for it.
        self.hub.wakes.wake_collector();
    }
}

struct Moved {
    next: Next,
    changed: bool,
    /// Another driver began the job.
    took_over: bool,
    committed: Option<u32>,
    offered: Vec<tributary_core::name::ClientName>,
}

/// Takes events until nothing moves, an attempt or the pooling has ended (its last state must be
/// stored before the next one's first, which no longer has its tasks), or the fold is due.
fn advance(
    before: JobState,
    roster: Option<Roster>,
    policy: &Policy,
    elapsed: Duration,
    (fresh, folded): (bool, Option<Folded>),
) -> Result<(JobState, JobChanges, Moved), Rejection> {
    let now_ms = before.clock_ms + u64::try_from(elapsed.as_millis()).unwrap_or(0);
    let mut changes = JobChanges::default();
    let mut state = before.clone();
    let mut changed = false;
    let mut next = Next::Wait;
    if fresh {
        // Whatever the outage took, an open task has a whole lease from here on.
        state = step(&state, policy, now_ms, Event::TakenOver)?.0;
        changed = !same_but_clock(&before, &state);
    }
    let (mut event, made) = match folded {
        Some(folded) => (folded.event, folded.checkpoint),
        None => (Event::Tick { roster: roster.clone() }, None),
    };
    let mut made = made.into_iter();
    loop {
        let was_ended = is_stage_ended(&state);
        let (stepped, effects) = step(&state, policy, now_ms, event)?;
        let moved = !same_but_clock(&state, &stepped);
        state = stepped;
        changed |= moved;
        // What a diverging round made is nobody's checkpoint.
        if state.round.as_ref().is_some_and(|r| r.phase == Phase::Committed) {
            changes.checkpoints.extend(made.next());
        }
        let (mut fold_due, mut pool_due) = (false, false);
        for effect in effects {
            match effect {
                Effect::Record(line) => changes.history.push(line),
                Effect::Fold => fold_due = true,
                Effect::Pool => pool_due = true,
                Effect::WakeClients => {}
            }
        }
        if state.status.ended() {
            next = Next::Ended;
            break;
        }
        if fold_due {
            next = Next::Fold(Box::new(state.clone()));
            break;
        }
        if pool_due {
            next = Next::Pool(Box::new(state.clone()));
            break;
        }
        if !moved {
            break;
        }
        if is_stage_ended(&state) && !was_ended {
            next = Next::Again;
            break;
        }
        event = Event::Tick { roster: roster.clone() };
    }
    let took_over = fresh && is_begun(&before);
    let moved = summary(&state, next, changed, took_over);
    // Job time passes only where something waits on it; else an idle job would write for ever.
    let idle = !changed && changes.history.is_empty() && !waits_on_time(&state);
    Ok((if idle { before } else { state }, changes, moved))
}

/// Whether the job stands between two attempts, or between the pooling and the first one.
fn is_stage_ended(state: &JobState) -> bool {
    state.round.as_ref().map_or(state.constants.is_some(), |round| round.phase.ended())
}

/// Whether a driver has been there before.
fn is_begun(state: &JobState) -> bool {
    state.status != JobStatus::Submitted
}

fn summary(state: &JobState, next: Next, changed: bool, took_over: bool) -> Moved {
    let offered = state.tasks.values().filter(|t| t.state == TaskState::Offered);
    let offered = if changed { offered.map(|t| t.client.clone()).collect() } else { Vec::new() };
    let round = state.round.as_ref().filter(|r| r.phase == Phase::Committed);
    Moved {
        next,
        changed,
        took_over,
        committed: round.filter(|_| changed).map(|r| r.number),
        offered,
    }
}

fn waits_on_time(state: &JobState) -> bool {
    let training = state.round.as_ref().is_some_and(|r| r.phase == Phase::Training);
    let timed = training || state.pooling() || state.evaluation_deadline_ms.is_some();
    state.status == JobStatus::Running && timed
}

fn same_but_clock(a: &JobState, b: &JobState) -> bool {
    a.status == b.status
        && a.reason == b.reason
        && a.checkpoint == b.checkpoint
        && a.result == b.result
        && a.course == b.course
        && a.round == b.round
        && a.evaluation_deadline_ms == b.evaluation_deadline_ms
        && a.statistics_deadline_ms == b.statistics_deadline_ms
        && a.constants == b.constants
        && a.tasks == b.tasks
}
