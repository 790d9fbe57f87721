//! The ratios that people read, computed from statistics.

use serde::{Deserialize, Serialize};

use super::{LOSS_ONE, Measure, SCORE_BINS, Statistics};

/// Precision, recall and F1 of one class; 0 where the denominator is 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Examples whose true class this is.
    pub support: u64,
    /// The share of the predictions of this class that are right.
    pub precision: f64,
    /// The share of the examples of this class that were found.
    pub recall: f64,
    /// The harmonic mean of the two: 2·tp ⁄ (2·tp + fp + fn).
    pub f1: f64,
}

/// How well numbers are predicted, each a mean over the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ValueScores {
    /// The root of the mean squared error over all outputs.
    pub rmse: f64,
    /// The mean absolute error.
    pub mae: f64,
    /// The coefficient of determination, the mean over the outputs; an output whose target never
    /// changes counts 1 where it is met and 0 where it is not, as in scikit-learn.
    pub r2: f64,
}

/// Ratios over all examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// How many examples (or steps) they speak of.
    pub examples: u64,
    /// The mean loss.
    pub loss: f64,
    /// The share of predictions that are right; micro precision, recall and F1 are the same number.
    pub accuracy: f64,
    /// The share of labels among the [`super::TOP_K`] highest scores.
    pub top_k_accuracy: f64,
    /// The plain mean of precision over the classes that occur as a label or a prediction, as
    /// scikit-learn has it.
    pub macro_precision: f64,
    /// The same of recall.
    pub macro_recall: f64,
    /// The same of F1.
    pub macro_f1: f64,
    /// The mean of precision over the classes, weighted by support.
    pub weighted_precision: f64,
    /// The same of recall, which is the accuracy again.
    pub weighted_recall: f64,
    /// The same of F1.
    pub weighted_f1: f64,
    /// For two classes, the area under the receiver operating characteristic, from binned scores;
    /// none where one class does not occur.
    pub auc: Option<f64>,
    /// e^loss, where tokens are predicted.
    pub perplexity: Option<f64>,
    /// Where numbers are predicted.
    pub values: Option<ValueScores>,
    /// The scores of each class, in the classes' order.
    pub classes: Vec<ClassScores>,
}

impl Metrics {
    /// The ratios of some statistics; `None` where there is no example.
    #[must_use]
    pub fn of(statistics: &Statistics) -> Option<Self> {
        let examples = statistics.examples;
        if examples == 0 {
            return None;
        }
        let loss = statistics.loss_sum as f64 / LOSS_ONE as f64 / examples as f64;
        let (classes, occurring) = class_scores(statistics);
        let mean = |score: fn(&ClassScores) -> f64| {
            classes.iter().map(score).sum::<f64>() / occurring.max(1) as f64
        };
        let weighted = |score: fn(&ClassScores) -> f64| {
            let sum: f64 = classes.iter().map(|class| score(class) * class.support as f64).sum();
            sum / examples as f64
        };
        Some(Self {
            examples,
            loss,
            accuracy: ratio(statistics.correct, examples),
            top_k_accuracy: ratio(statistics.top_k, examples),
            macro_precision: mean(|class| class.precision),
            macro_recall: mean(|class| class.recall),
            macro_f1: mean(|class| class.f1),
            weighted_precision: weighted(|class| class.precision),
            weighted_recall: weighted(|class| class.recall),
            weighted_f1: weighted(|class| class.f1),
            auc: area(&statistics.scores),
            perplexity: (statistics.measure() == Measure::Tokens).then(|| libm::exp(loss)),
            values: value_scores(statistics),
            classes,
        })
    }
}

/// The classes' scores, and how many classes occur.
fn class_scores(statistics: &Statistics) -> (Vec<ClassScores>, usize) {
    let size = statistics.classes as usize;
    let mut support = vec![0_u64; size];
    let mut predicted = vec![0_u64; size];
    let mut right = vec![0_u64; size];
    for (label, row) in statistics.confusion.chunks_exact(size.max(1)).enumerate().take(size) {
        for (prediction, &count) in row.iter().enumerate() {
            support[label] += count;
            predicted[prediction] += count;
            if label == prediction {
                right[label] = count;
            }
        }
    }
    let classes: Vec<ClassScores> = (0..size)
        .map(|class| ClassScores {
            support: support[class],
            precision: ratio(right[class], predicted[class]),
            recall: ratio(right[class], support[class]),
            f1: ratio(2 * right[class], support[class] + predicted[class]),
        })
        .collect();
    let occurring = (0..size).filter(|&class| support[class] + predicted[class] > 0).count();
    (classes, occurring)
}

/// The share of pairs of both classes that are in the right order; ties, which are pairs of one bin,
/// count half.
fn area(scores: &[u64]) -> Option<f64> {
    let (negative, positive) = scores.split_at_checked(SCORE_BINS)?;
    let (mut below, mut ordered) = (0_u64, 0.0);
    for (negative, positive) in negative.iter().zip(positive) {
        ordered += *positive as f64 * (below as f64 + *negative as f64 / 2.0);
        below += negative;
    }
    let pairs = below as f64 * positive.iter().sum::<u64>() as f64;
    (pairs > 0.0).then(|| ordered / pairs)
}

fn value_scores(statistics: &Statistics) -> Option<ValueScores> {
    let outputs = statistics.values.len() as f64;
    if statistics.values.is_empty() {
        return None;
    }
    let mut sum = ValueScores { rmse: 0.0, mae: 0.0, r2: 0.0 };
    for values in &statistics.values {
        let one = values.scores(statistics.examples);
        sum.rmse += one.rmse * one.rmse / outputs;
        sum.mae += one.mae / outputs;
        sum.r2 += one.r2 / outputs;
    }
    Some(ValueScores { rmse: sum.rmse.sqrt(), ..sum })
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
