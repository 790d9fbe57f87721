//! The ratios that people read, computed from statistics.

use serde::{Deserialize, Serialize};

use super::{LOSS_ONE, Statistics};

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

/// Ratios over all examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// How many examples they speak of.
    pub examples: u64,
    /// The mean loss.
    pub loss: f64,
    /// The share of examples that are right.
    pub accuracy: f64,
    /// The plain mean of F1 over the classes that occur as a label or a prediction, as
    /// scikit-learn has it.
    pub macro_f1: f64,
    /// The mean of F1 over the classes, weighted by support.
    pub weighted_f1: f64,
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
        let size = statistics.classes as usize;
        let mut support = vec![0_u64; size];
        let mut predicted = vec![0_u64; size];
        let mut right = vec![0_u64; size];
        for (label, row) in statistics.confusion.chunks_exact(size).enumerate().take(size) {
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
        let macro_sum: f64 = classes.iter().map(|class| class.f1).sum();
        let weighted_sum: f64 = classes.iter().map(|class| class.f1 * class.support as f64).sum();
        Some(Self {
            examples,
            loss: statistics.loss_sum as f64 / LOSS_ONE as f64 / examples as f64,
            accuracy: ratio(right.iter().sum(), examples),
            macro_f1: macro_sum / occurring.max(1) as f64,
            weighted_f1: weighted_sum / examples as f64,
            classes,
        })
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
