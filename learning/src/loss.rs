//! Losses over a batch: the value, the slopes of the model's outputs, and what statistics count.

use std::ops::Range;

use rayon::prelude::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use tributary_core::metrics::{Scored, Statistics, TOP_K};
use tributary_core::model::Loss;
use tributary_data::{Batch, NO_TOKEN, Targets};

use crate::LearningError;
use crate::ops::{PIECES_MAX, cut, log_sum_exp, split, vectorised};

/// A spec's loss, for outputs whose last dimension has so many values.
pub(crate) struct Objective {
    loss: Loss,
    width: usize,
}

/// One row's part.
#[derive(Clone, Copy, Default)]
struct Row {
    /// What it adds to the loss, before the division.
    loss: f64,
    /// −ln p(label).
    surprise: f64,
    predicted: u32,
    in_top_k: bool,
    /// The probability of class 1.
    score: f64,
}

impl Objective {
    pub(crate) fn new(loss: Loss, output: &[usize]) -> Self {
        Self { loss, width: output.last().copied().unwrap_or(1).max(1) }
    }

    /// The loss of a batch's outputs; `slopes` become its derivatives by them. Statistics count every
    /// row's own loss, without smoothing and weights of classes.
    pub(crate) fn judge(
        &self,
        out: &[f32],
        batch: &Batch,
        slopes: Option<&mut Vec<f32>>,
        statistics: Option<&mut Statistics>,
    ) -> Result<f64, LearningError> {
        let mut spare = Vec::new();
        let slopes = slopes.unwrap_or(&mut spare);
        slopes.clear();
        slopes.resize(out.len(), 0.0);
        match (&self.loss, &batch.targets) {
            (Loss::CrossEntropy { label_smoothing, class_weights }, Targets::Classes(labels)) => {
                let softening = Softening { smoothing: *label_smoothing, weights: class_weights };
                self.classify(out, labels, &softening, slopes, statistics)
            }
            (Loss::NextTokenCrossEntropy, Targets::Tokens(labels)) => {
                let plain = Softening { smoothing: 0.0, weights: &[] };
                self.classify(out, labels, &plain, slopes, statistics)
            }
            (Loss::BinaryCrossEntropy, Targets::Classes(labels)) => {
                binary_classes(out, labels, slopes, statistics)
            }
            (Loss::BinaryCrossEntropy, Targets::Values(targets)) => {
                self.elementwise(out, targets, binary, slopes, statistics, logistic)
            }
            (Loss::Mse, Targets::Values(targets)) => {
                let square = |x: f64, y: f64| ((x - y) * (x - y), 2.0 * (x - y));
                self.elementwise(out, targets, square, slopes, statistics, |x| x)
            }
            _ => Err(LearningError::Targets { loss: self.loss.word() }),
        }
    }

    /// Cross-entropy over rows of scores; a row whose label is [`NO_TOKEN`] counts nowhere.
    fn classify(
        &self,
        out: &[f32],
        labels: &[u32],
        softening: &Softening<'_>,
        slopes: &mut [f32],
        statistics: Option<&mut Statistics>,
    ) -> Result<f64, LearningError> {
        let (width, rows) = (self.width, labels.len());
        if out.len() != rows * width {
            return Err(LearningError::Batch { expected: rows * width, found: out.len() });
        }
        let wrong = |label: &&u32| **label != NO_TOKEN && **label as usize >= width;
        if let Some(&found) = labels.iter().find(wrong) {
            return Err(LearningError::Label { classes: width, found });
        }
        let counted = labels.iter().filter(|label| **label != NO_TOKEN);
        let total: f64 = counted.map(|label| softening.weight(*label)).sum();
        let share = if total > 0.0 { 1.0 / total } else { 0.0 };
        let pieces = cut(rows, (rows / 8).clamp(1, PIECES_MAX));
        let mut scored = vec![Row::default(); rows];
        let parts = split(&mut scored, 1, &pieces);
        let slopes = split(slopes, width, &pieces);
        let scores = statistics.is_some();
        pieces.into_par_iter().zip(parts).zip(slopes).for_each(|((own, parts), slopes)| {
            let Range { start, end } = own;
            let rows = out[start * width..end * width].chunks_exact(width);
            let lists =
                rows.zip(&labels[start..end]).zip(parts).zip(slopes.chunks_exact_mut(width));
            vectorised!({
                for (((row, &label), part), slopes) in lists {
                    if label != NO_TOKEN {
                        *part = softening.row(row, label as usize, share, slopes, scores);
                    }
                }
            });
        });
        let loss: f64 = scored.iter().map(|row| row.loss).sum();
        if let Some(statistics) = statistics {
            for (row, &label) in scored.iter().zip(labels).filter(|(_, label)| **label != NO_TOKEN)
            {
                count(statistics, row, label)?;
            }
        }
        Ok(loss * share)
    }

    /// A loss of each number on its own; `shown` turns an output into what is predicted.
    fn elementwise(
        &self,
        out: &[f32],
        targets: &[f32],
        loss: impl Fn(f64, f64) -> (f64, f64),
        slopes: &mut [f32],
        statistics: Option<&mut Statistics>,
        shown: impl Fn(f64) -> f64,
    ) -> Result<f64, LearningError> {
        if out.len() != targets.len() || out.is_empty() {
            return Err(LearningError::Batch { expected: targets.len(), found: out.len() });
        }
        let share = 1.0 / out.len() as f64;
        let mut sum = 0.0;
        for ((x, y), slope) in out.iter().zip(targets).zip(slopes) {
            let (value, derivative) = loss(f64::from(*x), f64::from(*y));
            sum += value;
            *slope = (derivative * share) as f32;
        }
        if let Some(statistics) = statistics {
            for (x, y) in out.chunks_exact(self.width).zip(targets.chunks_exact(self.width)) {
                let pairs = x.iter().zip(y);
                let own: f64 = pairs.map(|(x, y)| loss(f64::from(*x), f64::from(*y)).0).sum();
                let shown: Vec<f32> = x.iter().map(|x| shown(f64::from(*x)) as f32).collect();
                statistics.record_values(y, &shown, own / self.width as f64)?;
            }
        }
        Ok(sum * share)
    }
}

/// Label smoothing and weights of classes, as PyTorch has them: the target of a row is (1 − ε)·w(y) at
/// its label and ε ⁄ K · w(c) everywhere; the sum is divided by Σ w(y).
struct Softening<'a> {
    smoothing: f64,
    weights: &'a [f64],
}

impl Softening<'_> {
    fn weight(&self, label: u32) -> f64 {
        self.weights.get(label as usize).copied().unwrap_or(1.0)
    }

    #[inline(always)]
    fn row(&self, row: &[f32], label: usize, share: f64, slopes: &mut [f32], scores: bool) -> Row {
        let (log_sum, total) = log_sum_exp(row, slopes);
        let surprise = log_sum - f64::from(row[label]);
        let mut scored = Row { loss: surprise, surprise, ..Row::default() };
        if scores {
            scored.rank(row, label);
            scored.score = slopes.get(1).map_or(0.0, |power| f64::from(power / total));
        }
        if self.smoothing == 0.0 && self.weights.is_empty() {
            let scale = share as f32 / total;
            slopes.iter_mut().for_each(|slope| *slope *= scale);
            slopes[label] -= share as f32;
            return scored;
        }
        let spread = self.smoothing / row.len() as f64;
        let target = |class: usize| {
            let weight = self.weight(class as u32);
            let own = if class == label { 1.0 - self.smoothing } else { 0.0 };
            weight * (own + spread)
        };
        let mass: f64 = (0..row.len()).map(target).sum();
        scored.loss = 0.0;
        for (class, (slope, score)) in slopes.iter_mut().zip(row).enumerate() {
            let target = target(class);
            scored.loss += target * (log_sum - f64::from(*score));
            *slope = ((f64::from(*slope / total) * mass - target) * share) as f32;
        }
        scored
    }
}

impl Row {
    /// The class of the largest score, the first of equal ones; and whether fewer than [`TOP_K`]
    /// classes score higher than the label.
    fn rank(&mut self, row: &[f32], label: usize) {
        let mut best = (f32::NEG_INFINITY, 0);
        for (class, &score) in row.iter().enumerate() {
            if score > best.0 {
                best = (score, class as u32);
            }
        }
        self.predicted = best.1;
        self.in_top_k = row.iter().filter(|score| **score > row[label]).count() < TOP_K;
    }
}

fn count(statistics: &mut Statistics, row: &Row, label: u32) -> Result<(), LearningError> {
    if statistics.classes == 0 {
        statistics.record_token(row.predicted == label, row.in_top_k, row.surprise)?;
        return Ok(());
    }
    let Row { predicted, in_top_k, score, surprise: loss, .. } = *row;
    Ok(statistics.record(Scored { label, predicted, in_top_k, score, loss })?)
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// max(x, 0) − x·y + ln(1 + e^−|x|), which overflows nowhere; and σ(x) − y.
fn binary(x: f64, y: f64) -> (f64, f64) {
    (x.max(0.0) - x * y + libm::log1p(libm::exp(-x.abs())), logistic(x) - y)
}

/// One score a row, two classes.
fn binary_classes(
    out: &[f32],
    labels: &[u32],
    slopes: &mut [f32],
    mut statistics: Option<&mut Statistics>,
) -> Result<f64, LearningError> {
    if out.len() != labels.len() || out.is_empty() {
        return Err(LearningError::Batch { expected: labels.len(), found: out.len() });
    }
    let share = 1.0 / out.len() as f64;
    let mut sum = 0.0;
    for ((x, &label), slope) in out.iter().zip(labels).zip(slopes) {
        let x = f64::from(*x);
        let (loss, derivative) = binary(x, f64::from(label));
        sum += loss;
        *slope = (derivative * share) as f32;
        if let Some(statistics) = statistics.as_deref_mut() {
            let (predicted, score) = (u32::from(x > 0.0), logistic(x));
            statistics.record(Scored { label, predicted, in_top_k: true, score, loss })?;
        }
    }
    Ok(sum * share)
}
