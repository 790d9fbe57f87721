//! Why the machine refuses what a peer asks: stable codes, and what the peer should do.

use crate::digest::Digest;

/// The peer's fault. The code is stable; the text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The job has ended.
    #[error("the job is {status}: drop the work")]
    JobEnded {
        /// Its status.
        status: &'static str,
    },
    /// An operator holds the job.
    #[error("the job is paused: keep the work and ask again later")]
    JobPaused,
    /// The round no longer takes updates.
    #[error("the round is {phase}: drop the work")]
    RoundClosed {
        /// The round's phase.
        phase: &'static str,
    },
    /// The task belongs to another client.
    #[error("the task was given to another client")]
    NotYourTask,
    /// The task has ended without an update.
    #[error("the task is {state}: drop the work and poll for another")]
    TaskEnded {
        /// The task's state.
        state: &'static str,
    },
    /// A newer process of the same client holds the task.
    #[error("another process with this client's name holds the task: stop one of the two")]
    Superseded,
    /// The task has an update already; another one cannot replace it.
    #[error("the task already has the update {accepted}: adopt it")]
    AlreadyAccepted {
        /// The update that counts.
        accepted: Digest,
    },
    /// The count of examples is out of bounds.
    #[error("expected 1 to {max} examples (this round's cap), found {found}")]
    ExamplesOutOfRange {
        /// The round's cap.
        max: u64,
        /// What came.
        found: u64,
    },
    /// The event does not fit the state.
    #[error("expected a job that is {expected}, found it {found}")]
    WrongState {
        /// What the event needs.
        expected: &'static str,
        /// What is.
        found: &'static str,
    },
    /// No such task in the current round.
    #[error("no such task in the current round: drop the work and poll for another")]
    UnknownTask,
}

impl Rejection {
    /// The stable code: in receipts, events, metrics and tables.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Rejection::JobEnded { .. } => "job_ended",
            Rejection::JobPaused => "job_paused",
            Rejection::RoundClosed { .. } => "round_closed",
            Rejection::NotYourTask => "not_your_task",
            Rejection::TaskEnded { .. } => "task_ended",
            Rejection::Superseded => "superseded",
            Rejection::AlreadyAccepted { .. } => "already_accepted",
            Rejection::ExamplesOutOfRange { .. } => "examples_out_of_range",
            Rejection::WrongState { .. } => "wrong_state",
            Rejection::UnknownTask => "unknown_task",
        }
    }
}
