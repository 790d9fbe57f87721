//! A matrix that many products share, packed once for all of them: a recurrent layer multiplies the few
//! rows of every step by the same weights, which a general product would lay out, or read a page a
//! row, each time anew.
//!
//! Each value is one chain of fused multiply-adds over blocks of [`DEPTH`], so the bits are the same
//! with every instruction set.

use pulp::{Arch, Simd, WithSimd};

use super::Matrix;

/// Rows of a tile: with a panel's two vectors, twelve sums and what they are made of fit into the
/// sixteen registers of AVX2.
const TILE: usize = 6;
/// Vectors side by side in a panel.
const VECTORS: usize = 2;
/// Rows of a panel: 16 KiB with AVX2, 32 KiB with AVX-512, which the nearest cache holds.
const DEPTH: usize = 256;

/// The right-hand side of products, in panels of two vectors' columns.
#[derive(Default)]
pub(in super::super) struct Panels {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl Panels {
    /// Takes over a matrix, instead of the one before.
    pub(in super::super) fn pack(&mut self, matrix: Matrix<'_>) {
        self.rows = matrix.rows;
        self.columns = matrix.columns;
        let values = std::mem::take(&mut self.values);
        self.values = Arch::new().dispatch(Pack { matrix, values });
    }

    /// `target += left × self`; both have their rows one behind the other.
    pub(in super::super) fn add_product(&self, target: &mut [f32], left: &[f32]) {
        if self.rows == 0 || self.columns == 0 {
            return;
        }
        assert_eq!(left.len() % self.rows, 0, "whole rows");
        assert_eq!(left.len() / self.rows * self.columns, target.len(), "a row for each");
        Arch::new().dispatch(AddProduct { panels: self, target, left });
    }
}

/// Blocks of rows: the first of each, and how many.
fn blocks(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(DEPTH).map(move |first| (first, DEPTH.min(rows - first)))
}

struct Pack<'a> {
    matrix: Matrix<'a>,
    values: Vec<f32>,
}

impl WithSimd for Pack<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
        let Matrix { values: from, rows, columns, row_stride, column_stride } = self.matrix;
        let wide = VECTORS * S::F32_LANES;
        let mut values = self.values;
        values.resize(rows * columns.next_multiple_of(wide), 0.0);
        let mut rest = values.as_mut_slice();
        for (first, depth) in blocks(rows) {
            for column in (0..columns).step_by(wide) {
                let panel;
                (panel, rest) = std::mem::take(&mut rest).split_at_mut(depth * wide);
                let filled = wide.min(columns - column);
                for (row, line) in panel.chunks_exact_mut(wide).enumerate() {
                    let start = (first + row) * row_stride + column * column_stride;
                    let (line, padding) = line.split_at_mut(filled);
                    for (index, value) in line.iter_mut().enumerate() {
                        *value = from[start + index * column_stride];
                    }
                    padding.fill(0.0);
                }
            }
        }
        values
    }
}

struct AddProduct<'a> {
    panels: &'a Panels,
    target: &'a mut [f32],
    left: &'a [f32],
}

impl WithSimd for AddProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Panels { values, rows, columns } = self.panels;
        let wide = VECTORS * S::F32_LANES;
        let count = self.left.len() / rows;
        // Tiles of nearly one size: a last one of a row or two would leave the multipliers waiting.
        let tiles = count.div_ceil(TILE);
        let mut rest = values.as_slice();
        for (first, depth) in blocks(*rows) {
            for column in (0..*columns).step_by(wide) {
                let (panel, after) = rest.split_at(depth * wide);
                rest = after;
                let panel = S::as_simd_f32s(panel).0.as_chunks::<VECTORS>().0;
                for tile in 0..tiles {
                    let (from, to) = (tile * count / tiles, (tile + 1) * count / tiles);
                    let left = &self.left[from * rows + first..];
                    let target = &mut self.target[from * columns + column..];
                    let sizes = [*rows, *columns, wide.min(columns - column)];
                    match to - from {
                        1 => add_tile::<S, 1>(simd, panel, left, target, sizes),
                        2 => add_tile::<S, 2>(simd, panel, left, target, sizes),
                        3 => add_tile::<S, 3>(simd, panel, left, target, sizes),
                        4 => add_tile::<S, 4>(simd, panel, left, target, sizes),
                        5 => add_tile::<S, 5>(simd, panel, left, target, sizes),
                        _ => add_tile::<S, TILE>(simd, panel, left, target, sizes),
                    }
                }
            }
        }
    }
}

/// Adds the product of some rows and a panel. `sizes` are the strides of the left rows and of the
/// target's, and how many of the panel's columns are the matrix's.
#[inline(always)]
fn add_tile<S: Simd, const ROWS: usize>(
    simd: S,
    panel: &[[S::f32s; VECTORS]],
    left: &[f32],
    target: &mut [f32],
    [left_stride, stride, filled]: [usize; 3],
) {
    let left = std::array::from_fn(|row| &left[row * left_stride..][..panel.len()]);
    let sums = product::<S, ROWS>(simd, panel, left);
    for (row, sums) in sums.into_iter().enumerate() {
        let target = &mut target[row * stride..][..filled];
        if let [first, second] = S::as_mut_simd_f32s(target).0 {
            *first = simd.add_f32s(*first, sums[0]);
            *second = simd.add_f32s(*second, sums[1]);
        } else {
            let sums: &[f32] = pulp::bytemuck::cast_slice(&sums);
            target.iter_mut().zip(sums).for_each(|(target, sum)| *target += sum);
        }
    }
}

/// The product itself; its sums never leave the registers.
#[inline(always)]
fn product<S: Simd, const ROWS: usize>(
    simd: S,
    panel: &[[S::f32s; VECTORS]],
    left: [&[f32]; ROWS],
) -> [[S::f32s; VECTORS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (index, &[first, second]) in panel.iter().enumerate() {
        for row in 0..ROWS {
            let value = simd.splat_f32s(left[row][index]);
            let [one, two] = sums[row];
            sums[row] =
                [simd.mul_add_f32s(value, first, one), simd.mul_add_f32s(value, second, two)];
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::{AddProduct, Matrix, Pack, Panels};
    use pulp::{Arch, Scalar, WithSimd};

    #[test]
    fn the_bits_are_the_same_with_every_instruction_set() {
        let (rows, depth, columns) = (13, 300, 70);
        let value = |i: usize| libm::sinf(i as f32) * 1.7;
        let left: Vec<f32> = (0..rows * depth).map(value).collect();
        let right: Vec<f32> = (0..depth * columns).map(|i| value(i + 7)).collect();
        let matrix = Matrix::new(&right, depth, columns);
        let product = |values: Vec<f32>, scalar: bool| {
            let panels = Panels { values, rows: depth, columns };
            let mut target = vec![0.5; rows * columns];
            let add = AddProduct { panels: &panels, target: &mut target, left: &left };
            if scalar {
                add.with_simd(Scalar)
            } else {
                Arch::new().dispatch(add)
            }
            target.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        };
        let pack = || Pack { matrix, values: Vec::new() };
        let one_by_one = product(pack().with_simd(Scalar), true);
        assert_eq!(product(Arch::new().dispatch(pack()), false), one_by_one);
    }
}
