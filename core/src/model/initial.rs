//! The first checkpoint, drawn from the job's seed with IEEE operations alone.

use std::sync::Arc;

use crate::params::{ParameterSet, Schema, Tensor};
use crate::prg::Prg;

pub(super) fn initial(schema: &Arc<Schema>, job_seed: u64) -> ParameterSet {
    let mut parameters = ParameterSet::zeros(schema.clone());
    let values = parameters.values_mut();
    for tensor in schema.tensors() {
        let place = tensor.offset..tensor.offset + tensor.len;
        if let (Some(fan_in), Some(values)) = (fan_in(tensor), values.get_mut(place)) {
            fill(values, fan_in, &mut Prg::for_name(job_seed, "init", &tensor.name));
        }
    }
    parameters
}

/// How many inputs each output sums over; `None` for a bias, which begins at zero.
fn fan_in(tensor: &Tensor) -> Option<usize> {
    let inner = tensor.shape.get(1..).filter(|inner| !inner.is_empty())?;
    Some(inner.iter().product())
}

/// Uniform in ±√(6 ⁄ fan_in). 2u − 1 is exact for a u of 24 bits, so a value is rounded twice: the
/// bound, and the product.
fn fill(values: &mut [f32], fan_in: usize, prg: &mut Prg) {
    let bound = (6.0 / fan_in as f64).sqrt() as f32;
    for value in values {
        *value = (2.0 * prg.unit_f32() - 1.0) * bound;
    }
}
