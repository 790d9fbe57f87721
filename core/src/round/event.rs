//! What moves the machine, and what it asks of the world.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::metrics::Statistics;
use crate::name::{ClientName, TaskId};
use crate::round::cohort::Roster;
use crate::round::task::TaskEvent;

/// What the fold of a round gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldFacts {
    /// The next checkpoint.
    pub checkpoint_out: Digest,
    /// Its length in bytes.
    pub checkpoint_bytes: u64,
    /// Σn, the examples that the mean was taken over.
    pub examples: u64,
    /// The clients' statistics of their last local epoch, added up.
    pub statistics: Statistics,
    /// Bytes of accepted updates.
    pub bytes_up: u64,
    /// Bytes of checkpoints given to the clients that took a task.
    pub bytes_down: u64,
    /// The norm of the mean update, in units of 1 ⁄ [`super::divergence::NORM_ONE`].
    pub update_norm: u64,
    /// The loss of the median client, in units of 1 ⁄ [`crate::metrics::LOSS_ONE`].
    pub median_loss: Option<i64>,
    /// How long the fold took, for people; it enters no digest.
    pub fold_ms: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time went on, or something may have changed. The roster is needed only to select and to
    /// replace; without it the machine waits.
    Tick {
        /// Who is enrolled and bound to the job's data.
        roster: Option<Roster>,
    },
    /// A driver begins, after however long an outage.
    TakenOver,
    /// A client did something with its task.
    Task {
        /// The task.
        task: TaskId,
        /// The client that says so.
        client: ClientName,
        /// Its process.
        instance: String,
        /// What it did.
        event: TaskEvent,
    },
    /// The accepted set has been folded and the checkpoint is durable.
    Folded(FoldFacts),
    /// The fold came to values that are no numbers.
    Diverged {
        /// Which.
        reason: String,
    },
    /// The fold cannot be done, now or ever.
    FoldFailed {
        /// Why.
        reason: String,
    },
    /// The sites' sums have been pooled and the constants are durable.
    Pooled {
        /// The constants.
        constants: Digest,
        /// Rows of all sites, for people.
        rows: u64,
    },
    /// The sums do not give the constants, now or ever.
    PoolFailed {
        /// Why.
        reason: String,
    },
    /// An operator ends the job.
    Cancel {
        /// Why, in the operator's words.
        reason: String,
    },
    /// An operator holds the job.
    Pause,
    /// An operator lets the job go on.
    Resume,
}

/// What the driver must do or record besides storing the new state.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Fold the accepted set of the current round, then feed back `Folded` or `FoldFailed`.
    Fold,
    /// Pool the sites' accepted sums, then feed back `Pooled` or `PoolFailed`.
    Pool,
    /// Tasks were offered or withdrawn: answer waiting polls.
    WakeClients,
    /// Append to the job's history.
    Record(HistoryEvent),
}

/// One line of a job's append-only history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEvent {
    /// A stable word: `round_committed`, `task_lapsed`, …
    pub kind: &'static str,
    /// The round, 0 where none.
    pub round: u32,
    /// The attempt, 0 where none.
    pub attempt: u32,
    /// The client, where one is meant.
    pub client: Option<ClientName>,
    /// The facts, as short text.
    pub detail: String,
}
