//! Elementwise activations, and softmax over rows.

use tributary_core::model::Activation as Function;

use super::kernel::{Cx, Kernel, sized};
use super::maths::{dot, in_blocks, normal, rectified, sigmoid, softmax, tanh};

/// A function of every value, or of every row.
pub(crate) struct Activation {
    function: Function,
    /// Values of a row, for softmax.
    features: usize,
}

impl Activation {
    pub(crate) fn new(function: Function, features: usize) -> Self {
        Self { function, features: features.max(1) }
    }
}

/// The function of every value of a block, in place.
#[inline(always)]
pub(super) fn apply(function: Function, block: &mut [f32]) {
    match function {
        Function::Relu => block.iter_mut().for_each(|x| *x = rectified(*x)),
        Function::Gelu => block.iter_mut().for_each(|x| *x *= normal(*x).0),
        Function::Tanh => block.iter_mut().for_each(|x| *x = tanh(*x)),
        Function::Sigmoid => block.iter_mut().for_each(|x| *x = sigmoid(*x)),
        Function::Softmax => {}
    }
}

impl Kernel for Activation {
    fn forward(&mut self, _: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let (function, out) = (self.function, sized(out, input.len()));
        if function == Function::Softmax {
            out.copy_from_slice(input);
            out.chunks_exact_mut(self.features).for_each(softmax);
            return;
        }
        in_blocks!(out, |start, block| {
            block.copy_from_slice(&input[start..start + block.len()]);
            apply(function, block);
        });
    }

    fn backward(
        &mut self,
        _: &Cx<'_>,
        input: &[f32],
        out: &[f32],
        slopes: &mut Vec<f32>,
        into: Option<&mut Vec<f32>>,
        _: &mut [f32],
    ) {
        let Some(into) = into else { return };
        let function = self.function;
        if function == Function::Softmax {
            let rows = slopes.chunks_exact_mut(self.features).zip(out.chunks_exact(self.features));
            for (slopes, out) in rows {
                let mean = dot(slopes, out);
                slopes.iter_mut().zip(out).for_each(|(slope, out)| *slope = (*slope - mean) * out);
            }
        } else {
            in_blocks!(slopes, |start, block| {
                let place = start..start + block.len();
                derive(function, block, &input[place.clone()], &out[place]);
            });
        }
        std::mem::swap(slopes, into);
    }
}

/// Multiplies slopes by the function's derivative.
#[inline(always)]
pub(super) fn derive(function: Function, slopes: &mut [f32], input: &[f32], out: &[f32]) {
    match function {
        Function::Relu => {
            let pairs = slopes.iter_mut().zip(out);
            pairs.for_each(|(slope, out)| *slope = if *out > 0.0 { *slope } else { 0.0 });
        }
        Function::Gelu => {
            for (slope, x) in slopes.iter_mut().zip(input) {
                let (below, density) = normal(*x);
                *slope *= below + x * density;
            }
        }
        Function::Tanh => {
            slopes.iter_mut().zip(out).for_each(|(slope, out)| *slope *= 1.0 - out * out);
        }
        Function::Sigmoid => {
            slopes.iter_mut().zip(out).for_each(|(slope, out)| *slope *= out * (1.0 - out));
        }
        Function::Softmax => {}
    }
}
