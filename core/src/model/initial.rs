//! The first checkpoint, drawn from the job's seed: IEEE operations and the `libm` crate alone.

use std::sync::Arc;

use super::plan::Init;
use crate::params::{ParameterSet, Schema};
use crate::prg::Prg;

pub(super) fn initial(schema: &Arc<Schema>, inits: &[Init], job_seed: u64) -> ParameterSet {
    let mut parameters = ParameterSet::zeros(schema.clone());
    let values = parameters.values_mut();
    for (tensor, init) in schema.tensors().iter().zip(inits) {
        if let Some(values) = values.get_mut(tensor.offset..tensor.offset + tensor.len) {
            fill(values, *init, &mut Prg::for_name(job_seed, "init", &tensor.name));
        }
    }
    parameters
}

fn fill(values: &mut [f32], init: Init, prg: &mut Prg) {
    match init {
        Init::Zero => {}
        Init::One => values.fill(1.0),
        // 2u − 1 is exact for a u of 24 bits, so a value is rounded twice: the bound, the product.
        Init::Uniform(bound) => {
            let bound = bound as f32;
            values.iter_mut().for_each(|value| *value = (2.0 * prg.unit_f32() - 1.0) * bound);
        }
        Init::Normal(deviation) => {
            for pair in values.chunks_mut(2) {
                let normal = prg.normal_pair();
                for (value, normal) in pair.iter_mut().zip(normal) {
                    *value = (normal * deviation) as f32;
                }
            }
        }
    }
}
