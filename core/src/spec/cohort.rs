//! Who takes part in a round, when it starts and when it closes.

use crate::document::Section;

/// Most contributions to one round: their integer sum must fit 63 bits.
pub const COHORT_MAX: u32 = 4096;

/// The `[cohort]` section. Times run on job time, which stands still while no driver holds the job.
#[derive(Debug, Clone, PartialEq)]
pub struct CohortSpec {
    /// The share of the roster that trains in a round, in (0, 1].
    pub fraction_train: f64,
    /// A round starts once this many clients of the roster are present.
    pub min_available_clients: u32,
    /// The least size of a cohort.
    pub min_train_clients: u32,
    /// At its deadline a round closes with this many updates, or is tried again.
    pub min_updates: u32,
    /// No client declares or counts for more examples than this; at most 2^29.
    pub max_examples: u64,
    /// How long an attempt collects updates, in seconds.
    pub deadline_s: u32,
    /// How long a task may show no progress before it is given to another client, in seconds.
    pub lease_s: u32,
    /// How often a round is tried before the job fails.
    pub max_attempts: u32,
    /// So many times the cohort is asked, and the round closes with the cohort's number: the slowest
    /// are not waited for.
    pub over_selection: f64,
    /// Nothing is decided by time: a round waits for its whole cohort, and the place of a client that
    /// is away stays its own. The same data give the same bytes, whatever was killed meanwhile.
    pub exact_replay: bool,
}

/// More than this many times the cohort is never asked: what is not waited for is wasted work.
const OVER_SELECTION_MAX: f64 = 4.0;

/// 2^29: with 24 bits of an update's value the product still fits the 53 bits of an f64.
pub const EXAMPLES_MAX: u64 = 1 << 29;

impl CohortSpec {
    pub(super) fn read(section: &mut Section) -> Self {
        let timed = section.has("deadline_s");
        let spec = Self {
            fraction_train: section.number("fraction_train", 0.0..=1.0, Some(1.0)),
            min_available_clients: section.count("min_available_clients", 1..=1_000_000, Some(2)),
            min_train_clients: section.count("min_train_clients", 1..=COHORT_MAX, Some(2)),
            min_updates: section.count("min_updates", 1..=COHORT_MAX, Some(2)),
            max_examples: section.integer("max_examples", 1..=EXAMPLES_MAX, Some(1 << 20)),
            deadline_s: section.count("deadline_s", 1..=31_536_000, Some(600)),
            lease_s: section.count("lease_s", 1..=86_400, Some(60)),
            max_attempts: section.count("max_attempts", 1..=1000, Some(3)),
            over_selection: section.number("over_selection", 1.0..=OVER_SELECTION_MAX, Some(1.0)),
            exact_replay: section.boolean("exact_replay", Some(false)),
        };
        if spec.exact_replay && timed {
            let expected = "nothing with cohort.exact_replay, which waits for the whole cohort";
            section.fault("deadline_s", expected, spec.deadline_s.to_string());
        }
        if spec.exact_replay && spec.over_selection > 1.0 {
            let expected = "1 with cohort.exact_replay, which waits for the whole cohort";
            section.fault("over_selection", expected, spec.over_selection.to_string());
        }
        if spec.min_updates > spec.min_train_clients {
            section.fault(
                "min_updates",
                format!("at most cohort.min_train_clients ({})", spec.min_train_clients),
                spec.min_updates.to_string(),
            );
        }
        if spec.min_train_clients > spec.min_available_clients {
            section.fault(
                "min_train_clients",
                format!("at most cohort.min_available_clients ({})", spec.min_available_clients),
                spec.min_train_clients.to_string(),
            );
        }
        spec
    }

    /// How many clients train in a round of a roster of this size:
    /// max(`min_train_clients`, ⌈`fraction_train` × roster⌉), at most the roster and [`COHORT_MAX`].
    #[must_use]
    pub fn size(&self, roster: usize) -> usize {
        // 0.07 × 100 is a little above 7 in binary; a share within 1e-9 of a count means the count.
        let share = (self.fraction_train * roster as f64 - 1e-9).ceil().max(0.0) as usize;
        share.max(self.min_train_clients as usize).min(roster).min(COHORT_MAX as usize)
    }

    /// How many clients are asked where so many are wanted: `over_selection` times as many, at most
    /// [`COHORT_MAX`], because all of them may be accepted.
    #[must_use]
    pub fn asked(&self, wanted: usize) -> usize {
        let asked = (self.over_selection * wanted as f64 - 1e-9).ceil().max(0.0) as usize;
        asked.max(wanted).min(COHORT_MAX as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::CohortSpec;

    #[test]
    fn the_cohort_is_the_paper_s_max_of_share_and_minimum() {
        let mut spec = CohortSpec {
            fraction_train: 0.07,
            min_available_clients: 2,
            min_train_clients: 2,
            min_updates: 2,
            max_examples: 1,
            deadline_s: 1,
            lease_s: 1,
            max_attempts: 1,
            over_selection: 1.3,
            exact_replay: false,
        };
        assert_eq!((spec.asked(10), spec.asked(7), spec.asked(4000)), (13, 10, 4096));
        assert_eq!(spec.size(100), 7);
        assert_eq!(spec.size(101), 8);
        assert_eq!(spec.size(10), 2);
        assert_eq!(spec.size(1), 1);
        spec.fraction_train = 1.0;
        assert_eq!(spec.size(9), 9);
        assert_eq!(spec.size(10_000), 4096);
    }
}
