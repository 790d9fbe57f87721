//! The fully connected layer over the last dimension, with an optional activation and adapter.

use tributary_core::model::Activation as Function;

use super::activation::{apply, derive};
use super::kernel::{Cx, Kernel, Place, sized};
use super::maths::{add_to, in_blocks, vectorised};
use super::matrix::{Hands, Matrix, multiply, multiply_into};
use super::pieces::{PIECES_MAX, cut};

use rayon::prelude::{IntoParallelIterator, ParallelIterator};

/// What follows the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinearActivation {
    None,
    Of(Function),
}

/// A low-rank addition to the weight: scale · B A.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adapter {
    /// `[rank, in]`.
    pub(crate) a: Place,
    /// `[out, rank]`.
    pub(crate) b: Place,
    pub(crate) scale: f32,
}

/// `x · weightᵀ + bias` of every row, with weight `[out, in]` and bias `[out]`.
pub(crate) struct Linear {
    weight: Place,
    bias: Place,
    features: usize,
    out: usize,
    activation: LinearActivation,
    adapter: Option<Adapter>,
    /// What went into an activation whose derivative needs it.
    before: Vec<f32>,
    /// `x · Aᵀ` of an adapter.
    low: Vec<f32>,
    low_slopes: Vec<f32>,
}

/// Products with fewer multiplications run on one thread: below, waking others costs more.
const THREADED: usize = 1 << 18;

/// Who should work on a product of these sizes.
pub(super) fn hands(m: usize, n: usize, k: usize) -> Hands {
    if m.saturating_mul(n).saturating_mul(k) < THREADED { Hands::One } else { Hands::All }
}

impl Linear {
    pub(crate) fn new(weight: Place, bias: Place, out: usize) -> Self {
        Self {
            weight,
            bias,
            features: weight.len / out.max(1),
            out,
            activation: LinearActivation::None,
            adapter: None,
            before: Vec::new(),
            low: Vec::new(),
            low_slopes: Vec::new(),
        }
    }

    pub(crate) fn activated(mut self, activation: LinearActivation) -> Self {
        self.activation = activation;
        self
    }

    pub(crate) fn adapted(mut self, adapter: Option<Adapter>) -> Self {
        self.adapter = adapter;
        self
    }

    fn rank(&self, adapter: &Adapter) -> usize {
        adapter.a.len / self.features.max(1)
    }

    /// `x · weightᵀ` and the adapter's part, without bias.
    fn products(&mut self, cx: &Cx<'_>, input: &[f32], rows: usize, out: &mut [f32]) {
        let (features, width) = (self.features, self.out);
        let x = Matrix::new(input, rows, features);
        let weight = Matrix::new(self.weight.of(cx), width, features).transposed();
        multiply(out, x, weight, false, hands(rows, width, features));
        let Some(adapter) = self.adapter else { return };
        let rank = self.rank(&adapter);
        let a = Matrix::new(adapter.a.of(cx), rank, features).transposed();
        multiply(sized(&mut self.low, rows * rank), x, a, false, hands(rows, rank, features));
        let low = Matrix::new(&self.low, rows, rank);
        let b = Matrix::new(adapter.b.of(cx), width, rank).transposed();
        multiply_into(out, width, low, b, adapter.scale, true, hands(rows, width, rank));
    }

    fn adapter_backward(
        &mut self,
        cx: &Cx<'_>,
        adapter: Adapter,
        [input, slopes]: [&[f32]; 2],
        into: Option<&mut [f32]>,
        gradients: &mut [f32],
    ) {
        let (features, width, rank) = (self.features, self.out, self.rank(&adapter));
        let rows = slopes.len() / width;
        let slopes = Matrix::new(slopes, rows, width);
        let low = Matrix::new(&self.low, rows, rank);
        if let Some(b) = adapter.b.gradient(gradients) {
            let hands = hands(width, rank, rows);
            multiply_into(b, rank, slopes.transposed(), low, adapter.scale, false, hands);
        }
        let b = Matrix::new(adapter.b.of(cx), width, rank);
        let low_slopes = sized(&mut self.low_slopes, rows * rank);
        multiply_into(low_slopes, rank, slopes, b, adapter.scale, false, hands(rows, rank, width));
        let low_slopes = Matrix::new(low_slopes, rows, rank);
        if let Some(a) = adapter.a.gradient(gradients) {
            let x = Matrix::new(input, rows, features);
            multiply(a, low_slopes.transposed(), x, false, hands(rank, features, rows));
        }
        if let Some(into) = into {
            let a = Matrix::new(adapter.a.of(cx), rank, features);
            multiply(into, low_slopes, a, true, hands(rows, features, rank));
        }
    }
}

impl Kernel for Linear {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let rows = input.len() / self.features.max(1);
        let out = sized(out, rows * self.out);
        self.products(cx, input, rows, out);
        let bias = self.bias.of(cx);
        let width = self.out;
        match self.activation {
            LinearActivation::Of(function @ (Function::Gelu | Function::Softmax)) => {
                add_bias(out, bias, width, None);
                let before = sized(&mut self.before, out.len());
                before.copy_from_slice(out);
                in_blocks!(out, |_, block| apply(function, block));
            }
            LinearActivation::Of(function) => add_bias(out, bias, width, Some(function)),
            LinearActivation::None => add_bias(out, bias, width, None),
        }
    }

    fn backward(
        &mut self,
        cx: &Cx<'_>,
        input: &[f32],
        out: &[f32],
        slopes: &mut Vec<f32>,
        into: Option<&mut Vec<f32>>,
        gradients: &mut [f32],
    ) {
        let (features, width) = (self.features, self.out);
        if let LinearActivation::Of(function) = self.activation {
            let before = &self.before;
            in_blocks!(slopes, |start, block| {
                let place = start..start + block.len();
                let before = before.get(place.clone()).unwrap_or_default();
                derive(function, block, before, &out[place]);
            });
        }
        let rows = input.len() / features.max(1);
        let matrix = Matrix::new(slopes, rows, width);
        if let Some(weight) = self.weight.gradient(gradients) {
            let x = Matrix::new(input, rows, features);
            multiply(weight, matrix.transposed(), x, false, hands(width, features, rows));
        }
        if let Some(bias) = self.bias.gradient(gradients) {
            column_sums(slopes, width, bias);
        }
        let mut into = into;
        if let Some(into) = into.as_deref_mut() {
            let weight = Matrix::new(self.weight.of(cx), width, features);
            let into = sized(into, rows * features);
            multiply(into, matrix, weight, false, hands(rows, features, width));
        }
        if let Some(adapter) = self.adapter {
            let into = into.map(|into| into.as_mut_slice());
            self.adapter_backward(cx, adapter, [input, slopes], into, gradients);
        }
    }
}

/// Adds a bias to every row, then applies a function.
pub(super) fn add_bias(rows: &mut [f32], bias: &[f32], width: usize, function: Option<Function>) {
    if rows.is_empty() {
        return;
    }
    let per_block = (super::pieces::ELEMENTS / width).max(1) * width;
    let block = |block: &mut [f32]| {
        vectorised!({
            for row in block.chunks_exact_mut(width) {
                add_to(row, bias);
                if let Some(function) = function {
                    apply(function, row);
                }
            }
        });
    };
    if rows.len() <= per_block {
        block(rows);
    } else {
        rayon::prelude::ParallelSliceMut::par_chunks_mut(rows, per_block).for_each(block);
    }
}

/// The sum of every column, in fixed pieces of rows added in their order.
pub(super) fn column_sums(values: &[f32], width: usize, sums: &mut [f32]) {
    let rows = values.len() / width.max(1);
    let pieces = cut(rows, (rows / 256).clamp(1, PIECES_MAX));
    let sum = |piece: &std::ops::Range<usize>, sums: &mut [f32]| {
        vectorised!({
            for row in values[piece.start * width..piece.end * width].chunks_exact(width) {
                add_to(sums, row);
            }
        });
    };
    sums.fill(0.0);
    if let [piece] = pieces.as_slice() {
        sum(piece, sums);
        return;
    }
    let parts: Vec<Vec<f32>> = pieces
        .into_par_iter()
        .map(|piece| {
            let mut part = vec![0.0; width];
            sum(&piece, &mut part);
            part
        })
        .collect();
    parts.iter().for_each(|part| add_to(sums, part));
}
