//! One direction of one recurrent layer.

use rayon::prelude::{IntoParallelRefMutIterator, ParallelIterator};
use tributary_core::model::Cell;

use super::super::kernel::{Cx, Place, sized};
use super::super::linear::{add_bias, column_sums, hands};
use super::super::matrix::{Matrix, Panels, multiply};
use super::super::pieces::split;
use super::Order;
use super::walk::{Piece, Walk};

/// PyTorch's four tensors of a direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights {
    /// `[gates × hidden, features]`.
    pub(crate) input: Place,
    /// `[gates × hidden, hidden]`.
    pub(crate) hidden: Place,
    /// `[gates × hidden]`.
    pub(crate) input_bias: Place,
    /// `[gates × hidden]`.
    pub(crate) hidden_bias: Place,
}

pub(super) struct Direction {
    cell: Cell,
    weights: Weights,
    reverse: bool,
    width: usize,
    /// Gates of every row; on the way back, the slopes of their sums.
    gates: Vec<f32>,
    /// A GRU's sums of the hidden values, then their slopes.
    sums: Vec<f32>,
    hidden: Vec<f32>,
    /// An LSTM's cells.
    cells: Vec<f32>,
    slopes: Vec<f32>,
    /// The hidden values' weight as the steps need it, there and back.
    there: Panels,
    back: Panels,
    biases: Vec<f32>,
}

impl Direction {
    pub(super) fn new(cell: Cell, weights: Weights, reverse: bool) -> Self {
        let width = weights.hidden_bias.len / cell.gates();
        Self {
            cell,
            weights,
            reverse,
            width,
            gates: Vec::new(),
            sums: Vec::new(),
            hidden: Vec::new(),
            cells: Vec::new(),
            slopes: Vec::new(),
            there: Panels::default(),
            back: Panels::default(),
            biases: Vec::new(),
        }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn hidden(&self) -> &[f32] {
        &self.hidden
    }

    /// The slopes of the hidden values, to be filled before the way back.
    pub(super) fn slopes(&mut self, len: usize) -> &mut [f32] {
        sized(&mut self.slopes, len)
    }

    fn pieces(&mut self, order: &Order) -> Vec<Piece<'_>> {
        let (width, steps, all) = (self.width, order.steps, self.width * self.cell.gates());
        let per = |wanted: bool, width: usize| if wanted { steps * width } else { 0 };
        let (gru, lstm) = (self.cell == Cell::Gru, self.cell == Cell::Lstm);
        let has_slopes = !self.slopes.is_empty();
        let gates = split(&mut self.gates, steps * all, &order.pieces);
        let sums = split(&mut self.sums, per(gru, all), &order.pieces);
        let hidden = split(&mut self.hidden, steps * width, &order.pieces);
        let cells = split(&mut self.cells, per(lstm, width), &order.pieces);
        let slopes = split(&mut self.slopes, per(has_slopes, width), &order.pieces);
        let lists = gates.into_iter().zip(sums).zip(hidden).zip(cells).zip(slopes);
        lists
            .zip(&order.pieces)
            .map(|(((((gates, sums), hidden), cells), slopes), piece)| Piece {
                rows: piece.len(),
                gates,
                sums,
                hidden,
                cells,
                slopes,
                first: piece.start,
            })
            .collect()
    }

    pub(super) fn forward(&mut self, cx: &Cx<'_>, order: &Order, input: &[f32]) {
        let (width, all) = (self.width, self.width * self.cell.gates());
        let weight = self.weights.input.of(cx);
        let features = weight.len() / all;
        let rows = input.len() / features;
        let gates = sized(&mut self.gates, rows * all);
        let right = Matrix::new(weight, all, features).transposed();
        let left = Matrix::new(input, rows, features);
        multiply(gates, left, right, false, hands(rows, all, features));
        let biases = [self.weights.input_bias, self.weights.hidden_bias].map(|b| b.of(cx));
        self.biases.clear();
        match self.cell {
            // A GRU's reset gate stands between its two sums, so their biases stay apart.
            Cell::Gru => self.biases.extend_from_slice(biases[0]),
            Cell::Rnn | Cell::ReluRnn | Cell::Lstm => {
                self.biases.extend(biases[0].iter().zip(biases[1]).map(|(a, b)| a + b));
            }
        }
        add_bias(gates, &self.biases, all, None);
        let recurrent = self.weights.hidden.of(cx);
        self.there.pack(Matrix::new(recurrent, all, width).transposed());
        sized(&mut self.hidden, rows * width);
        if self.cell == Cell::Lstm {
            sized(&mut self.cells, rows * width);
        }
        if self.cell == Cell::Gru {
            sized(&mut self.sums, rows * all);
        }
        self.slopes.clear();
        let there = std::mem::take(&mut self.there);
        let walk = Walk {
            cx,
            cell: self.cell,
            reverse: self.reverse,
            steps: order.steps,
            width,
            weights: &there,
            hidden_bias: biases[1],
        };
        let mut pieces = self.pieces(order);
        pieces.par_iter_mut().for_each(|piece| walk.forward(piece));
        self.there = there;
    }

    /// The way back from the slopes in [`Self::slopes`]; `into` gets the input's slopes, added to what
    /// is there with `add`.
    pub(super) fn backward(
        &mut self,
        cx: &Cx<'_>,
        order: &Order,
        input: &[f32],
        into: Option<&mut Vec<f32>>,
        add: bool,
        gradients: &mut [f32],
    ) {
        let (width, all) = (self.width, self.width * self.cell.gates());
        let mut back = std::mem::take(&mut self.back);
        back.pack(Matrix::new(self.weights.hidden.of(cx), all, width));
        let walk = Walk {
            cx,
            cell: self.cell,
            reverse: self.reverse,
            steps: order.steps,
            width,
            weights: &back,
            hidden_bias: self.weights.hidden_bias.of(cx),
        };
        let mut pieces = self.pieces(order);
        pieces.par_iter_mut().for_each(|piece| walk.backward(piece));
        self.back = back;
        self.hidden_gradient(order, gradients);
        let weight = self.weights.input.of(cx);
        let features = weight.len() / all;
        let rows = input.len() / features;
        let gates = Matrix::new(&self.gates, rows, all);
        if let Some(gradient) = self.weights.input.gradient(gradients) {
            let x = Matrix::new(input, rows, features);
            multiply(gradient, gates.transposed(), x, false, hands(all, features, rows));
        }
        if let Some(gradient) = self.weights.input_bias.gradient(gradients) {
            column_sums(&self.gates, all, gradient);
        }
        if let Some(gradient) = self.weights.hidden_bias.gradient(gradients) {
            let sums = if self.cell == Cell::Gru { &self.sums } else { &self.gates };
            column_sums(sums, all, gradient);
        }
        if let Some(into) = into {
            let into = sized(into, rows * features);
            let weight = Matrix::new(weight, all, features);
            multiply(into, gates, weight, add, hands(rows, features, all));
        }
    }

    /// Every step's slopes against the hidden values of the step before it.
    fn hidden_gradient(&mut self, order: &Order, gradients: &mut [f32]) {
        let (width, all) = (self.width, self.width * self.cell.gates());
        let Some(gradient) = self.weights.hidden.gradient(gradients) else { return };
        gradient.fill(0.0);
        let sums = if self.cell == Cell::Gru { &self.sums } else { &self.gates };
        for piece in &order.pieces {
            let rows = (order.steps - 1) * piece.len();
            let start = piece.start * order.steps;
            let (late, early) = (start + piece.len(), start);
            let (at, before) = if self.reverse { (early, late) } else { (late, early) };
            let slopes = Matrix::new(&sums[at * all..(at + rows) * all], rows, all);
            let hidden = &self.hidden[before * width..(before + rows) * width];
            let hidden = Matrix::new(hidden, rows, width);
            multiply(gradient, slopes.transposed(), hidden, true, hands(all, width, rows));
        }
    }
}
