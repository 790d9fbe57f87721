//! Training: a client's passes over its own data, from a checkpoint to an update.

use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use tributary_core::metrics::Statistics;
use tributary_core::model::ModelSpec;
use tributary_core::name::ClientName;
use tributary_core::params::ParameterSet;
use tributary_core::prg::Prg;
use tributary_core::spec::train::TrainSpec;

use crate::LearningError;
use crate::data::Dataset;
use crate::model::Network;
use crate::ops;
use crate::optimizer;
use crate::threads;

/// Most activations of one batch, 4 bytes each and about twice that with their slopes: 8 GiB.
const BATCH_ACTIVATIONS_MAX: usize = 1 << 30;

/// What a client is asked to train. Nothing else has a part in the result: no attempt, no time, and
/// no number of threads.
#[derive(Debug, Clone, Copy)]
pub struct TrainTask<'a> {
    /// The model.
    pub model: &'a ModelSpec,
    /// How to train it.
    pub train: &'a TrainSpec,
    /// The job's seed.
    pub job_seed: u64,
    /// The round.
    pub round: u32,
    /// The client whose task it is.
    pub client: &'a ClientName,
    /// Where training begins.
    pub checkpoint: &'a ParameterSet,
    /// How many threads may work.
    pub threads: usize,
}

/// How the caller watches work and stops it.
pub trait Control: Sync {
    /// Told after each batch.
    fn progress(&self, done_batches: u64, total_batches: u64);
    /// Asked before each batch; `true` ends the work with [`LearningError::Cancelled`].
    fn cancelled(&self) -> bool;
}

/// What training made.
#[derive(Clone, PartialEq)]
pub struct TrainOutcome {
    /// New parameters less the checkpoint's, flat, in the schema's order.
    pub update: Vec<f32>,
    /// How many examples the client has (each counts once, however many epochs there were).
    pub examples: u64,
    /// How the model did in the last epoch, each batch scored before its own step.
    pub statistics: Statistics,
    /// How many steps were made.
    pub steps: u64,
}

impl fmt::Debug for TrainOutcome {
    /// Without the update's millions of numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainOutcome")
            .field("update", &format_args!("{} values", self.update.len()))
            .field("examples", &self.examples)
            .field("statistics", &self.statistics)
            .field("steps", &self.steps)
            .finish()
    }
}

/// Trains on a client's data.
///
/// The order of examples is drawn from (job seed, round, client); each epoch is shuffled anew, and
/// its last batch takes what is left. The same task gives the same bytes on the same build and kind
/// of CPU.
///
/// # Errors
/// When data, checkpoint and model do not fit each other, when training diverges, and when the
/// caller cancels.
pub fn train(
    task: &TrainTask<'_>,
    data: &Dataset,
    control: &dyn Control,
) -> Result<TrainOutcome, LearningError> {
    check_data(task.model, data)?;
    let batch_size = (task.train.batch_size.max(1) as usize).min(data.len());
    let found = task.model.activations_per_example().saturating_mul(batch_size);
    if found > BATCH_ACTIVATIONS_MAX {
        return Err(LearningError::TooLarge { found, max: BATCH_ACTIVATIONS_MAX });
    }
    threads::within(task.threads, || Run::new(task, data, control)?.run(batch_size))
}

/// Whether the data has examples that fit the model.
pub(crate) fn check_data(model: &ModelSpec, data: &Dataset) -> Result<(), LearningError> {
    if data.is_empty() {
        return Err(LearningError::NoExamples);
    }
    if data.shape() != model.input() {
        let (expected, found) = (model.input().to_vec(), data.shape().to_vec());
        return Err(LearningError::Shape { expected, found });
    }
    if data.classes() as usize != model.outputs() {
        let (expected, found) = (model.outputs(), data.classes());
        return Err(LearningError::Classes { expected, found });
    }
    Ok(())
}

/// A batch as the network takes it: `[batch, …shape]`, and the labels.
pub(crate) fn batch(
    data: &Dataset,
    indices: &[usize],
) -> Result<(Tensor, Arc<[u32]>), LearningError> {
    let (values, labels) = data.gather(indices)?;
    let shape = [&[indices.len()], data.shape()].concat();
    Ok((Tensor::from_vec(values, shape, &Device::Cpu)?, labels.into()))
}

struct Run<'a> {
    task: &'a TrainTask<'a>,
    data: &'a Dataset,
    control: &'a dyn Control,
    network: Network,
    optimizer: optimizer::State,
    steps: u64,
}

impl<'a> Run<'a> {
    fn new(
        task: &'a TrainTask<'a>,
        data: &'a Dataset,
        control: &'a dyn Control,
    ) -> Result<Self, LearningError> {
        let network = Network::trainable(task.model, task.checkpoint)?;
        let sizes = network.parameters().iter().map(Tensor::elem_count);
        let optimizer = optimizer::State::new(task.train.optimizer, sizes);
        Ok(Self { task, data, control, network, optimizer, steps: 0 })
    }

    fn run(mut self, batch_size: usize) -> Result<TrainOutcome, LearningError> {
        let epochs = u64::from(self.task.train.local_epochs.max(1));
        let total = epochs * self.data.len().div_ceil(batch_size) as u64;
        let mut prg =
            Prg::for_client(self.task.job_seed, self.task.round, self.task.client, "shuffle");
        let mut order: Vec<usize> = (0..self.data.len()).collect();
        let mut statistics = Statistics::new(self.data.classes())?;
        for epoch in 1..=epochs {
            prg.shuffle(&mut order);
            for indices in order.chunks(batch_size) {
                if self.control.cancelled() {
                    return Err(LearningError::Cancelled);
                }
                let counted = (epoch == epochs).then_some(&mut statistics);
                self.step(indices, counted)?;
                self.control.progress(self.steps, total);
            }
        }
        let values = self.network.values()?;
        let pairs = values.iter().zip(self.task.checkpoint.values());
        let update: Vec<f32> = pairs.map(|(new, old)| new - old).collect();
        if !update.iter().all(|value| value.is_finite()) {
            return Err(LearningError::Diverged { step: self.steps });
        }
        Ok(TrainOutcome { update, examples: self.data.len() as u64, statistics, steps: self.steps })
    }

    fn step(
        &mut self,
        indices: &[usize],
        counted: Option<&mut Statistics>,
    ) -> Result<(), LearningError> {
        self.steps += 1;
        let (input, labels) = batch(self.data, indices)?;
        let logits = self.network.forward(&input)?;
        if let Some(statistics) = counted {
            record(statistics, &logits, &labels)?;
        }
        let loss = self.network.loss(&logits, labels)?;
        if !loss.to_scalar::<f32>()?.is_finite() {
            return Err(LearningError::Diverged { step: self.steps });
        }
        let gradients = self.network.gradients(&loss)?;
        self.optimizer.step(self.network.parameters(), &gradients)?;
        Ok(())
    }
}

/// Adds a batch's scores to statistics.
pub(crate) fn record(
    statistics: &mut Statistics,
    logits: &Tensor,
    labels: &[u32],
) -> Result<(), LearningError> {
    for (score, &label) in ops::scores(logits, labels)?.into_iter().zip(labels) {
        statistics.record(label, score.predicted, score.loss)?;
    }
    Ok(())
}
