//! The round machine: pure, replayable, and the only place that decides what happens next.
//!
//! ```text
//! job:    submitted → running ⇄ paused → completed | failed | cancelled
//! before round 1, where the spec asks for it: pooling (`statistics` tasks, round 0)
//! round:  selecting → training → aggregating → committed
//!                         └→ missed (the deadline passed with too few updates, or the job diverged)
//! task:   offered → leased → accepted | failed
//!             └────────┴→ lapsed | abandoned
//! ```
//!
//! | in | on | when | becomes |
//! |---|---|---|---|
//! | submitted | `Tick` | | running, round 1 selecting (or no round yet, where the spec asks for sums) |
//! | running, no round | `Tick` with a roster | enough are present | `statistics` tasks for all who train, pooling |
//! | pooling | `Tick` | a lease or the deadline is past | those tasks lapsed |
//! | pooling | `Tick` | nothing is open, `min_clients` answered | `Pool` |
//! | pooling | `Tick` with a roster | nothing is open, too few, time is left | offered again to lapsed ones that are back |
//! | pooling | `Tick` | nothing is open, too few, nobody is left or time is up | failed, `statistics_floor` |
//! | pooling | `Pooled` | | constants fixed; each site's sums are `pooled` |
//! | pooled, no round | `Tick` | | round 1 selecting |
//! | pooling | `PoolFailed` | | failed, `statistics_failed` |
//! | selecting | `Tick` with a roster | `min_available_clients` are present | cohort drawn, training |
//! | training | `Tick` | a lease is past | that task lapsed, a seeded replacement offered |
//! | training | `Tick` | `exact_replay`: nothing is open, somebody failed | missed |
//! | training | `Tick` | the whole cohort has been accepted | accepted set fixed, aggregating |
//! | training | `Tick` | past the deadline, `min_updates` there | accepted set fixed, aggregating |
//! | training | `Tick` | past the deadline, too few | missed; next attempt, or the job fails |
//! | training | `Tick` | more than half of a cohort said `diverged` in this attempt | missed, and the job fails |
//! | aggregating | `Folded` | | committed, with the next checkpoint |
//! | aggregating | `Folded` | [`divergence`] says so | missed, and the job fails with its last good checkpoint |
//! | aggregating | `Diverged` | | the same |
//! | aggregating | `FoldFailed` | | the job fails with its last good checkpoint |
//! | committed | `Tick` | rounds are left | next round selecting |
//! | committed | `Tick` | last round | `evaluate` tasks offered, or completed |
//! | evaluating | `Tick` | all tasks ended, or past the deadline | completed |
//! | any | `TakenOver` | | the same; open tasks have a whole lease again |
//! | any not ended | `Cancel`, `Pause`, `Resume` | | cancelled, paused, running |
//!
//! Whatever ends a round or a job gives each of its receipts an [`outcome`] in the same step.
//!
//! A task's own transitions are in [`task`]: ingest applies them to one row while the driver
//! applies [`step()`] to the whole. A [`Rejection`] is the peer's fault and has a stable code; a
//! failing store is ours and never gets here. Time is *job time*, given with each event. Weights
//! never pass through: the machine holds digests.

pub mod cohort;
pub mod divergence;
pub mod event;
pub mod outcome;
pub mod policy;
pub mod rejection;
pub mod result;
pub mod state;
pub mod step;
pub mod task;

pub use event::{Effect, Event, FoldFacts, HistoryEvent};
pub use outcome::Outcome;
pub use policy::Policy;
pub use rejection::Rejection;
pub use state::{JobState, JobStatus, Phase, RoundState};
pub use step::step;
pub use task::{Task, TaskKind, TaskState};

#[cfg(test)]
mod tests;
