//! The numbers of a spec that the machine decides by.

use crate::round::divergence::Limits;
use crate::spec::JobSpec;
use crate::spec::cohort::CohortSpec;

/// What a job's spec says about rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How many rounds.
    pub rounds: u32,
    /// The job's seed.
    pub seed: u64,
    /// Who takes part.
    pub cohort: CohortSpec,
    /// When it counts as diverged.
    pub divergence: Limits,
    /// Whether the last checkpoint is scored at the end.
    pub final_evaluation: bool,
    /// The spec's digest, which every round's result covers.
    pub spec: crate::digest::Digest,
    /// What it takes to pool the sites' sums before round 1; none where nothing is asked of them.
    pub statistics: Option<StatisticsPolicy>,
}

/// When the sites' sums are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatisticsPolicy {
    /// Sums of fewer sites are never pooled.
    pub min_clients: u32,
    /// How long they are collected, in milliseconds of job time; none where everybody is waited for.
    pub deadline_ms: Option<u64>,
}

impl Policy {
    /// How long an attempt collects updates, in milliseconds of job time.
    #[must_use]
    pub fn deadline_ms(&self) -> u64 {
        u64::from(self.cohort.deadline_s) * 1000
    }

    /// How long a lease lasts without progress, in milliseconds of job time.
    #[must_use]
    pub fn lease_ms(&self) -> u64 {
        u64::from(self.cohort.lease_s) * 1000
    }
}

impl From<&JobSpec> for Policy {
    fn from(spec: &JobSpec) -> Self {
        Self {
            rounds: spec.rounds,
            seed: spec.seed,
            cohort: spec.cohort.clone(),
            divergence: spec.strategy.divergence,
            final_evaluation: spec.final_evaluation,
            spec: spec.digest,
            statistics: spec.statistics.as_ref().map(|statistics| StatisticsPolicy {
                min_clients: statistics.min_clients,
                deadline_ms: (!spec.cohort.exact_replay)
                    .then(|| u64::from(statistics.deadline_s) * 1000),
            }),
        }
    }
}
