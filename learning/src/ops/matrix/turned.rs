//! A copy of a matrix whose columns lie a power of two apart, with its rows one behind the other: packed
//! where they are, the same few places of the nearest cache would have to hold all of them.

use std::cell::Cell;

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSliceMut};

use super::Matrix;

/// Multiplications from which on a copy pays.
pub(super) const WORTH: usize = 1 << 24;
/// Values apart at which columns get into each other's way: half of what a way of the cache holds.
const APART: usize = 512;
/// Columns from which on they are more than the nearest cache's places hold, whatever its ways.
const MANY: usize = 64;
/// Columns that are read at once: as many as a place of the cache holds.
const COLUMNS: usize = 8;
/// Rows of a thread's piece.
const ROWS: usize = 64;

thread_local! {
    /// The last copy's room, for the next one.
    static ROOM: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Whether a matrix's columns are in each other's way.
pub(super) fn aliases(matrix: &Matrix<'_>) -> bool {
    matrix.row_stride == 1 && matrix.column_stride.is_multiple_of(APART) && matrix.columns >= MANY
}

/// Lends a copy with its rows one behind the other.
pub(super) fn with<T>(matrix: Matrix<'_>, work: impl FnOnce(Matrix<'_>) -> T) -> T {
    let Matrix { values, rows, columns, column_stride, .. } = matrix;
    // Taken, not borrowed: while it waits for others this thread may begin another product.
    let mut room = ROOM.take();
    room.resize(rows * columns, 0.0);
    room.par_chunks_mut(ROWS * columns).enumerate().for_each(|(piece, to)| {
        let first = piece * ROWS;
        for column in (0..columns).step_by(COLUMNS) {
            let wide = COLUMNS.min(columns - column);
            for (row, to) in to.chunks_exact_mut(columns).enumerate() {
                let from = &values[column * column_stride + first + row..];
                for (index, to) in to[column..column + wide].iter_mut().enumerate() {
                    *to = from[index * column_stride];
                }
            }
        }
    });
    let done = work(Matrix::new(&room, rows, columns));
    ROOM.set(room);
    done
}
