//! Elementwise activations.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use super::buffer::{argument, floats, gradient, result};
use super::pieces::ELEMENTS;

/// An activation whose derivative is a function of its result.
struct Activation {
    name: &'static str,
    value: fn(f32) -> f32,
    /// The argument's gradient from the result and the result's gradient.
    derivative: fn(f32, f32) -> f32,
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = argument(storage, layout)?;
        let mut out = vec![0.0; input.len()];
        out.par_chunks_mut(ELEMENTS).zip(input.par_chunks(ELEMENTS)).for_each(|(out, input)| {
            out.iter_mut().zip(input).for_each(|(out, input)| *out = (self.value)(*input));
        });
        result(out, layout.shape())
    }

    fn bwd(&self, input: &Tensor, out: &Tensor, gradient_out: &Tensor) -> Result<Option<Tensor>> {
        let gradient_out = gradient_out.contiguous()?;
        let (storage, layout) = gradient_out.storage_and_layout();
        let mut values = floats(&storage, layout)?.to_vec();
        let (storage, layout) = out.storage_and_layout();
        let out = floats(&storage, layout)?;
        values.par_chunks_mut(ELEMENTS).zip(out.par_chunks(ELEMENTS)).for_each(|(values, out)| {
            let pairs = values.iter_mut().zip(out);
            pairs.for_each(|(value, out)| *value = (self.derivative)(*out, *value));
        });
        gradient(values, input)
    }
}

/// max(x, 0); the gradient at 0 is 0. A NaN stays a NaN, so that a diverged model is seen.
pub(super) fn rectified(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// max(x, 0) of every element, in any shape.
///
/// # Errors
/// On another type than f32.
pub fn relu(input: &Tensor) -> Result<Tensor> {
    input.contiguous()?.apply_op1(Activation {
        name: "relu",
        value: rectified,
        derivative: |out, gradient| if out > 0.0 { gradient } else { 0.0 },
    })
}

/// The hyperbolic tangent of every element, in any shape.
///
/// # Errors
/// On another type than f32.
pub fn tanh(input: &Tensor) -> Result<Tensor> {
    input.contiguous()?.apply_op1(Activation {
        name: "tanh",
        value: libm::tanhf,
        derivative: |out, gradient| gradient * (1.0 - out * out),
    })
}
