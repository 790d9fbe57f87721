//! From a sequence to one row: the mean, the first or the last step; and the mean of channels.

use super::kernel::{Cx, Kernel, sized, zeroed};
use super::maths::add_to;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepPoolKind {
    /// The mean over the steps that are not padding.
    Mean,
    /// The first step.
    First,
    /// The last step that is not padding.
    Last,
    /// The mean over all rows, padding or not (the pixels of a picture).
    All,
}

/// `[batch, steps, features]` to `[batch, features]`.
pub(crate) struct StepPool {
    kind: StepPoolKind,
    steps: usize,
    features: usize,
}

impl StepPool {
    pub(crate) fn new(kind: StepPoolKind, steps: usize, features: usize) -> Self {
        Self { kind, steps, features }
    }

    /// The steps that count for an example.
    fn counted(&self, cx: &Cx<'_>, example: usize) -> std::ops::Range<usize> {
        let length = cx.length(example, self.steps).max(1);
        match self.kind {
            StepPoolKind::Mean => 0..length,
            StepPoolKind::First => 0..1,
            StepPoolKind::Last => length - 1..length,
            StepPoolKind::All => 0..self.steps,
        }
    }
}

impl Kernel for StepPool {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let (features, size) = (self.features, self.steps * self.features);
        let out = zeroed(out, cx.batch * features);
        for (example, out) in out.chunks_exact_mut(features).enumerate() {
            let counted = self.counted(cx, example);
            let share = 1.0 / counted.len() as f32;
            let rows = &input[example * size..][counted.start * features..counted.end * features];
            rows.chunks_exact(features).for_each(|row| add_to(out, row));
            if counted.len() > 1 {
                out.iter_mut().for_each(|out| *out *= share);
            }
        }
    }

    fn backward(
        &mut self,
        cx: &Cx<'_>,
        input: &[f32],
        _: &[f32],
        slopes: &mut Vec<f32>,
        into: Option<&mut Vec<f32>>,
        _: &mut [f32],
    ) {
        let Some(into) = into else { return };
        let (features, size) = (self.features, self.steps * self.features);
        let into = sized(into, input.len());
        into.fill(0.0);
        let examples = into.chunks_exact_mut(size).zip(slopes.chunks_exact(features));
        for (example, (into, slopes)) in examples.enumerate() {
            let counted = self.counted(cx, example);
            let share = 1.0 / counted.len() as f32;
            let rows = &mut into[counted.start * features..counted.end * features];
            for row in rows.chunks_exact_mut(features) {
                row.iter_mut().zip(slopes).for_each(|(row, slope)| *row = slope * share);
            }
        }
    }
}
