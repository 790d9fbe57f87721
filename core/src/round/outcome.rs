//! What became of a receipt: each accepted result ends in exactly one of these, in the step that ends
//! its round or its job.
//!
//! | outcome | of | when |
//! |---|---|---|
//! | `folded` | an update | its round was committed: it is in the accepted set |
//! | `pooled` | a site's sums | the constants were fixed |
//! | `scored` | an evaluation's statistics | the job was completed |
//! | `job_cancelled` | any | an operator ended the job first |
//! | `job_failed` | any | the job failed first |
//! | `diverged` | any | the job ended because its model ran away |
//!
//! Until then there is none, and an attempt that is missed gives none: the next attempt keeps what was
//! accepted. What is not accepted has no receipt, and is answered with a [`Rejection`](super::Rejection).

use serde::{Deserialize, Serialize};

use super::state::{JobState, words};

/// What became of an accepted result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It is part of the round's checkpoint.
    Folded,
    /// It is part of the job's constants.
    Pooled,
    /// It is part of the job's final scores.
    Scored,
    /// The job was cancelled before it counted.
    JobCancelled,
    /// The job failed before it counted.
    JobFailed,
    /// The job diverged before it counted, or because of it.
    Diverged,
}

words!(Outcome: Folded = "folded", Pooled = "pooled", Scored = "scored",
    JobCancelled = "job_cancelled", JobFailed = "job_failed", Diverged = "diverged");

impl JobState {
    /// Gives every accepted result that has no outcome yet this one.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        for task in self.tasks.values_mut().filter(|task| task.accepted.is_some()) {
            task.outcome.get_or_insert(outcome);
        }
    }
}
