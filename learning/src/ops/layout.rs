//! Moving the channels of pictures, and ways around layers.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use super::kernel::{Chain, Cx, Kernel, sized};
use super::maths::{add_to, in_blocks};

/// Each example's `[rows, columns]` to `[columns, rows]`.
pub(crate) struct Relayout {
    rows: usize,
    columns: usize,
}

impl Relayout {
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns }
    }
}

/// Every example's matrix, transposed.
fn transpose(from: &[f32], rows: usize, columns: usize, to: &mut [f32]) {
    let size = (rows * columns).max(1);
    to.par_chunks_exact_mut(size).zip(from.par_chunks_exact(size)).for_each(|(to, from)| {
        for (row, line) in from.chunks_exact(columns).enumerate() {
            for (column, value) in line.iter().enumerate() {
                to[column * rows + row] = *value;
            }
        }
    });
}

impl Kernel for Relayout {
    fn forward(&mut self, _: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        transpose(input, self.rows, self.columns, sized(out, input.len()));
    }

    fn backward(
        &mut self,
        _: &Cx<'_>,
        _: &[f32],
        _: &[f32],
        slopes: &mut Vec<f32>,
        into: Option<&mut Vec<f32>>,
        _: &mut [f32],
    ) {
        if let Some(into) = into {
            transpose(slopes, self.columns, self.rows, sized(into, slopes.len()));
        }
    }
}

/// layers(x) + shortcut(x) (He et al. 2016).
pub(crate) struct Residual {
    layers: Chain,
    shortcut: Chain,
}

impl Residual {
    pub(crate) fn new(layers: Chain, shortcut: Chain) -> Self {
        Self { layers, shortcut }
    }
}

impl Kernel for Residual {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let long = self.layers.forward(cx, input);
        sized(out, long.len()).copy_from_slice(long);
        add_blocks(out, self.shortcut.forward(cx, input));
    }

    fn backward(
        &mut self,
        cx: &Cx<'_>,
        input: &[f32],
        _: &[f32],
        slopes: &mut Vec<f32>,
        into: Option<&mut Vec<f32>>,
        gradients: &mut [f32],
    ) {
        let wanted = into.is_some();
        let long = self.layers.backward(cx, input, slopes, wanted, gradients);
        let short = self.shortcut.backward(cx, input, slopes, wanted, gradients);
        if let Some(into) = into {
            sized(into, long.len()).copy_from_slice(long);
            add_blocks(into, short);
        }
    }

    fn settle(&mut self, trained: &mut [f32]) {
        self.layers.settle(trained);
        self.shortcut.settle(trained);
    }
}

/// Adds one large list to another.
pub(super) fn add_blocks(target: &mut [f32], more: &[f32]) {
    in_blocks!(target, |start, block| add_to(block, &more[start..start + block.len()]));
}
