//! The steps of one piece of the batch, there and back.

use tributary_core::model::Cell;

use super::super::kernel::Cx;
use super::super::maths::{add_to, rectified, tanh, vectorised};
use super::super::matrix::Panels;
use super::cells;

/// The buffers of one piece.
pub(super) struct Piece<'a> {
    pub(super) rows: usize,
    pub(super) gates: &'a mut [f32],
    pub(super) sums: &'a mut [f32],
    pub(super) hidden: &'a mut [f32],
    pub(super) cells: &'a mut [f32],
    pub(super) slopes: &'a mut [f32],
    pub(super) first: usize,
}

/// What a walk over the steps of a piece reads.
pub(super) struct Walk<'a, 'b> {
    pub(super) cx: &'a Cx<'b>,
    pub(super) cell: Cell,
    pub(super) reverse: bool,
    pub(super) steps: usize,
    pub(super) width: usize,
    /// The hidden values' weight: transposed on the way there, as it is on the way back.
    pub(super) weights: &'a Panels,
    pub(super) hidden_bias: &'a [f32],
}

/// A step's slice, and that of the step before it (empty at the first), of a buffer that is not
/// written at the step before.
fn pair(
    values: &mut [f32],
    size: usize,
    step: usize,
    before: Option<usize>,
) -> (&mut [f32], &[f32]) {
    match before {
        None => (&mut values[step * size..(step + 1) * size], &[]),
        Some(before) if before < step => {
            let (low, high) = values.split_at_mut(step * size);
            (&mut high[..size], &low[before * size..(before + 1) * size])
        }
        Some(before) => {
            let (low, high) = values.split_at_mut(before * size);
            (&mut low[step * size..(step + 1) * size], &high[..size])
        }
    }
}

fn row(values: &[f32], index: usize, width: usize) -> &[f32] {
    values.get(index * width..(index + 1) * width).unwrap_or_default()
}

impl Walk<'_, '_> {
    /// The steps in the order of the direction, each with the one before it.
    fn order(&self) -> impl DoubleEndedIterator<Item = (usize, Option<usize>)> {
        let (steps, reverse) = (self.steps, self.reverse);
        (0..steps).map(move |turn| {
            let at = |turn: usize| if reverse { steps - 1 - turn } else { turn };
            (at(turn), turn.checked_sub(1).map(at))
        })
    }

    /// Rows of a step that are padding.
    fn padding(&self, piece_first: usize, rows: usize, step: usize) -> impl Iterator<Item = usize> {
        let any = !self.cx.lengths.is_empty();
        let (cx, steps) = (self.cx, self.steps);
        (0..if any { rows } else { 0 })
            .filter(move |row| step >= cx.length(piece_first + row, steps))
            .collect::<Vec<usize>>()
            .into_iter()
    }

    pub(super) fn forward(&self, piece: &mut Piece<'_>) {
        let (rows, width, all) = (piece.rows, self.width, self.width * self.cell.gates());
        for (step, before) in self.order() {
            let (hidden, last) = pair(piece.hidden, rows * width, step, before);
            let gates = &mut piece.gates[step * rows * all..(step + 1) * rows * all];
            if self.cell == Cell::Gru {
                let sums = &mut piece.sums[step * rows * all..(step + 1) * rows * all];
                sums.chunks_exact_mut(all).for_each(|row| row.copy_from_slice(self.hidden_bias));
                if before.is_some() {
                    self.weights.add_product(sums, last);
                }
                vectorised!({
                    for (index, hidden) in hidden.chunks_exact_mut(width).enumerate() {
                        let gates = &mut gates[index * all..(index + 1) * all];
                        let sums = &sums[index * all..(index + 1) * all];
                        cells::gru(gates, sums, row(last, index, width), hidden);
                    }
                });
            } else {
                if before.is_some() {
                    self.weights.add_product(gates, last);
                }
                match self.cell {
                    Cell::Lstm => {
                        let (cell, cell_before) = pair(piece.cells, rows * width, step, before);
                        vectorised!(lstm_step(gates, cell_before, cell, hidden, width));
                    }
                    Cell::ReluRnn => vectorised!({
                        gates.iter_mut().for_each(|gate| *gate = rectified(*gate));
                        hidden.copy_from_slice(gates);
                    }),
                    Cell::Rnn | Cell::Gru => vectorised!({
                        gates.iter_mut().for_each(|gate| *gate = tanh(*gate));
                        hidden.copy_from_slice(gates);
                    }),
                }
            }
            for index in self.padding(piece.first, rows, step) {
                let own = (step * rows + index) * width;
                piece.hidden[own..own + width].fill(0.0);
                if self.cell == Cell::Lstm {
                    piece.cells[own..own + width].fill(0.0);
                }
            }
        }
    }

    pub(super) fn backward(&self, piece: &mut Piece<'_>) {
        let (rows, width, all) = (piece.rows, self.width, self.width * self.cell.gates());
        let mut carry = vec![0.0; rows * width];
        let mut after: Option<usize> = None;
        for (step, before) in self.order().rev() {
            let slopes = &mut piece.slopes[step * rows * width..(step + 1) * rows * width];
            if let Some(after) = after {
                let sums: &[f32] = if self.cell == Cell::Gru { piece.sums } else { piece.gates };
                let sums = &sums[after * rows * all..(after + 1) * rows * all];
                self.weights.add_product(slopes, sums);
            }
            if self.cell == Cell::Gru {
                vectorised!(add_to(slopes, &carry));
            }
            for index in self.padding(piece.first, rows, step) {
                slopes[index * width..(index + 1) * width].fill(0.0);
                carry[index * width..(index + 1) * width].fill(0.0);
            }
            let gates = &mut piece.gates[step * rows * all..(step + 1) * rows * all];
            match self.cell {
                Cell::Rnn => vectorised!({
                    for (gate, slope) in gates.iter_mut().zip(slopes.iter()) {
                        *gate = slope * (1.0 - *gate * *gate);
                    }
                }),
                Cell::ReluRnn => vectorised!({
                    for (gate, slope) in gates.iter_mut().zip(slopes.iter()) {
                        *gate = if *gate > 0.0 { *slope } else { 0.0 };
                    }
                }),
                Cell::Lstm => {
                    let (cell, cell_before) = pair(piece.cells, rows * width, step, before);
                    vectorised!({
                        for index in 0..rows {
                            cells::lstm_back(
                                &mut gates[index * all..(index + 1) * all],
                                row(cell_before, index, width),
                                &cell[index * width..(index + 1) * width],
                                &slopes[index * width..(index + 1) * width],
                                &mut carry[index * width..(index + 1) * width],
                            );
                        }
                    });
                }
                Cell::Gru => {
                    let (_, last) = pair(piece.hidden, rows * width, step, before);
                    let sums = &mut piece.sums[step * rows * all..(step + 1) * rows * all];
                    vectorised!({
                        for index in 0..rows {
                            cells::gru_back(
                                &mut gates[index * all..(index + 1) * all],
                                &mut sums[index * all..(index + 1) * all],
                                row(last, index, width),
                                &slopes[index * width..(index + 1) * width],
                                &mut carry[index * width..(index + 1) * width],
                            );
                        }
                    });
                }
            }
            after = Some(step);
        }
    }
}

#[inline(always)]
fn lstm_step(
    gates: &mut [f32],
    before: &[f32],
    cell: &mut [f32],
    hidden: &mut [f32],
    width: usize,
) {
    let rows = hidden.chunks_exact_mut(width).zip(cell.chunks_exact_mut(width));
    let rows = rows.zip(gates.chunks_exact_mut(4 * width)).enumerate();
    for (index, ((hidden, cell), gates)) in rows {
        cells::lstm(gates, row(before, index, width), cell, hidden);
    }
}
