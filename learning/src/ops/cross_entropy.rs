//! Softmax and cross-entropy in one pass, over classes.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::buffer::{argument, floats, gradient, result};

/// What a model made of one example.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The class of the largest logit; the first of equal ones.
    pub predicted: u32,
    /// −ln softmax(logits) at the label.
    pub loss: f64,
}

/// The largest logit, and ln Σ exp(logit − largest), in f64.
fn log_sum(logits: &[f32]) -> (f64, f64) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = f64::from(largest);
    let sum: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - largest)).sum();
    (largest, libm::log(sum))
}

fn loss(logits: &[f32], label: u32) -> Option<f64> {
    let logit = f64::from(*logits.get(label as usize)?);
    let (largest, log_sum) = log_sum(logits);
    Some(log_sum - (logit - largest))
}

/// Scores a batch: `logits` is `[batch, classes]`, with one label an example.
///
/// # Errors
/// On other shapes and types, and on a label that is no class.
pub fn scores(logits: &Tensor, labels: &[u32]) -> Result<Vec<Score>> {
    let (batch, classes) = logits.dims2()?;
    check(batch, labels)?;
    let logits = logits.contiguous()?;
    let (storage, layout) = logits.storage_and_layout();
    let rows = floats(&storage, layout)?.chunks_exact(classes.max(1));
    let scored = rows.zip(labels).map(|(row, &label)| {
        let Some(loss) = loss(row, label) else {
            bail!("label {label} is none of {classes} classes")
        };
        let mut best = (f32::NEG_INFINITY, 0);
        for (class, &logit) in row.iter().enumerate() {
            if logit > best.0 {
                best = (logit, class as u32);
            }
        }
        Ok(Score { predicted: best.1, loss })
    });
    scored.collect()
}

fn check(batch: usize, labels: &[u32]) -> Result<()> {
    if batch == 0 || batch != labels.len() {
        bail!("cross_entropy needs one label an example, got {} for {batch}", labels.len())
    }
    Ok(())
}

struct CrossEntropy {
    labels: Arc<[u32]>,
    /// The logits' gradient for a loss whose own gradient is 1.
    slopes: OnceLock<Vec<f32>>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, classes) = layout.shape().dims2()?;
        check(batch, &self.labels)?;
        let logits = argument(storage, layout)?;
        let mut slopes = Vec::with_capacity(logits.len());
        let mut sum = 0.0;
        for (row, &label) in logits.chunks_exact(classes.max(1)).zip(self.labels.iter()) {
            let Some(&logit) = row.get(label as usize) else {
                bail!("label {label} is none of {classes} classes")
            };
            let (largest, log_sum) = log_sum(row);
            sum += log_sum - (f64::from(logit) - largest);
            let share = |logit: f32| libm::exp(f64::from(logit) - largest - log_sum);
            slopes.extend(row.iter().enumerate().map(|(class, &logit)| {
                let target = if class == label as usize { 1.0 } else { 0.0 };
                ((share(logit) - target) / batch as f64) as f32
            }));
        }
        // An op is built for one call, so the cell is empty.
        let _ = self.slopes.set(slopes);
        result(vec![(sum / batch as f64) as f32], ())
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, gradient_out: &Tensor) -> Result<Option<Tensor>> {
        let scale = gradient_out.to_scalar::<f32>()?;
        let Some(slopes) = self.slopes.get() else { bail!("backward came before forward") };
        gradient(slopes.iter().map(|slope| slope * scale).collect(), logits)
    }
}

/// The mean over the batch of −ln softmax(logits) at the label: `[batch, classes]` to a scalar.
/// Sums are kept in f64.
///
/// # Errors
/// On other shapes and types, and on a label that is no class.
pub fn cross_entropy(logits: &Tensor, labels: Arc<[u32]>) -> Result<Tensor> {
    logits.contiguous()?.apply_op1(CrossEntropy { labels, slopes: OnceLock::new() })
}
