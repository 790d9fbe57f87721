//! Tables of rows: for tokens, and for places.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSliceMut};

use super::kernel::{Cx, Kernel, Place, sized};
use super::maths::{add_to, vectorised};

/// The row of each token: `[batch, steps]` to `[batch, steps, dimension]`.
pub(crate) struct Embedding {
    table: Place,
    dimension: usize,
    /// The rows whose gradients are not zero since the last way back.
    touched: Vec<u32>,
    fresh: bool,
}

impl Embedding {
    pub(crate) fn new(table: Place, dimension: usize) -> Self {
        Self { table, dimension, touched: Vec::new(), fresh: true }
    }
}

impl Kernel for Embedding {
    fn forward(&mut self, cx: &Cx<'_>, _: &[f32], out: &mut Vec<f32>) {
        let (table, dimension) = (self.table.of(cx), self.dimension);
        let out = sized(out, cx.tokens.len() * dimension);
        for (out, &token) in out.chunks_exact_mut(dimension).zip(cx.tokens) {
            let start = token as usize * dimension;
            out.copy_from_slice(&table[start..start + dimension]);
        }
    }

    fn backward(
        &mut self,
        cx: &Cx<'_>,
        _: &[f32],
        _: &[f32],
        slopes: &mut Vec<f32>,
        _: Option<&mut Vec<f32>>,
        gradients: &mut [f32],
    ) {
        let dimension = self.dimension;
        let Some(gradient) = self.table.gradient(gradients) else { return };
        // Only the rows of the last step's tokens can be other than zero.
        if std::mem::take(&mut self.fresh) {
            gradient.fill(0.0);
        }
        for row in self.touched.drain(..) {
            let start = row as usize * dimension;
            gradient[start..start + dimension].fill(0.0);
        }
        vectorised!({
            for (slopes, &token) in slopes.chunks_exact(dimension).zip(cx.tokens) {
                let start = token as usize * dimension;
                add_to(&mut gradient[start..start + dimension], slopes);
            }
        });
        self.touched.extend_from_slice(cx.tokens);
    }
}

/// Adds a row to each step of `[batch, steps, features]`.
pub(crate) struct Positions {
    /// The table `[length, features]`; none for fixed sines and cosines.
    table: Option<Place>,
    fixed: Vec<f32>,
    size: usize,
}

impl Positions {
    /// A trained table.
    pub(crate) fn learned(table: Place, steps: usize, features: usize) -> Self {
        Self { table: Some(table), fixed: Vec::new(), size: steps * features }
    }

    /// sin(p ⁄ 10000^(2i ⁄ d)) and cos of the same, in turn (Vaswani et al. 2017, section 3.5).
    pub(crate) fn sinusoidal(steps: usize, features: usize) -> Self {
        let mut fixed = Vec::with_capacity(steps * features);
        for step in 0..steps {
            for feature in 0..features {
                let power = (feature / 2 * 2) as f64 / features as f64;
                let angle = step as f64 / libm::pow(10_000.0, power);
                let value = if feature % 2 == 0 { libm::sin(angle) } else { libm::cos(angle) };
                fixed.push(value as f32);
            }
        }
        Self { table: None, fixed, size: steps * features }
    }

    /// The row of token type 0 for every step, as BERT has it.
    pub(crate) fn constant(table: Place, steps: usize, features: usize) -> Self {
        Self { table: Some(table.part(0, features)), fixed: Vec::new(), size: steps * features }
    }
}

impl Kernel for Positions {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let rows = self.table.map_or(self.fixed.as_slice(), |table| table.of(cx));
        // A table of one row is repeated; a longer one has a row for each step.
        let period = rows.len().min(self.size);
        let out = sized(out, input.len());
        out.par_chunks_exact_mut(period).enumerate().for_each(|(index, out)| {
            vectorised!({
                let input = &input[index * period..(index + 1) * period];
                for ((out, x), place) in out.iter_mut().zip(input).zip(rows) {
                    *out = x + place;
                }
            });
        });
    }

    fn backward(
        &mut self,
        _: &Cx<'_>,
        _: &[f32],
        _: &[f32],
        slopes: &mut Vec<f32>,
        into: Option<&mut Vec<f32>>,
        gradients: &mut [f32],
    ) {
        let gradient = self.table.and_then(|table| table.gradient(gradients));
        if let Some(gradient) = gradient {
            let period = gradient.len().min(self.size);
            gradient.fill(0.0);
            vectorised!({
                slopes.chunks_exact(period).for_each(|example| add_to(gradient, example));
            });
        }
        if let Some(into) = into {
            std::mem::swap(slopes, into);
        }
    }
}
