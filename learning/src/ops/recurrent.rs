//! Stacks of recurrent layers over whole sequences: one product for the inputs of all steps, then the
//! steps, each piece of the batch on its own thread with no waiting between.
//!
//! Rows are ordered by piece, then step, then example, so a piece's steps lie one behind the other and
//! its gradients are products over all of them.

mod cells;
mod direction;
mod walk;

use std::ops::Range;

use rayon::prelude::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use tributary_core::model::Cell;

use super::dropout::Mask;
use super::kernel::{Cx, Kernel, sized};
use super::maths::vectorised;
use super::pieces::{cut, split};

use direction::Direction;
pub(crate) use direction::Weights;

/// Examples of a piece: enough rows for a product to be worth it.
const PIECE: usize = 32;
/// Most pieces of a batch.
const PIECES_MAX: usize = 8;

/// The order of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) steps: usize,
    pub(super) pieces: Vec<Range<usize>>,
}

impl Order {
    fn new(batch: usize, steps: usize) -> Self {
        let pieces = batch.div_ceil(PIECE).clamp(2.min(batch), PIECES_MAX);
        Self { steps, pieces: cut(batch, pieces) }
    }

    /// Calls `visit` with every example, step and row.
    fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        for piece in &self.pieces {
            let first = piece.start * self.steps;
            for step in 0..self.steps {
                for (index, example) in piece.clone().enumerate() {
                    visit(example, step, first + step * piece.len() + index);
                }
            }
        }
    }

    /// Drops rows' values by the place that they have in `[batch, steps, width]`: what is dropped does not
    /// follow from how the batch is cut.
    fn mask(&self, cx: &Cx<'_>, mask: &Mask, values: &mut [f32]) {
        if mask.idle(cx) || values.is_empty() {
            return;
        }
        let steps = self.steps;
        let width = values.len() / (cx.batch * steps);
        let parts = split(values, steps * width, &self.pieces);
        self.pieces.par_iter().zip(parts).for_each(|(piece, part)| {
            let places = (0..steps).flat_map(|step| piece.clone().map(move |e| e * steps + step));
            vectorised!({
                for (place, row) in places.zip(part.chunks_exact_mut(width)) {
                    mask.apply(cx, place * width, row);
                }
            });
        });
    }
}

/// A layer of the stack: one direction, or two side by side.
struct Layer {
    directions: Vec<Direction>,
    dropout: Option<Mask>,
    /// What the next layer reads, where it is not a direction's hidden values as they are.
    joined: Vec<f32>,
}

impl Layer {
    /// Whether the next layer reads the only direction's hidden values themselves.
    fn bare(&self) -> bool {
        self.directions.len() == 1 && self.dropout.is_none()
    }

    fn out(&self) -> &[f32] {
        if self.bare() { self.directions[0].hidden() } else { &self.joined }
    }

    fn forward(&mut self, cx: &Cx<'_>, order: &Order, input: &[f32]) {
        for direction in &mut self.directions {
            direction.forward(cx, order, input);
        }
        if self.bare() {
            return;
        }
        let width = self.directions[0].width();
        let count = self.directions.len();
        let joined = sized(&mut self.joined, count * self.directions[0].hidden().len());
        for (index, direction) in self.directions.iter().enumerate() {
            let rows = joined.chunks_exact_mut(count * width);
            for (row, hidden) in rows.zip(direction.hidden().chunks_exact(width)) {
                row[index * width..][..width].copy_from_slice(hidden);
            }
        }
        if let Some(mask) = &self.dropout {
            order.mask(cx, mask, joined);
        }
    }

    /// From this layer's slopes to its input's, in `into` where they are wanted.
    fn backward(
        &mut self,
        cx: &Cx<'_>,
        order: &Order,
        input: &[f32],
        slopes: &mut [f32],
        mut into: Option<&mut Vec<f32>>,
        gradients: &mut [f32],
    ) {
        if let Some(mask) = &self.dropout {
            order.mask(cx, mask, slopes);
        }
        let count = self.directions.len();
        for (index, direction) in self.directions.iter_mut().enumerate() {
            let width = direction.width();
            let own = direction.slopes(slopes.len() / count);
            for (own, row) in own.chunks_exact_mut(width).zip(slopes.chunks_exact(count * width)) {
                own.copy_from_slice(&row[index * width..][..width]);
            }
            let into = into.as_deref_mut();
            direction.backward(cx, order, input, into, index > 0, gradients);
        }
    }
}

/// Recurrent layers over `[batch, steps, features]`: all steps, or the last that is no padding.
pub(crate) struct Recurrent {
    layers: Vec<Layer>,
    steps: usize,
    features: usize,
    last_step: bool,
    order: Order,
    entry: Vec<f32>,
    slopes: Vec<f32>,
    next: Vec<f32>,
}

impl Recurrent {
    /// `weights` holds each layer's directions; `dropouts` stand behind all layers but the last.
    pub(crate) fn new(
        cell: Cell,
        [steps, features]: [usize; 2],
        weights: Vec<Vec<Weights>>,
        mut dropouts: Vec<Mask>,
        last_step: bool,
    ) -> Self {
        let mut layers = Vec::with_capacity(weights.len());
        dropouts.reverse();
        for directions in weights {
            let directions = directions.into_iter().enumerate();
            let directions =
                directions.map(|(index, weights)| Direction::new(cell, weights, index == 1));
            let (directions, dropout) = (directions.collect(), dropouts.pop());
            layers.push(Layer { directions, dropout, joined: Vec::new() });
        }
        Self {
            layers,
            steps,
            features,
            last_step,
            order: Order::default(),
            entry: Vec::new(),
            slopes: Vec::new(),
            next: Vec::new(),
        }
    }

    /// Values of one step of the last layer.
    fn width(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.directions.iter().map(Direction::width).sum())
    }
}

impl Kernel for Recurrent {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        self.order = Order::new(cx.batch, self.steps);
        let (steps, features) = (self.steps, self.features);
        let entry = sized(&mut self.entry, input.len());
        self.order.each(|example, step, row| {
            let from = (example * steps + step) * features;
            entry[row * features..][..features].copy_from_slice(&input[from..from + features]);
        });
        for index in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(index);
            let input = before.last().map_or(self.entry.as_slice(), Layer::out);
            rest[0].forward(cx, &self.order, input);
        }
        let width = self.width();
        let Some(layer) = self.layers.last() else { return };
        let hidden = layer.out();
        let rows = if self.last_step { 1 } else { steps };
        let out = sized(out, cx.batch * rows * width);
        let last_step = self.last_step;
        self.order.each(|example, step, row| {
            let to = if last_step {
                if step + 1 != cx.length(example, steps).max(1) {
                    return;
                }
                example
            } else {
                example * steps + step
            };
            out[to * width..][..width].copy_from_slice(&hidden[row * width..][..width]);
        });
    }

    fn backward(
        &mut self,
        cx: &Cx<'_>,
        _: &[f32],
        _: &[f32],
        slopes: &mut Vec<f32>,
        into: Option<&mut Vec<f32>>,
        gradients: &mut [f32],
    ) {
        let (steps, width) = (self.steps, self.width());
        let last_step = self.last_step;
        let own = sized(&mut self.slopes, cx.batch * steps * width);
        self.order.each(|example, step, row| {
            let own = &mut own[row * width..][..width];
            if last_step && step + 1 != cx.length(example, steps).max(1) {
                own.fill(0.0);
                return;
            }
            let from = if last_step { example } else { example * steps + step };
            own.copy_from_slice(&slopes[from * width..][..width]);
        });
        for index in (0..self.layers.len()).rev() {
            let (before, rest) = self.layers.split_at_mut(index);
            let input = before.last().map_or(self.entry.as_slice(), Layer::out);
            let wanted = (index > 0 || into.is_some()).then_some(&mut self.next);
            rest[0].backward(cx, &self.order, input, &mut self.slopes, wanted, gradients);
            std::mem::swap(&mut self.slopes, &mut self.next);
        }
        let Some(into) = into else { return };
        let features = self.features;
        let into = sized(into, cx.batch * steps * features);
        let entry_slopes = &self.slopes;
        self.order.each(|example, step, row| {
            let to = (example * steps + step) * features;
            let from = &entry_slopes[row * features..][..features];
            into[to..to + features].copy_from_slice(from);
        });
    }
}
