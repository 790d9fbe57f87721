//! Metrics as sufficient statistics: counts that add up exactly, ratios only when shown.
//!
//! A client reports [`Statistics`]: integers that are added in any order with the same result.
//! [`Metrics`] are computed from the sum, so a federated F1 is the F1 of all examples together,
//! which a mean of the clients' F1 is not.

mod error;
mod scores;
mod values;
mod withheld;

use serde::{Deserialize, Serialize};

pub use error::StatisticsError;
pub use scores::{ClassScores, Metrics, ValueScores};
pub use values::ValueSums;

/// A loss of 1 in [`Statistics::loss_sum`]: 20 binary places, so a mean is right to 5e-7.
pub const LOSS_ONE: i64 = 1 << 20;
/// Largest magnitude of one example's loss; larger ones, and losses that are no number, count as
/// this. Together with [`EXAMPLES_MAX`] no sum overflows.
pub const LOSS_MAX: f64 = 1024.0;
/// Most examples that statistics may speak of.
pub const EXAMPLES_MAX: u64 = 1 << 32;
/// Most classes: the matrix stays at 32 MiB.
pub const CLASSES_MAX: u32 = 2048;
/// Most predicted numbers of an example.
pub const VALUES_MAX: u32 = 1024;
/// A prediction is among the top k when fewer than this many classes score higher.
pub const TOP_K: usize = 5;
/// Equal bins of [0, 1] for the scores of two classes: an area under the curve is right to about
/// 1 ⁄ bins.
pub const SCORE_BINS: usize = 512;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// One of so many classes for each example.
    Classes(u32),
    /// The next token at each scored step; a matrix of a vocabulary would be too large.
    Tokens,
    /// So many numbers for each example.
    Values(u32),
}

/// What a model did on some examples: sums from which every ratio follows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// How many classes there are; 0 where tokens or numbers were predicted.
    pub classes: u32,
    /// How many examples (or steps, where tokens are predicted) were scored.
    pub examples: u64,
    /// The sum of the examples' losses in units of 1 ⁄ [`LOSS_ONE`], each rounded and clamped to
    /// ±[`LOSS_MAX`] on its own: exact, in any order.
    pub loss_sum: i64,
    /// `classes × classes` counts, row by row: the row is the true class, the column the predicted.
    pub confusion: Vec<u64>,
    /// How many predictions were right.
    #[serde(default)]
    pub correct: u64,
    /// How many labels were among the [`TOP_K`] highest scores.
    #[serde(default)]
    pub top_k: u64,
    /// For two classes, `2 × SCORE_BINS` counts: examples of class 0, then of class 1, by the
    /// probability of class 1.
    #[serde(default)]
    pub scores: Vec<u64>,
    /// Sums for each predicted number.
    #[serde(default)]
    pub values: Vec<ValueSums>,
    /// How many clients' sums are not in here: their sites withhold them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub withheld: u32,
}

/// One classified example.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The true class.
    pub label: u32,
    /// The class of the highest score.
    pub predicted: u32,
    /// Whether the true class is among the [`TOP_K`] highest.
    pub in_top_k: bool,
    /// The probability of class 1, of two.
    pub score: f64,
    /// The loss.
    pub loss: f64,
}

impl Statistics {
    /// No examples yet, of so many classes.
    ///
    /// # Errors
    /// On a number of classes that is 0 or above [`CLASSES_MAX`].
    pub fn new(classes: u32) -> Result<Self, StatisticsError> {
        Self::of(Measure::Classes(classes))
    }

    /// No examples yet.
    ///
    /// # Errors
    /// On a number of classes or values out of bounds.
    pub fn of(measure: Measure) -> Result<Self, StatisticsError> {
        let mut empty = Self::default();
        match measure {
            Measure::Classes(classes) => {
                empty.classes = classes;
                empty.confusion = vec![0; matrix_size(classes)?];
                empty.scores = vec![0; scores_size(classes)];
            }
            Measure::Tokens => {}
            Measure::Values(values) => {
                if !(1..=VALUES_MAX).contains(&values) {
                    return Err(StatisticsError::Classes(values));
                }
                empty.values = vec![ValueSums::default(); values as usize];
            }
        }
        Ok(empty)
    }

    /// What is counted.
    #[must_use]
    pub fn measure(&self) -> Measure {
        if self.classes > 0 {
            Measure::Classes(self.classes)
        } else if self.values.is_empty() {
            Measure::Tokens
        } else {
            Measure::Values(u32::try_from(self.values.len()).unwrap_or(u32::MAX))
        }
    }

    /// Adds one classified example.
    ///
    /// # Errors
    /// On a class that does not exist, and beyond [`EXAMPLES_MAX`] examples.
    pub fn record(&mut self, scored: Scored) -> Result<(), StatisticsError> {
        let classes = self.classes;
        for class in [scored.label, scored.predicted] {
            if class >= classes {
                return Err(StatisticsError::Class { classes, found: class });
            }
        }
        let index = scored.label as usize * classes as usize + scored.predicted as usize;
        let correct = scored.label == scored.predicted;
        self.count(correct, correct || scored.in_top_k, scored.loss)?;
        if let Some(cell) = self.confusion.get_mut(index) {
            *cell += 1;
        }
        let bin = if scored.score >= 0.0 { (scored.score * SCORE_BINS as f64) as usize } else { 0 };
        let bin = scored.label as usize * SCORE_BINS + bin.min(SCORE_BINS - 1);
        if let Some(cell) = self.scores.get_mut(bin) {
            *cell += 1;
        }
        Ok(())
    }

    /// Adds one scored step of a text.
    ///
    /// # Errors
    /// Beyond [`EXAMPLES_MAX`] steps.
    pub fn record_token(
        &mut self,
        correct: bool,
        in_top_k: bool,
        loss: f64,
    ) -> Result<(), StatisticsError> {
        self.count(correct, correct || in_top_k, loss)
    }

    /// Adds one example of predicted numbers.
    ///
    /// # Errors
    /// On another number of values, and beyond [`EXAMPLES_MAX`] examples.
    pub fn record_values(
        &mut self,
        targets: &[f32],
        predictions: &[f32],
        loss: f64,
    ) -> Result<(), StatisticsError> {
        let expected = self.values.len();
        for found in [targets.len(), predictions.len()] {
            if found != expected {
                return Err(StatisticsError::Size { expected, found });
            }
        }
        self.count(false, false, loss)?;
        for (sums, (target, prediction)) in
            self.values.iter_mut().zip(targets.iter().zip(predictions))
        {
            sums.record(f64::from(*target), f64::from(*prediction));
        }
        Ok(())
    }

    fn count(&mut self, correct: bool, in_top_k: bool, loss: f64) -> Result<(), StatisticsError> {
        if self.examples >= EXAMPLES_MAX {
            return Err(StatisticsError::Examples(self.examples.saturating_add(1)));
        }
        self.examples += 1;
        self.correct += u64::from(correct);
        self.top_k += u64::from(in_top_k);
        self.loss_sum = self.loss_sum.saturating_add(fixed_point(loss));
        Ok(())
    }

    /// Adds the examples of other statistics. Order does not matter.
    ///
    /// # Errors
    /// When they count something else, when either does not pass [`Statistics::check`], and beyond
    /// [`EXAMPLES_MAX`] examples; nothing is changed then.
    pub fn merge(&mut self, other: &Statistics) -> Result<(), StatisticsError> {
        if self.measure() != other.measure() {
            let (expected, found) = (self.measure(), other.measure());
            return Err(StatisticsError::Merge { expected, found });
        }
        self.check()?;
        other.check()?;
        let examples = self.examples + other.examples;
        if examples > EXAMPLES_MAX {
            return Err(StatisticsError::Examples(examples));
        }
        // Nothing below can overflow: both sides are checked and the examples are bounded.
        self.examples = examples;
        self.withheld = self.withheld.saturating_add(other.withheld);
        self.loss_sum += other.loss_sum;
        self.correct += other.correct;
        self.top_k += other.top_k;
        let counts = [(&mut self.confusion, &other.confusion), (&mut self.scores, &other.scores)];
        for (cells, more) in counts {
            cells.iter_mut().zip(more).for_each(|(cell, more)| *cell += more);
        }
        for (sums, more) in self.values.iter_mut().zip(&other.values) {
            sums.add(more);
        }
        Ok(())
    }

    /// Judges statistics that came from somebody else.
    ///
    /// # Errors
    /// On the first contradiction: sizes, counts that do not add up, sums out of bounds.
    pub fn check(&self) -> Result<(), StatisticsError> {
        if self.examples > EXAMPLES_MAX {
            return Err(StatisticsError::Examples(self.examples));
        }
        let count =
            |field, expected: String, found| Err(StatisticsError::Count { field, expected, found });
        match self.measure() {
            Measure::Classes(classes) => self.check_classes(classes)?,
            Measure::Tokens => {
                let sizes = (self.confusion.len(), self.scores.len());
                if sizes != (0, 0) {
                    return Err(StatisticsError::Size { expected: 0, found: sizes.0.max(sizes.1) });
                }
            }
            Measure::Values(values) => {
                if values > VALUES_MAX {
                    return Err(StatisticsError::Classes(values));
                }
                if self.correct != 0 || self.top_k != 0 {
                    return count(
                        "correct",
                        "0 for numbers".to_owned(),
                        self.correct.max(self.top_k),
                    );
                }
                for sums in &self.values {
                    sums.check(self.examples)?;
                }
            }
        }
        if self.top_k > self.examples {
            return count("top_k", format!("at most {}", self.examples), self.top_k);
        }
        if self.correct > self.top_k {
            return count("correct", format!("at most {}", self.top_k), self.correct);
        }
        let bound = self.examples as i64 * fixed_point(LOSS_MAX);
        if !(-bound..=bound).contains(&self.loss_sum) {
            return Err(StatisticsError::Loss { bound, found: self.loss_sum });
        }
        Ok(())
    }

    fn check_classes(&self, classes: u32) -> Result<(), StatisticsError> {
        let sizes = [
            (matrix_size(classes)?, self.confusion.len()),
            (scores_size(classes), self.scores.len()),
            (0, self.values.len()),
        ];
        for (expected, found) in sizes {
            if expected != found {
                return Err(StatisticsError::Size { expected, found });
            }
        }
        let lists = [self.confusion.as_slice(), self.scores.as_slice()];
        for list in lists.into_iter().filter(|list| !list.is_empty()) {
            let found = list.iter().fold(0_u64, |sum, &count| sum.saturating_add(count));
            if found != self.examples {
                return Err(StatisticsError::Sum { examples: self.examples, found });
            }
        }
        let diagonal = self.confusion.iter().step_by(classes as usize + 1);
        let right: u64 = diagonal.sum();
        if right != self.correct {
            let (field, expected) = ("correct", format!("{right}, the matrix's diagonal"));
            return Err(StatisticsError::Count { field, expected, found: self.correct });
        }
        Ok(())
    }

    /// The ratios; `None` where there is no example.
    #[must_use]
    pub fn metrics(&self) -> Option<Metrics> {
        Metrics::of(self)
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn matrix_size(classes: u32) -> Result<usize, StatisticsError> {
    if (1..=CLASSES_MAX).contains(&classes) {
        Ok(classes as usize * classes as usize)
    } else {
        Err(StatisticsError::Classes(classes))
    }
}

/// Scores are binned for two classes alone.
fn scores_size(classes: u32) -> usize {
    if classes == 2 { 2 * SCORE_BINS } else { 0 }
}

/// One loss in units of 1 ⁄ [`LOSS_ONE`]; what is no number counts as the largest.
fn fixed_point(loss: f64) -> i64 {
    let loss = if loss.is_nan() { LOSS_MAX } else { loss.clamp(-LOSS_MAX, LOSS_MAX) };
    // Scaling by a power of two is exact; ties go away from zero, on every machine.
    (loss * LOSS_ONE as f64).round() as i64
}

#[cfg(test)]
mod tests;
