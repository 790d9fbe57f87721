//! What the machine knows: one job, its current round, and that round's tasks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{JobId, TaskId};
use crate::round::divergence::Course;
use crate::round::event::FoldFacts;
use crate::round::task::Task;

macro_rules! words {
    ($type:ident: $($variant:ident = $word:literal),+ $(,)?) => {
        impl $type {
            /// The word in tables, documents and on the wire.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $($type::$variant => $word),+
                }
            }

            /// The variant of a word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some($type::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use words;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobStatus {
    /// Accepted and durable; no driver has begun.
    Submitted,
    /// Rounds are running.
    Running,
    /// Held by an operator; nothing is offered, no deadline passes.
    Paused,
    /// All rounds are committed.
    Completed,
    /// It cannot go on; the last good checkpoint stands.
    Failed,
    /// Ended by an operator; the last good checkpoint stands.
    Cancelled,
}

words!(JobStatus: Submitted = "submitted", Running = "running", Paused = "paused",
    Completed = "completed", Failed = "failed", Cancelled = "cancelled");

impl JobStatus {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn ended(self) -> bool {
        matches!(self, JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled)
    }
}

/// Where an attempt of a round stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Waiting for enough clients.
    Selecting,
    /// Tasks are out; updates come in.
    Training,
    /// The accepted set is fixed and is being folded.
    Aggregating,
    /// The next checkpoint stands.
    Committed,
    /// The deadline passed with too few updates, or the job diverged.
    Missed,
}

words!(Phase: Selecting = "selecting", Training = "training", Aggregating = "aggregating",
    Committed = "committed", Missed = "missed");

impl Phase {
    /// Whether the attempt is history.
    #[must_use]
    pub fn ended(self) -> bool {
        matches!(self, Phase::Committed | Phase::Missed)
    }
}

/// One attempt of one round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundState {
    /// 1 for the first.
    pub number: u32,
    /// 1 for the first.
    pub attempt: u32,
    /// Where it stands.
    pub phase: Phase,
    /// The checkpoint that training starts from.
    pub checkpoint_in: Digest,
    /// The roster that the cohort was drawn from; set with the cohort.
    pub roster: Option<Digest>,
    /// How many updates make the round complete; set with the cohort.
    pub cohort_size: u32,
    /// c: 2^c is the least power of two not below any declared count; set with the cohort.
    pub cap_exponent: u8,
    /// Job time at which the attempt began to select.
    pub opened_ms: u64,
    /// Job time at which training began.
    pub training_ms: Option<u64>,
    /// Job time at which it closes with what it has.
    pub deadline_ms: Option<u64>,
    /// Job time at which the accepted set was fixed, or the deadline was missed.
    pub closed_ms: Option<u64>,
    /// Job time of the commit.
    pub committed_ms: Option<u64>,
    /// Why it closed or was missed: `complete`, `deadline`, `nobody_left`, `client_failed`,
    /// `diverged`, `job_ended`.
    pub reason: Option<String>,
    /// The accepted set: tasks sorted by client name; fixed at close, and never changed.
    pub accepted: Vec<TaskId>,
    /// What the fold gave; set with the commit.
    pub facts: Option<FoldFacts>,
    /// The clock-free digest of the round (see [`crate::round::result`]); set with the commit.
    pub result: Option<Digest>,
}

impl RoundState {
    /// A new attempt that selects its cohort.
    #[must_use]
    pub fn selecting(number: u32, attempt: u32, checkpoint_in: Digest, now_ms: u64) -> Self {
        Self {
            number,
            attempt,
            phase: Phase::Selecting,
            checkpoint_in,
            roster: None,
            cohort_size: 0,
            cap_exponent: 0,
            opened_ms: now_ms,
            training_ms: None,
            deadline_ms: None,
            closed_ms: None,
            committed_ms: None,
            reason: None,
            accepted: Vec::new(),
            facts: None,
            result: None,
        }
    }
}

/// Everything that the machine needs to know of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// The job.
    pub id: JobId,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it failed or was cancelled: a stable code and a sentence.
    pub reason: Option<String>,
    /// Job time: milliseconds that a driver has held the job.
    pub clock_ms: u64,
    /// The last good checkpoint.
    pub checkpoint: Digest,
    /// The result digest of the last committed round; the job's genesis digest before that.
    pub result: Digest,
    /// How its rounds went, for the rule that says when it has diverged.
    pub course: Course,
    /// The current attempt; none before the job starts.
    pub round: Option<RoundState>,
    /// Job time at which the final evaluation ends; none while there is none.
    pub evaluation_deadline_ms: Option<u64>,
    /// Job time at which no more sums of sites are taken; none while there is no such time.
    pub statistics_deadline_ms: Option<u64>,
    /// What the sites' sums gave; none before, and where nothing is asked of them.
    pub constants: Option<Digest>,
    /// The tasks of the current round, of all its attempts, and of the final evaluation; before the
    /// first round those that ask for sums.
    pub tasks: BTreeMap<TaskId, Task>,
}

impl JobState {
    /// A job as submitted.
    #[must_use]
    pub fn submitted(id: JobId, spec: Digest, checkpoint: Digest) -> Self {
        Self {
            id,
            status: JobStatus::Submitted,
            reason: None,
            clock_ms: 0,
            checkpoint,
            result: crate::round::result::genesis(spec, checkpoint),
            course: Course::default(),
            round: None,
            evaluation_deadline_ms: None,
            statistics_deadline_ms: None,
            constants: None,
            tasks: BTreeMap::new(),
        }
    }

    /// Whether the sites have been asked for their sums, which are not pooled yet.
    #[must_use]
    pub fn pooling(&self) -> bool {
        self.round.is_none() && self.constants.is_none() && !self.tasks.is_empty()
    }
}
