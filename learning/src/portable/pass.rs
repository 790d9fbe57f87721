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
    pub(super) rows: f64,
}

/// Sums over observed batches, each times its rows.
#[derive(Default)]
pub(super) struct Observed {
    sums: Vec<[f64; 2]>,
    rows: f64,
}

impl Observed {
    pub(super) fn add(&mut self, seen: &Seen) {
        self.sums.resize(seen.mean.len(), [0.0; 2]);
        for (sum, (mean, variance)) in
            self.sums.iter_mut().zip(seen.mean.iter().zip(&seen.variance))
        {
            sum[0] += seen.rows * f64::from(*mean);
            sum[1] += seen.rows * f64::from(*variance);
        }
        self.rows += seen.rows;
    }

    fn moments(&self) -> [Vec<f32>; 2] {
        [0, 1].map(|kind| self.sums.iter().map(|sum| (sum[kind] / self.rows) as f32).collect())
    }
}

/// What a pass is for.
#[derive(Clone, Copy)]
pub(super) enum Mode<'a> {
    /// A step; dropout draws from this seed.
    Train(u64),
    /// Local statistics.
    Observe,
    /// Scores, by the local statistics of these layers.
    Predict(&'a HashMap<String, Observed>),
}

/// One pass: the parameters by name, the batch's lengths, and where dropout draws from.
pub(super) struct Pass<'a> {
    tensors: HashMap<&'a str, &'a Tensor>,
    batch: usize,
    lengths: &'a [u32],
    mode: Mode<'a>,
    /// Dropouts so far, counted as the CPU's engine counts them.
    streams: Cell<u64>,
    seen: RefCell<Vec<Seen>>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        tensors: HashMap<&'a str, &'a Tensor>,
        batch: &'a Batch,
        mode: Mode<'a>,
    ) -> Self {
        let (streams, seen) = (Cell::new(0), RefCell::new(Vec::new()));
        Self { tensors, batch: batch.size, lengths: &batch.lengths, mode, streams, seen }
    }

    pub(super) fn get(&self, name: &str) -> Result<&'a Tensor, LearningError> {
        let found = self.tensors.get(name).copied();
        found.ok_or_else(|| LearningError::NoTensor(name.to_owned()))
    }

    /// Weight and bias.
    pub(super) fn pair(&self, prefix: &str) -> Result<[&'a Tensor; 2], LearningError> {
        Ok([self.get(&format!("{prefix}.weight"))?, self.get(&format!("{prefix}.bias"))?])
    }

    /// The statistics that a layer normalises by, `[mean, variance]`; `None` for the batch's own.
    pub(super) fn observed(&self, layer: &str) -> Option<[Vec<f32>; 2]> {
        match self.mode {
            Mode::Predict(observed) => observed.get(layer).map(Observed::moments),
            _ => None,
        }
    }

    /// Whether layers normalise by the batch's own statistics.
    pub(super) fn learns(&self) -> bool {
        !matches!(self.mode, Mode::Predict(_))
    }

    /// Drops values while training.
    pub(super) fn dropped(&self, rate: f64, x: &Tensor) -> Result<Tensor, LearningError> {
        self.streams.set(self.streams.get() + 1);
        let Mode::Train(seed) = self.mode else { return Ok(x.clone()) };
        if rate == 0.0 {
            return Ok(x.clone());
        }
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
