//! Statistics that a site withholds: counts of few rows tell of the rows. Aggregation counts them as
//! absent, and says how many are.

use super::{Statistics, StatisticsError};

impl Statistics {
    /// These statistics as a site sends them that withholds what they say: what is counted, and
    /// nothing of it.
    #[must_use]
    pub fn withhold(&self) -> Self {
        let mut empty = Self { classes: self.classes, withheld: 1, ..Self::default() };
        empty.confusion = vec![0; self.confusion.len()];
        empty.scores = vec![0; self.scores.len()];
        empty.values = vec![Default::default(); self.values.len()];
        empty
    }

    /// One client's statistics: with their counts, or withheld as a whole.
    ///
    /// # Errors
    /// Where more than one client's are said to be withheld, or something is counted all the same.
    pub fn check_withheld(&self) -> Result<(), StatisticsError> {
        let nothing = *self == self.withhold();
        if self.withheld > 1 || (self.withheld == 1 && !nothing) {
            return Err(StatisticsError::Withheld(self.examples));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::{Measure, Scored, Statistics};

    fn counted(label: u32) -> Statistics {
        let mut statistics = Statistics::new(2).expect("two classes");
        let scored = Scored { label, predicted: 1, in_top_k: true, score: 0.7, loss: 0.5 };
        statistics.record(scored).expect("recorded");
        statistics
    }

    #[test]
    fn what_is_withheld_says_nothing_and_is_counted_as_absent() {
        let withheld = counted(0).withhold();
        assert_eq!(withheld, counted(1).withhold(), "nothing of the counts is left");
        assert_eq!(withheld.measure(), Measure::Classes(2));
        assert_eq!(withheld.metrics(), None);
        withheld.check().expect("it adds up");
        withheld.check_withheld().expect("one client's");

        let mut sum = counted(1);
        sum.merge(&withheld).expect("merged");
        sum.merge(&withheld).expect("merged");
        assert_eq!(sum, Statistics { withheld: 2, ..counted(1) });
        sum.check_withheld().expect_err("a sum is not one client's");
    }

    #[test]
    fn who_withholds_does_not_count_all_the_same() {
        let lie = Statistics { withheld: 1, ..counted(1) };
        assert!(lie.check_withheld().is_err());
        let lie = Statistics { withheld: 2, ..counted(1).withhold() };
        assert!(lie.check_withheld().is_err());
        let values = Statistics::of(Measure::Values(3)).expect("values").withhold();
        values.check_withheld().expect("withheld");
        assert_eq!(values.measure(), Measure::Values(3));
    }
}
