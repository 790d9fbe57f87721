//! What one pass through a model reads, and what it leaves behind.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use candle_core::Tensor;
use tributary_data::Batch;

use crate::LearningError;
use crate::ops::Mask;

/// Moments of a batch that running statistics follow.
pub(super) struct Seen {
    pub(super) layer: String,
    pub(super) momentum: f64,
    pub(super) mean: Vec<f32>,
    /// Unbiased.
    pub(super) variance: Vec<f32>,
}

/// One pass: the parameters by name, the batch's lengths, and where dropout draws from.
pub(super) struct Pass<'a> {
    tensors: HashMap<&'a str, &'a Tensor>,
    batch: usize,
    lengths: &'a [u32],
    /// `None` outside training.
    seed: Option<u64>,
    /// Dropouts so far, counted as the CPU's engine counts them.
    streams: Cell<u64>,
    seen: RefCell<Vec<Seen>>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        tensors: HashMap<&'a str, &'a Tensor>,
        batch: &'a Batch,
        seed: Option<u64>,
    ) -> Self {
        let (streams, seen) = (Cell::new(0), RefCell::new(Vec::new()));
        Self { tensors, batch: batch.size, lengths: &batch.lengths, seed, streams, seen }
    }

    pub(super) fn get(&self, name: &str) -> Result<&'a Tensor, LearningError> {
        let found = self.tensors.get(name).copied();
        found.ok_or_else(|| LearningError::NoTensor(name.to_owned()))
    }

    /// Weight and bias.
    pub(super) fn pair(&self, prefix: &str) -> Result<[&'a Tensor; 2], LearningError> {
        Ok([self.get(&format!("{prefix}.weight"))?, self.get(&format!("{prefix}.bias"))?])
    }

    pub(super) fn training(&self) -> bool {
        self.seed.is_some()
    }

    /// Drops values while training.
    pub(super) fn dropped(&self, rate: f64, x: &Tensor) -> Result<Tensor, LearningError> {
        self.streams.set(self.streams.get() + 1);
        let Some(seed) = self.seed.filter(|_| rate > 0.0) else { return Ok(x.clone()) };
        let mut mask = vec![1.0; x.elem_count()];
        Mask::new(self.streams.get(), rate).multiply(seed, 0, &mut mask);
        Ok((x * Tensor::from_vec(mask, x.shape(), x.device())?)?)
    }

    /// Whether some steps are padding.
    pub(super) fn padded(&self) -> bool {
        !self.lengths.is_empty()
    }

    /// The steps of an example that are no padding; at least one.
    pub(super) fn length(&self, example: usize, steps: usize) -> usize {
        self.lengths.get(example).map_or(steps, |&length| (length as usize).clamp(1, steps))
    }

    /// A value for each example and step, `[batch, steps]`; `value` gets a step and the length.
    pub(super) fn by_step(
        &self,
        steps: usize,
        x: &Tensor,
        value: impl Fn(usize, usize) -> f32,
    ) -> Result<Tensor, LearningError> {
        let rows = (0..self.batch).flat_map(|example| {
            let length = self.length(example, steps);
            (0..steps).map(move |step| (step, length))
        });
        let values: Vec<f32> = rows.map(|(step, length)| value(step, length)).collect();
        Ok(Tensor::from_vec(values, (self.batch, steps), x.device())?)
    }

    pub(super) fn saw(&self, seen: Seen) {
        self.seen.borrow_mut().push(seen);
    }

    pub(super) fn into_seen(self) -> Vec<Seen> {
        self.seen.into_inner()
    }
}
