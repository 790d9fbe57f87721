//! The fully connected layer, with an optional rectifier.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::{
    IndexedParallelIterator, IntoParallelIterator, ParallelIterator, ParallelSliceMut,
};

use super::activation::rectified;
use super::buffer::{argument, floats, gradient, result};
use super::matrix::{Matrix, multiply};
use super::pieces::{PIECES_MAX, cut};

/// Fewest rows or columns of a product in one piece: below, a thread costs more than it saves.
const PIECE_MIN: usize = 64;

struct Linear {
    relu: bool,
}

/// `left × right`, the columns cut in pieces over the threads.
fn product(left: Matrix<'_>, right: Matrix<'_>, rows: usize, columns: usize) -> Vec<f32> {
    let pieces = cut(columns, (columns / PIECE_MIN).min(PIECES_MAX));
    let parts: Vec<Vec<f32>> = pieces
        .clone()
        .into_par_iter()
        .map(|piece| {
            let mut part = vec![0.0; rows * piece.len()];
            multiply(&mut part, left, right.columns(piece), false);
            part
        })
        .collect();
    if let [_] = pieces.as_slice() {
        return parts.into_iter().next().unwrap_or_default();
    }
    let mut whole = vec![0.0; rows * columns];
    for (piece, part) in pieces.iter().zip(&parts) {
        let lines = whole.chunks_exact_mut(columns).zip(part.chunks_exact(piece.len().max(1)));
        lines.for_each(|(line, part)| line[piece.clone()].copy_from_slice(part));
    }
    whole
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((batch, inputs), (outputs, columns)) = (l1.shape().dims2()?, l2.shape().dims2()?);
        if inputs != columns || l3.shape().dims1()? != outputs {
            bail!(
                "linear needs weight [out, {inputs}] and bias [out], got {:?} and {:?}",
                l2.shape(),
                l3.shape()
            )
        }
        let input = Matrix::new(argument(s1, l1)?, batch, inputs);
        let weight = Matrix::new(argument(s2, l2)?, outputs, inputs);
        let bias = argument(s3, l3)?;
        let mut out = product(input, weight.transposed(), batch, outputs);
        for line in out.chunks_exact_mut(outputs.max(1)) {
            line.iter_mut().zip(bias).for_each(|(out, bias)| *out += *bias);
            if self.relu {
                line.iter_mut().for_each(|out| *out = rectified(*out));
            }
        }
        result(out, (batch, outputs))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        gradient_out: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((batch, inputs), outputs) = (input.dims2()?, weight.dim(0)?);
        let gradient_out = gradient_out.contiguous()?;
        let (storage, layout) = gradient_out.storage_and_layout();
        let mut slopes = floats(&storage, layout)?.to_vec();
        if self.relu {
            let (storage, layout) = out.storage_and_layout();
            for (slope, out) in slopes.iter_mut().zip(floats(&storage, layout)?) {
                *slope = if *out > 0.0 { *slope } else { 0.0 };
            }
        }
        let (input_storage, layout) = input.storage_and_layout();
        let values = floats(&input_storage, layout)?;
        let (weight_storage, layout) = weight.storage_and_layout();
        let weights = Matrix::new(floats(&weight_storage, layout)?, outputs, inputs);
        let slope_matrix = Matrix::new(&slopes, batch, outputs);

        let input_gradient = if input.track_op() {
            gradient(product(slope_matrix, weights, batch, inputs), input)?
        } else {
            None
        };
        let weight_gradient = weight_gradient(slope_matrix, values, batch, inputs, outputs);
        let mut bias_gradient = vec![0.0; outputs];
        for line in slopes.chunks_exact(outputs.max(1)) {
            bias_gradient.iter_mut().zip(line).for_each(|(sum, slope)| *sum += *slope);
        }
        let weight_gradient = gradient(weight_gradient, weight)?;
        Ok((input_gradient, weight_gradient, gradient(bias_gradient, bias)?))
    }
}

/// `slopesᵀ × values`, the output rows cut in pieces over the threads.
fn weight_gradient(
    slopes: Matrix<'_>,
    values: &[f32],
    batch: usize,
    inputs: usize,
    outputs: usize,
) -> Vec<f32> {
    let mut weight = vec![0.0; outputs * inputs];
    let rows = outputs.div_ceil(PIECES_MAX).max(PIECE_MIN / 2);
    weight.par_chunks_mut((rows * inputs).max(1)).enumerate().for_each(|(index, part)| {
        let piece = index * rows..((index + 1) * rows).min(outputs);
        let left = slopes.columns(piece).transposed();
        multiply(part, left, Matrix::new(values, batch, inputs), false);
    });
    weight
}

/// `input · weightᵀ + bias`, then max(·, 0) where `relu` is set: `[batch, in]` to `[batch, out]`,
/// with weight `[out, in]` and bias `[out]`.
///
/// # Errors
/// On other shapes and types.
pub fn linear(input: &Tensor, weight: &Tensor, bias: &Tensor, relu: bool) -> Result<Tensor> {
    input.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear { relu })
}
