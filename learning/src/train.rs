//! Training: a client's passes over its own data, from a checkpoint to an update.

use std::fmt;

use tributary_core::metrics::{Measure, Statistics};
use tributary_core::model::{Loss, ModelSpec};
use tributary_core::name::ClientName;
use tributary_core::params::{ParameterSet, Schema};
use tributary_core::prg::Prg;
use tributary_core::spec::train::TrainSpec;

use crate::LearningError;
use crate::device::{Compute, Engine};
use crate::network::Parameters;
use crate::optimizer::{State, Terms};
use crate::threads;
use tributary_data::Dataset;

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
    /// How many rounds the job has, for schedules.
    pub rounds: u32,
    /// The client whose task it is.
    pub client: &'a ClientName,
    /// Where training begins.
    pub checkpoint: &'a ParameterSet,
    /// The parameters that are never trained, for a model that has such.
    pub frozen: Option<&'a ParameterSet>,
    /// Threads and device.
    pub compute: Compute,
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
    threads::within(task.compute.threads, || Run::new(task, data, control)?.run(batch_size))
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
    let need = |expected: String, found: String| Err(LearningError::Need { expected, found });
    let vocabulary = data.vocabulary() as usize;
    match model.vocabulary() {
        Some(rows) if vocabulary == 0 || vocabulary > rows => {
            return need(format!("tokens below {rows}"), format!("a vocabulary of {vocabulary}"));
        }
        None if vocabulary > 0 => return need("numbers".to_owned(), "tokens".to_owned()),
        _ => {}
    }
    let outputs = model.output().last().copied().unwrap_or(0);
    let (classes, width) = (data.classes() as usize, data.width());
    let fits = match model.loss() {
        Loss::CrossEntropy { .. } => classes == outputs,
        Loss::BinaryCrossEntropy => (classes == 2 && outputs == 1) || width == outputs,
        Loss::Mse => width == outputs,
        Loss::NextTokenCrossEntropy => classes == 0 && width == 0 && vocabulary > 0,
    };
    if fits {
        return Ok(());
    }
    let found = format!("{classes} classes and {width} numbers to predict");
    need(format!("targets for {outputs} outputs under {}", model.loss().word()), found)
}

/// Empty statistics of what a model predicts of some data.
pub(crate) fn statistics(data: &Dataset) -> Result<Statistics, LearningError> {
    let measure = match (data.classes(), data.width()) {
        (0, 0) => Measure::Tokens,
        (0, width) => Measure::Values(u32::try_from(width).unwrap_or(u32::MAX)),
        (classes, _) => Measure::Classes(classes),
    };
    Ok(Statistics::of(measure)?)
}

/// The frozen parameters as a model wants them.
pub(crate) fn frozen_values<'a>(
    model: &ModelSpec,
    frozen: Option<&'a ParameterSet>,
) -> Result<&'a [f32], LearningError> {
    match (model.frozen_schema(), frozen) {
        (None, _) => Ok(&[]),
        (Some(schema), Some(values)) => {
            check_schema(schema, values)?;
            Ok(values.values())
        }
        (Some(_), None) => {
            let base = model.base().map_or_else(String::new, |base| base.to_string());
            Err(LearningError::NoBase { base })
        }
    }
}

/// Whether parameters are a schema's.
pub(crate) fn check_schema(schema: &Schema, values: &ParameterSet) -> Result<(), LearningError> {
    if schema == values.schema().as_ref() {
        return Ok(());
    }
    let (expected, found) = (schema.digest().to_string(), values.schema().digest().to_string());
    Err(LearningError::Schema { expected, found })
}

struct Run<'a> {
    task: &'a TrainTask<'a>,
    data: &'a Dataset,
    control: &'a dyn Control,
    engine: Engine,
    optimizer: State,
    values: Vec<f32>,
    frozen: &'a [f32],
    rate_factor: f64,
    steps: u64,
}

impl<'a> Run<'a> {
    fn new(
        task: &'a TrainTask<'a>,
        data: &'a Dataset,
        control: &'a dyn Control,
    ) -> Result<Self, LearningError> {
        check_schema(task.model.schema(), task.checkpoint)?;
        let frozen = frozen_values(task.model, task.frozen)?;
        let values = task.checkpoint.values().to_vec();
        let optimizer = State::new(task.train.optimizer, values.len());
        let rate_factor = task.train.schedule.factor(task.round, task.rounds);
        let engine = Engine::new(task.model, task.compute.device)?;
        Ok(Self { task, data, control, engine, optimizer, values, frozen, rate_factor, steps: 0 })
    }

    fn run(mut self, batch_size: usize) -> Result<TrainOutcome, LearningError> {
        let epochs = u64::from(self.task.train.local_epochs.max(1));
        let total = epochs * self.data.len().div_ceil(batch_size) as u64;
        let draw = |purpose| {
            Prg::for_client(self.task.job_seed, self.task.round, self.task.client, purpose)
        };
        let (mut shuffle, mut drops) = (draw("shuffle"), draw("dropout"));
        let mut order: Vec<usize> = (0..self.data.len()).collect();
        let mut statistics = statistics(self.data)?;
        for epoch in 1..=epochs {
            self.data.shuffle(&mut order, &mut shuffle);
            for indices in order.chunks(batch_size) {
                if self.control.cancelled() {
                    return Err(LearningError::Cancelled);
                }
                let counted = (epoch == epochs).then_some(&mut statistics);
                self.step(indices, drops.next_u64(), counted)?;
                self.control.progress(self.steps, total);
            }
        }
        let pairs = self.values.iter().zip(self.task.checkpoint.values());
        let update: Vec<f32> = pairs.map(|(new, old)| new - old).collect();
        if !update.iter().all(|value| value.is_finite()) {
            return Err(LearningError::Diverged { step: self.steps });
        }
        Ok(TrainOutcome { update, examples: self.data.len() as u64, statistics, steps: self.steps })
    }

    fn step(
        &mut self,
        indices: &[usize],
        seed: u64,
        counted: Option<&mut Statistics>,
    ) -> Result<(), LearningError> {
        self.steps += 1;
        let batch = self.data.gather(indices)?;
        let parameters = Parameters { trained: &self.values, frozen: self.frozen };
        let loss = self.engine.learn(parameters, &batch, seed, counted)?;
        if !loss.is_finite() {
            return Err(LearningError::Diverged { step: self.steps });
        }
        let train = self.task.train;
        let anchor = self.task.checkpoint.values();
        let terms = Terms {
            rate_factor: Some(self.rate_factor),
            clip_norm: train.clip_norm,
            proximal: (train.proximal_mu > 0.0).then_some((train.proximal_mu, anchor)),
        };
        let (gradients, ranges) = self.engine.gradients();
        self.optimizer.step(&mut self.values, gradients, ranges, &terms);
        self.engine.settle(&mut self.values);
        Ok(())
    }
}
