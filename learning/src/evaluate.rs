//! Evaluation: how a checkpoint does on some data.

use tributary_core::metrics::Statistics;
use tributary_core::model::ModelSpec;
use tributary_core::params::ParameterSet;

use crate::LearningError;
use crate::device::{Compute, Engine};
use crate::network::Parameters;
use crate::threads;
use crate::train::{Control, check_data, check_schema, frozen_values, statistics};
use tributary_data::Dataset;

/// Activations of one batch, 4 bytes each: 32 MiB.
const BATCH_ACTIVATIONS: usize = 1 << 23;
/// Largest batch: more gains nothing.
const BATCH_MAX: usize = 256;

/// Scores every example with a checkpoint. The batch follows from the model alone, so the result
/// does not depend on threads or on how the model was trained.
///
/// # Errors
/// When data, parameters and model do not fit each other, and when the caller cancels. A model that
/// gives no finite numbers is scored, badly, and is no error.
pub fn evaluate(
    model: &ModelSpec,
    parameters: &ParameterSet,
    frozen: Option<&ParameterSet>,
    data: &Dataset,
    compute: Compute,
    control: &dyn Control,
) -> Result<Statistics, LearningError> {
    check_data(model, data)?;
    check_schema(model.schema(), parameters)?;
    let frozen = frozen_values(model, frozen)?;
    let batch_size = BATCH_ACTIVATIONS / model.activations_per_example().max(1);
    let batch_size = batch_size.clamp(1, BATCH_MAX);
    threads::within(compute.threads, || {
        let mut engine = Engine::new(model, compute.device)?;
        let parameters = Parameters { trained: parameters.values(), frozen };
        let mut statistics = statistics(data)?;
        let indices: Vec<usize> = (0..data.len()).collect();
        let batches = indices.chunks(batch_size);
        let total = batches.len() as u64;
        for (done, indices) in batches.enumerate() {
            if control.cancelled() {
                return Err(LearningError::Cancelled);
            }
            engine.score(parameters, &data.gather(indices)?, &mut statistics)?;
            control.progress(done as u64 + 1, total);
        }
        Ok(statistics)
    })
}
