//! Evaluation: how a checkpoint does on some data.

use tributary_core::metrics::Statistics;
use tributary_core::model::ModelSpec;
use tributary_core::params::ParameterSet;

use crate::LearningError;
use crate::device::{Compute, Engine};
use crate::network::Parameters;
use crate::threads;
use crate::train::{Control, check_data, check_schema, frozen_values, statistics};
use tributary_data::{Batch, Dataset};

/// Activations of one batch, 4 bytes each: 32 MiB.
const BATCH_ACTIVATIONS: usize = 1 << 23;
/// Largest batch: more gains nothing.
const BATCH_MAX: usize = 256;

/// What a client is asked to score.
#[derive(Debug, Clone, Copy)]
pub struct EvaluateTask<'a> {
    /// The model.
    pub model: &'a ModelSpec,
    /// Its trained parameters.
    pub checkpoint: &'a ParameterSet,
    /// The parameters that are never trained, for a model that has such.
    pub frozen: Option<&'a ParameterSet>,
    /// The site's training rows, which local statistics are taken from; the scored rows where there
    /// are none.
    pub own_rows: Option<&'a Dataset>,
    /// Threads and device.
    pub compute: Compute,
}

/// Scores every example with a checkpoint. The batch follows from the model alone, so the result
/// does not depend on threads or on how the model was trained.
///
/// # Errors
/// When data, parameters and model do not fit each other, and when the caller cancels. A model that
/// gives no finite numbers is scored, badly, and is no error.
pub fn evaluate(
    task: &EvaluateTask<'_>,
    data: &Dataset,
    control: &dyn Control,
) -> Result<Statistics, LearningError> {
    let model = task.model;
    check_data(model, data)?;
    check_schema(model.schema(), task.checkpoint)?;
    let frozen = frozen_values(model, task.frozen)?;
    let parameters = Parameters { trained: task.checkpoint.values(), frozen };
    let batch_size = BATCH_ACTIVATIONS / model.activations_per_example().max(1);
    let batch_size = batch_size.clamp(1, BATCH_MAX);
    let looked_at = if model.observes() { Some(task.own_rows.unwrap_or(data)) } else { None };
    if let Some(rows) = looked_at {
        check_data(model, rows)?;
    }
    let batches = |rows: &Dataset| rows.len().div_ceil(batch_size) as u64;
    let total = looked_at.map_or(0, batches) + batches(data);
    threads::within(task.compute.threads, || {
        let mut engine = Engine::new(model, task.compute.device)?;
        let mut statistics = statistics(data)?;
        let mut done = 0;
        let mut each =
            |rows: &Dataset, work: &mut dyn FnMut(&Batch) -> Result<(), LearningError>| {
                let indices: Vec<usize> = (0..rows.len()).collect();
                for indices in indices.chunks(batch_size) {
                    if control.cancelled() {
                        return Err(LearningError::Cancelled);
                    }
                    work(&rows.gather(indices)?)?;
                    done += 1;
                    control.progress(done, total);
                }
                Ok(())
            };
        if let Some(rows) = looked_at {
            each(rows, &mut |batch| engine.observe(parameters, batch))?;
        }
        each(data, &mut |batch| engine.score(parameters, batch, &mut statistics).map(|_| ()))?;
        Ok(statistics)
    })
}
