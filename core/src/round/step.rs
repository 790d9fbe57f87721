//! One step of a job: `(state, event) → (state, effects)` or a rejection.

mod attempt;
mod close;
mod evaluation;
mod statistics;

use crate::round::event::{Effect, Event, HistoryEvent};
use crate::round::outcome::Outcome;
use crate::round::policy::Policy;
use crate::round::rejection::Rejection;
use crate::round::state::{JobState, JobStatus, Phase, RoundState};
use crate::round::task::{DIVERGED, TaskContext, TaskState};

/// Moves a job by one event at job time `now_ms` (which never runs backwards: an earlier time
/// counts as the last one seen).
///
/// A `Tick` is taken again and again until it has no effect and changes nothing; each call moves
/// at most one phase, so that every attempt's last state can be stored.
///
/// # Errors
/// A [`Rejection`] where the event does not fit; nothing changes then.
pub fn step(
    state: &JobState,
    policy: &Policy,
    now_ms: u64,
    event: Event,
) -> Result<(JobState, Vec<Effect>), Rejection> {
    let mut next = state.clone();
    next.clock_ms = next.clock_ms.max(now_ms);
    let mut moving = Moving { state: next, policy, effects: Vec::new() };
    moving.take(event)?;
    Ok((moving.state, moving.effects))
}

/// Where job and round stand, for the transitions of one task.
#[must_use]
pub fn task_context(state: &JobState, policy: &Policy) -> TaskContext {
    let (phase, round, cap) = state
        .round
        .as_ref()
        .map_or((Phase::Selecting, 0, 0), |r| (r.phase, r.number, r.cap_exponent));
    TaskContext {
        status: state.status,
        phase,
        round,
        evaluating: state.evaluation_deadline_ms.is_some(),
        pooling: state.pooling(),
        now_ms: state.clock_ms,
        lease_ms: policy.lease_ms(),
        examples_max: (1_u64 << cap.min(29)).min(policy.cohort.max_examples),
    }
}

/// Whether a `Tick` of this state would look at the roster; it need not be loaded otherwise.
#[must_use]
pub fn needs_roster(state: &JobState) -> bool {
    let phase = state.round.as_ref().map(|r| r.phase);
    match phase {
        _ if state.status != JobStatus::Running => false,
        Some(Phase::Selecting | Phase::Committed) => true,
        None if state.tasks.is_empty() => true,
        None | Some(Phase::Training) => state.tasks.values().any(|t| {
            matches!(t.state, TaskState::Failed | TaskState::Lapsed)
                || (t.state.open() && t.lease_until_ms <= state.clock_ms)
        }),
        _ => false,
    }
}

/// A job on its way from one state to the next.
struct Moving<'a> {
    state: JobState,
    policy: &'a Policy,
    effects: Vec<Effect>,
}

impl Moving<'_> {
    fn take(&mut self, event: Event) -> Result<(), Rejection> {
        match event {
            Event::Tick { roster } => {
                self.tick(roster.as_ref());
                Ok(())
            }
            Event::TakenOver => {
                self.renew_leases();
                Ok(())
            }
            Event::Task { task, client, instance, event } => {
                let context = task_context(&self.state, self.policy);
                let held = self.state.tasks.get(&task).ok_or(Rejection::UnknownTask)?;
                let moved = held.step(&context, &client, &instance, event)?;
                self.state.tasks.insert(task, moved);
                Ok(())
            }
            Event::Folded(facts) => self.commit(facts),
            Event::Diverged { reason } => {
                self.expect_phase(Phase::Aggregating)?;
                self.diverge(&reason);
                Ok(())
            }
            Event::FoldFailed { reason } => {
                self.expect_phase(Phase::Aggregating)?;
                self.fail("fold_failed", &reason);
                Ok(())
            }
            Event::Pooled { constants, rows } => self.pooled(constants, rows),
            Event::PoolFailed { reason } => {
                self.expect_pool_due()?;
                self.fail("statistics_failed", &reason);
                Ok(())
            }
            Event::Cancel { reason } => self.cancel(&reason),
            Event::Pause => self.pause(),
            Event::Resume => self.resume(),
        }
    }

    fn tick(&mut self, roster: Option<&crate::round::cohort::Roster>) {
        match self.state.status {
            JobStatus::Submitted => {
                self.state.status = JobStatus::Running;
                if self.policy.statistics.is_none() {
                    self.open_attempt(1, 1);
                }
                self.record("job_started", String::new());
            }
            JobStatus::Running if self.state.evaluation_deadline_ms.is_some() => {
                self.tick_evaluation();
            }
            JobStatus::Running => match self.state.round.as_ref().map(|r| r.phase) {
                None => self.tick_no_round(roster),
                Some(Phase::Selecting) => self.tick_selecting(roster),
                Some(Phase::Training) => self.tick_training(roster),
                Some(Phase::Aggregating) => self.effects.push(Effect::Fold),
                Some(Phase::Missed) => self.after_missed(),
                Some(Phase::Committed) => self.after_committed(roster),
            },
            _ => {}
        }
    }

    fn open_attempt(&mut self, number: u32, attempt: u32) {
        if attempt == 1 {
            self.state.tasks.clear();
        }
        let now = self.state.clock_ms;
        let checkpoint = self.state.checkpoint;
        self.state.round = Some(RoundState::selecting(number, attempt, checkpoint, now));
    }

    fn after_committed(&mut self, roster: Option<&crate::round::cohort::Roster>) {
        let number = self.state.round.as_ref().map_or(0, |r| r.number);
        if number < self.policy.rounds {
            self.open_attempt(number + 1, 1);
        } else if !self.policy.final_evaluation {
            self.complete();
        } else if let Some(roster) = roster {
            self.open_evaluation(roster);
        }
    }

    fn complete(&mut self) {
        self.state.status = JobStatus::Completed;
        self.state.evaluation_deadline_ms = None;
        self.state.settle(Outcome::Scored);
        let checkpoint = self.state.checkpoint.to_string();
        self.record("job_completed", checkpoint);
        self.effects.push(Effect::WakeClients);
    }

    /// Ends the job; its last good checkpoint stands.
    fn fail(&mut self, code: &'static str, why: &str) {
        let outcome = if code == DIVERGED { Outcome::Diverged } else { Outcome::JobFailed };
        self.end(JobStatus::Failed, outcome, format!("{code}: {why}"));
        let detail = self.state.reason.clone().unwrap_or_default();
        self.record("job_failed", detail);
    }

    /// Ends the job because its model runs away; what the round would have made is not committed.
    fn diverge(&mut self, why: &str) {
        let now = self.state.clock_ms;
        let Some(round) = &mut self.state.round else { return };
        round.phase = Phase::Missed;
        round.reason = Some(DIVERGED.to_owned());
        round.closed_ms = round.closed_ms.or(Some(now));
        let why = format!("round {}: {why}", round.number);
        self.fail(DIVERGED, &why);
    }

    fn end(&mut self, status: JobStatus, outcome: Outcome, reason: String) {
        self.state.status = status;
        self.state.reason = Some(reason);
        self.state.evaluation_deadline_ms = None;
        self.state.statistics_deadline_ms = None;
        self.abandon_open("job_ended");
        self.state.settle(outcome);
        if let Some(round) = self.state.round.as_mut().filter(|r| !r.phase.ended()) {
            round.phase = Phase::Missed;
            round.reason = Some("job_ended".to_owned());
            round.closed_ms = Some(self.state.clock_ms);
        }
        self.effects.push(Effect::WakeClients);
    }

    fn cancel(&mut self, reason: &str) -> Result<(), Rejection> {
        self.expect_not_ended()?;
        self.end(JobStatus::Cancelled, Outcome::JobCancelled, format!("cancelled: {reason}"));
        self.record("job_cancelled", reason.to_owned());
        Ok(())
    }

    fn pause(&mut self) -> Result<(), Rejection> {
        if self.state.status != JobStatus::Running {
            return Err(self.wrong("running"));
        }
        self.state.status = JobStatus::Paused;
        self.record("job_paused", String::new());
        self.effects.push(Effect::WakeClients);
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Rejection> {
        if self.state.status != JobStatus::Paused {
            return Err(self.wrong("paused"));
        }
        self.state.status = JobStatus::Running;
        // Clients were let go at the pause, and come back when they next ask.
        self.renew_leases();
        self.record("job_resumed", String::new());
        self.effects.push(Effect::WakeClients);
        Ok(())
    }

    /// Open tasks get a whole lease from now on: nobody could show progress while no driver was there.
    fn renew_leases(&mut self) {
        let until = self.state.clock_ms.saturating_add(self.policy.lease_ms());
        for task in self.state.tasks.values_mut().filter(|t| t.state.open()) {
            task.lease_until_ms = task.lease_until_ms.max(until);
        }
    }

    fn abandon_open(&mut self, reason: &str) {
        for task in self.state.tasks.values_mut().filter(|t| t.state.open()) {
            task.state = TaskState::Abandoned;
            task.reason = Some(reason.to_owned());
        }
    }

    fn expect_phase(&self, phase: Phase) -> Result<(), Rejection> {
        self.expect_not_ended()?;
        match self.state.round.as_ref().map(|r| r.phase) {
            Some(found) if found == phase => Ok(()),
            found => Err(Rejection::WrongState {
                expected: phase.word(),
                found: found.map_or("not started", Phase::word),
            }),
        }
    }

    fn expect_not_ended(&self) -> Result<(), Rejection> {
        let status = self.state.status;
        if status.ended() {
            return Err(Rejection::JobEnded { status: status.word() });
        }
        Ok(())
    }

    fn wrong(&self, expected: &'static str) -> Rejection {
        Rejection::WrongState { expected, found: self.state.status.word() }
    }

    fn record(&mut self, kind: &'static str, detail: String) {
        self.record_of(kind, None, detail);
    }

    fn record_of(
        &mut self,
        kind: &'static str,
        client: Option<crate::name::ClientName>,
        detail: String,
    ) {
        let (round, attempt) = self.state.round.as_ref().map_or((0, 0), |r| (r.number, r.attempt));
        self.effects.push(Effect::Record(HistoryEvent { kind, round, attempt, client, detail }));
    }
}
