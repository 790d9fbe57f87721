//! One client's task and its own transitions: take, heartbeat, accept, fail.
//!
//! Ingest applies these to one row, on any replica, while the driver steps the whole round. They
//! need to know no more than where the job and the round stand.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::instance::{Relation, relation};
use crate::name::{ClientName, TaskId};
use crate::round::outcome::Outcome;
use crate::round::rejection::Rejection;
use crate::round::state::{JobStatus, Phase, words};

/// What a client is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TaskKind {
    /// Train from the round's checkpoint and send an update.
    Train,
    /// Score the last checkpoint on held-out data and send statistics.
    Evaluate,
    /// Sum the rows to train on, before round 1.
    Statistics,
}

words!(TaskKind: Train = "train", Evaluate = "evaluate", Statistics = "statistics");

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TaskState {
    /// Drawn; the client has not asked yet.
    Offered,
    /// The client works on it.
    Leased,
    /// Its result is durable and counted.
    Accepted,
    /// The client said that it cannot.
    Failed,
    /// No progress within the lease.
    Lapsed,
    /// The round closed, or the job ended, without it.
    Abandoned,
}

words!(TaskState: Offered = "offered", Leased = "leased", Accepted = "accepted",
    Failed = "failed", Lapsed = "lapsed", Abandoned = "abandoned");

impl TaskState {
    /// Whether a result may still come.
    #[must_use]
    pub fn open(self) -> bool {
        matches!(self, TaskState::Offered | TaskState::Leased)
    }
}

/// The result that was accepted for a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The update's digest; for an evaluation the digest of its statistics, else that of the sums.
    pub digest: Digest,
    /// How many examples (rows) it stands for.
    pub examples: u64,
}

/// One client's task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its identity.
    pub id: TaskId,
    /// What is asked.
    pub kind: TaskKind,
    /// Of which round; an evaluation belongs to the round that made the checkpoint, and statistics to
    /// round 0.
    pub round: u32,
    /// In which attempt it was offered.
    pub attempt: u32,
    /// To whom.
    pub client: ClientName,
    /// Where it stands.
    pub state: TaskState,
    /// Job time at which it lapses without further progress.
    pub lease_until_ms: u64,
    /// The client's process that holds it.
    pub instance: Option<String>,
    /// How far the client says it is, in steps of its own; only growth extends the lease.
    pub progress: u64,
    /// Of how many steps.
    pub progress_total: u64,
    /// The result that counts.
    pub accepted: Option<Accepted>,
    /// What became of that result; none while its round or job goes on.
    pub outcome: Option<Outcome>,
    /// Why it failed, as a stable word: [`UNABLE`], [`DIVERGED`], a refused update's reason, …
    pub code: Option<String>,
    /// Why it failed, for people.
    pub reason: Option<String>,
}

/// The code of a client that cannot do a task, for whatever reason.
pub const UNABLE: &str = "unable";
/// The code of a task whose job the client's site refuses.
pub const REFUSED_BY_SITE: &str = "refused_by_site";
/// The code of training that runs away: a loss or values that are no numbers, or too large.
pub const DIVERGED: &str = "diverged";
/// The code of the open tasks of a client that was revoked.
pub const REVOKED: &str = "revoked";

/// Where job and round stand while one of their tasks moves.
#[derive(Debug, Clone, Copy)]
pub struct TaskContext {
    /// The job's status.
    pub status: JobStatus,
    /// The phase of the current attempt, and which round it is.
    pub phase: Phase,
    /// The number of the current round.
    pub round: u32,
    /// Whether the final evaluation is open.
    pub evaluating: bool,
    /// Whether sums of sites are collected.
    pub pooling: bool,
    /// Job time.
    pub now_ms: u64,
    /// How long a lease lasts.
    pub lease_ms: u64,
    /// The round's cap: no update counts for more examples.
    pub examples_max: u64,
}

/// What a client does with its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEvent {
    /// It asked, and gets the task (again).
    Take,
    /// It lives, and says how far it is.
    Heartbeat {
        /// Steps done.
        progress: u64,
        /// Of how many.
        total: u64,
    },
    /// Its result has been checked and is durable.
    Accept(Accepted),
    /// It cannot do the task.
    Fail {
        /// Why, as a stable word.
        code: String,
        /// Why, in the client's words.
        reason: String,
    },
}

/// Longest reason that is kept of a client's failure.
const REASON_CHARS_MAX: usize = 500;

impl Task {
    /// A task as offered.
    #[must_use]
    pub fn offered(
        id: TaskId,
        kind: TaskKind,
        (round, attempt): (u32, u32),
        client: ClientName,
        lease_until_ms: u64,
    ) -> Self {
        Self {
            id,
            kind,
            round,
            attempt,
            client,
            state: TaskState::Offered,
            lease_until_ms,
            instance: None,
            progress: 0,
            progress_total: 0,
            accepted: None,
            outcome: None,
            code: None,
            reason: None,
        }
    }

    /// The task after an event of `client`'s process `instance`.
    ///
    /// A result that was accepted before is accepted again (the same receipt); another one for the
    /// same task is rejected and names the one that counts.
    ///
    /// # Errors
    /// A [`Rejection`] where the event does not fit; the task is unchanged then.
    pub fn step(
        &self,
        context: &TaskContext,
        client: &ClientName,
        instance: &str,
        event: TaskEvent,
    ) -> Result<Task, Rejection> {
        if self.client != *client {
            return Err(Rejection::NotYourTask);
        }
        // A receipt stands, whatever happened since.
        if let (Some(accepted), TaskEvent::Accept(again)) = (&self.accepted, &event) {
            return if accepted.digest == again.digest {
                Ok(self.clone())
            } else {
                Err(Rejection::AlreadyAccepted { accepted: accepted.digest })
            };
        }
        self.check_open(context)?;
        // A finished update is the client's, whichever of its processes sends it: the one that made
        // it may be dead. Anything else is for the process that took the task last.
        let holds = self.instance.as_deref().is_none_or(|held| held == instance);
        if !holds && !matches!(event, TaskEvent::Take | TaskEvent::Accept(_)) {
            return Err(Rejection::Superseded);
        }
        // A poll of a process that was killed may wait on at the coordinator: it takes nothing from the
        // one that was started after it.
        let earlier = |held: &str| relation(instance, held) == Relation::Restarted;
        if event == TaskEvent::Take && self.instance.as_deref().is_some_and(earlier) {
            return Err(Rejection::Superseded);
        }
        let mut task = self.clone();
        let lease_until_ms = context.now_ms.saturating_add(context.lease_ms);
        match event {
            TaskEvent::Take => {
                task.state = TaskState::Leased;
                if !holds || task.instance.is_none() {
                    task.instance = Some(instance.to_owned());
                    task.progress = 0;
                    task.lease_until_ms = lease_until_ms;
                }
            }
            TaskEvent::Heartbeat { progress, total } => {
                if progress > task.progress {
                    task.progress = progress;
                    task.lease_until_ms = lease_until_ms;
                }
                task.progress_total = total;
                task.state = TaskState::Leased;
            }
            TaskEvent::Accept(accepted) => {
                check_examples(accepted.examples, context.examples_max, self.kind)?;
                task.accepted = Some(accepted);
                task.state = TaskState::Accepted;
            }
            TaskEvent::Fail { code, reason } => {
                task.code = Some(code);
                // It is shown on terminals: no escapes of a peer's.
                let printable = reason.chars().filter(|c| !c.is_control());
                task.reason = Some(printable.take(REASON_CHARS_MAX).collect());
                task.state = TaskState::Failed;
            }
        }
        Ok(task)
    }

    fn check_open(&self, context: &TaskContext) -> Result<(), Rejection> {
        if context.status.ended() {
            return Err(Rejection::JobEnded { status: context.status.word() });
        }
        if context.status == JobStatus::Paused {
            return Err(Rejection::JobPaused);
        }
        let round_open = match self.kind {
            TaskKind::Train => context.phase == Phase::Training && context.round == self.round,
            TaskKind::Evaluate => context.evaluating,
            TaskKind::Statistics => context.pooling,
        };
        if !round_open {
            return Err(Rejection::RoundClosed { phase: context.phase.word() });
        }
        if !self.state.open() {
            return Err(Rejection::TaskEnded { state: self.state.word() });
        }
        Ok(())
    }
}

fn check_examples(found: u64, max: u64, kind: TaskKind) -> Result<(), Rejection> {
    let least = u64::from(kind == TaskKind::Train);
    if kind == TaskKind::Train && !(least..=max).contains(&found) {
        return Err(Rejection::ExamplesOutOfRange { max, found });
    }
    Ok(())
}
