//! Which failpoints stand before and after a commit.

use tributary_core::round::{JobState, Phase, TaskKind};

/// Those of a job's new phase, or of another stage that it comes to.
pub(super) fn of_job(before: &JobState, after: &JobState) -> [&'static str; 2] {
    let phase = |state: &JobState| state.round.as_ref().map(|r| (r.number, r.attempt, r.phase));
    let opens = |open: fn(&JobState) -> bool| open(after) && !open(before);
    if opens(|state| state.status.ended()) {
        return ["job.ended.staged", "job.ended.committed"];
    }
    if opens(JobState::pooling) {
        return ["sums.job.staged", "sums.job.committed"];
    }
    if opens(|state| state.constants.is_some()) {
        return ["sums.pooled.staged", "sums.pooled.committed"];
    }
    if opens(|state| state.evaluation_deadline_ms.is_some()) {
        return ["evaluation.job.staged", "evaluation.job.committed"];
    }
    match phase(after) {
        same if same == phase(before) => ["", ""],
        Some((.., Phase::Selecting)) => ["job.selecting.staged", "job.selecting.committed"],
        Some((.., Phase::Training)) => ["job.training.staged", "job.training.committed"],
        Some((.., Phase::Aggregating)) => ["job.aggregating.staged", "job.aggregating.committed"],
        Some((.., Phase::Committed)) => ["job.committed.staged", "job.committed.committed"],
        _ => ["", ""],
    }
}

/// Those of what a task accepts, if it accepts anything.
pub(super) fn of_task(accepts: Option<TaskKind>) -> [&'static str; 2] {
    match accepts {
        None => ["", ""],
        Some(TaskKind::Statistics) => ["sums.accept.staged", "sums.accept.committed"],
        Some(TaskKind::Evaluate) => ["evaluation.accept.staged", "evaluation.accept.committed"],
        Some(TaskKind::Train) => ["upload.accept.staged", "upload.accept.committed"],
    }
}
