//! Multi-head self-attention in one kernel: softmax(QKᵀ ⁄ √d) V of every head, and the projections
//! around it (Vaswani et al. 2017, section 3.2).

use std::ops::Range;

use rayon::prelude::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefMutIterator, ParallelIterator,
};

use super::dropout::Mask;
use super::kernel::{Cx, Kernel, sized, zeroed};
use super::linear::Linear;
use super::maths::{dot, softmax, vectorised};
use super::matrix::{Hands, Matrix, multiply, multiply_into};
use super::pieces::{PIECES_MAX, cut, split};

/// Self-attention over `[batch, steps, features]`.
pub(crate) struct Attention {
    sizes: Sizes,
    mask: Mask,
    projections: Projections,
    out: Linear,
    /// Query, key and value of every step, side by side: `[batch × steps, 3 × features]`.
    sides: Vec<f32>,
    /// The weights of attention: `[batch, heads, steps, steps]`, after dropout.
    weights: Vec<f32>,
    /// The same before dropout; empty where nothing is dropped.
    plain: Vec<f32>,
    mixed: Vec<f32>,
    side_slopes: Vec<f32>,
    mixed_slopes: Vec<f32>,
    scratch: Vec<Vec<f32>>,
    apart: [Vec<f32>; 3],
    part: Vec<f32>,
}

/// The projections of query, key and value: stacked, or three.
pub(crate) enum Projections {
    Stacked(Linear),
    Apart(Box<[Linear; 3]>),
}

#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    features: usize,
    heads: usize,
    causal: bool,
}

impl Sizes {
    fn width(&self) -> usize {
        self.features / self.heads
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width() as f32).sqrt()
    }

    /// Values of the sides of one example.
    fn side_len(&self) -> usize {
        self.steps * 3 * self.features
    }

    fn weight_len(&self) -> usize {
        self.steps * self.steps
    }

    /// A head's query (0), key (1) or value (2) within an example's sides: rows of its width.
    fn side<'a>(&self, sides: &'a [f32], which: usize, head: usize) -> Matrix<'a> {
        let start = which * self.features + head * self.width();
        Matrix::strided(&sides[start..], self.steps, self.width(), 3 * self.features)
    }

    fn head<'a>(&self, rows: &'a [f32], head: usize) -> Matrix<'a> {
        Matrix::strided(&rows[head * self.width()..], self.steps, self.width(), self.features)
    }
}

impl Attention {
    pub(crate) fn new(
        [steps, features]: [usize; 2],
        heads: usize,
        causal: bool,
        mask: Mask,
        projections: Projections,
        out: Linear,
    ) -> Self {
        Self {
            sizes: Sizes { steps, features, heads, causal },
            mask,
            projections,
            out,
            sides: Vec::new(),
            weights: Vec::new(),
            plain: Vec::new(),
            mixed: Vec::new(),
            side_slopes: Vec::new(),
            mixed_slopes: Vec::new(),
            scratch: Vec::new(),
            apart: Default::default(),
            part: Vec::new(),
        }
    }

    fn pieces(batch: usize) -> Vec<Range<usize>> {
        cut(batch, PIECES_MAX)
    }

    fn project(&mut self, cx: &Cx<'_>, input: &[f32]) {
        match &mut self.projections {
            Projections::Stacked(linear) => linear.forward(cx, input, &mut self.sides),
            Projections::Apart(linears) => {
                let features = self.sizes.features;
                let sides = sized(&mut self.sides, 3 * input.len());
                for (which, (linear, apart)) in linears.iter_mut().zip(&mut self.apart).enumerate()
                {
                    linear.forward(cx, input, apart);
                    let rows = sides.chunks_exact_mut(3 * features);
                    for (row, apart) in rows.zip(apart.chunks_exact(features)) {
                        row[which * features..][..features].copy_from_slice(apart);
                    }
                }
            }
        }
    }

    fn project_back(
        &mut self,
        cx: &Cx<'_>,
        input: &[f32],
        into: Option<&mut Vec<f32>>,
        gradients: &mut [f32],
    ) {
        match &mut self.projections {
            Projections::Stacked(linear) => {
                linear.backward(cx, input, &self.sides, &mut self.side_slopes, into, gradients);
            }
            Projections::Apart(linears) => {
                let features = self.sizes.features;
                let mut into = into;
                for (which, (linear, apart)) in linears.iter_mut().zip(&mut self.apart).enumerate()
                {
                    let rows = self.side_slopes.chunks_exact(3 * features);
                    for (row, apart) in rows.zip(apart.chunks_exact_mut(features)) {
                        apart.copy_from_slice(&row[which * features..][..features]);
                    }
                    let part = into.is_some().then_some(&mut self.part);
                    linear.backward(cx, input, &[], apart, part, gradients);
                    if let Some(into) = into.as_deref_mut() {
                        if which == 0 {
                            std::mem::swap(into, &mut self.part);
                        } else {
                            super::layout::add_blocks(into, &self.part);
                        }
                    }
                }
            }
        }
    }
}

/// Scores of steps that may not be seen become −∞: padding, and with `causal` what comes later.
#[inline(always)]
fn hide(weights: &mut [f32], steps: usize, length: usize, causal: bool) {
    for (step, row) in weights.chunks_exact_mut(steps).enumerate() {
        let seen = if causal { length.min(step + 1) } else { length };
        row[seen..].fill(f32::NEG_INFINITY);
    }
}

impl Kernel for Attention {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        self.project(cx, input);
        let (sizes, mask) = (self.sizes, self.mask);
        let pieces = Self::pieces(cx.batch);
        let weights_len = sizes.heads * sizes.weight_len();
        let weights = sized(&mut self.weights, cx.batch * weights_len);
        let drops = !mask.idle(cx);
        let plain = sized(&mut self.plain, if drops { cx.batch * weights_len } else { 0 });
        let mixed = sized(&mut self.mixed, input.len());
        let example_len = sizes.steps * sizes.features;
        let weight_parts = split(weights, weights_len, &pieces);
        let plain_parts = split(plain, if drops { weights_len } else { 0 }, &pieces);
        let mixed_parts = split(mixed, example_len, &pieces);
        let sides = &self.sides;
        let work = pieces.into_par_iter().zip(weight_parts).zip(plain_parts).zip(mixed_parts);
        work.for_each(|(((examples, weights), plain), mixed)| {
            let mut plain = plain.chunks_exact_mut(sizes.weight_len());
            let lists =
                weights.chunks_exact_mut(weights_len).zip(mixed.chunks_exact_mut(example_len));
            for (example, (weights, mixed)) in examples.zip(lists) {
                let sides = &sides[example * sizes.side_len()..][..sizes.side_len()];
                let length = cx.length(example, sizes.steps);
                for (head, weights) in weights.chunks_exact_mut(sizes.weight_len()).enumerate() {
                    let (query, key) = (sizes.side(sides, 0, head), sizes.side(sides, 1, head));
                    let (steps, scale) = (sizes.steps, sizes.scale());
                    let key = key.transposed();
                    multiply_into(weights, steps, query, key, scale, false, Hands::One);
                    vectorised!({
                        if sizes.causal || length < steps {
                            hide(weights, steps, length, sizes.causal);
                        }
                        weights.chunks_exact_mut(steps).for_each(softmax);
                        if let Some(plain) = plain.next() {
                            plain.copy_from_slice(weights);
                            let start = (example * sizes.heads + head) * sizes.weight_len();
                            mask.apply(cx, start, weights);
                        }
                    });
                    let weights = Matrix::new(weights, steps, steps);
                    let value = sizes.side(sides, 2, head);
                    let mixed = &mut mixed[head * sizes.width()..];
                    multiply_into(mixed, sizes.features, weights, value, 1.0, false, Hands::One);
                }
            }
        });
        self.out.forward(cx, &self.mixed, out);
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
        let mixed_slopes = Some(&mut self.mixed_slopes);
        self.out.backward(cx, &self.mixed, out, slopes, mixed_slopes, gradients);
        let (sizes, mask) = (self.sizes, self.mask);
        let pieces = Self::pieces(cx.batch);
        let side_slopes = zeroed(&mut self.side_slopes, cx.batch * sizes.side_len());
        let parts = split(side_slopes, sizes.side_len(), &pieces);
        self.scratch.resize_with(PIECES_MAX, Vec::new);
        let way = Back {
            cx,
            sizes,
            mask,
            sides: &self.sides,
            weights: &self.weights,
            plain: &self.plain,
        };
        let mixed_slopes = &self.mixed_slopes;
        pieces.into_par_iter().zip(parts).zip(self.scratch.par_iter_mut()).for_each(
            |((examples, part), scratch)| {
                let list = part.chunks_exact_mut(sizes.side_len());
                for (example, side_slopes) in examples.zip(list) {
                    let len = sizes.steps * sizes.features;
                    let slopes = &mixed_slopes[example * len..(example + 1) * len];
                    way.example(example, slopes, side_slopes, scratch);
                }
            },
        );
        self.project_back(cx, input, into, gradients);
    }
}

/// The way back through the heads.
struct Back<'a, 'b> {
    cx: &'a Cx<'b>,
    sizes: Sizes,
    mask: Mask,
    sides: &'a [f32],
    weights: &'a [f32],
    plain: &'a [f32],
}

impl Back<'_, '_> {
    fn example(
        &self,
        example: usize,
        slopes: &[f32],
        side_slopes: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        let sizes = self.sizes;
        let (steps, features, size) = (sizes.steps, sizes.features, sizes.weight_len());
        let sides = &self.sides[example * sizes.side_len()..][..sizes.side_len()];
        for head in 0..sizes.heads {
            let start = (example * sizes.heads + head) * size;
            let weights = &self.weights[start..start + size];
            let weight_slopes = sized(scratch, size);
            let slopes = sizes.head(slopes, head);
            let value = sizes.side(sides, 2, head);
            multiply(weight_slopes, slopes, value.transposed(), false, Hands::One);
            let mut place = |which: usize, left: Matrix<'_>, right: Matrix<'_>, scale: f32| {
                let target = &mut side_slopes[which * features + head * sizes.width()..];
                multiply_into(target, 3 * features, left, right, scale, false, Hands::One);
            };
            place(2, Matrix::new(weights, steps, steps).transposed(), slopes, 1.0);
            vectorised!(self.through_softmax(start, weights, weight_slopes));
            let weight_slopes = Matrix::new(weight_slopes, steps, steps);
            let (query, key) = (sizes.side(sides, 0, head), sizes.side(sides, 1, head));
            place(0, weight_slopes, key, sizes.scale());
            place(1, weight_slopes.transposed(), query, sizes.scale());
        }
    }

    /// The slopes of the scores: w · (s − Σ w s) for every row, with the weights w before dropout; a
    /// dropped weight's slope is dropped first.
    #[inline(always)]
    fn through_softmax(&self, start: usize, weights: &[f32], slopes: &mut [f32]) {
        let steps = self.sizes.steps;
        let plain = self.plain.get(start..start + weights.len());
        if plain.is_some() {
            self.mask.apply(self.cx, start, slopes);
        }
        let plain = plain.unwrap_or(weights);
        for (slopes, plain) in slopes.chunks_exact_mut(steps).zip(plain.chunks_exact(steps)) {
            let mean = dot(slopes, plain);
            let pairs = slopes.iter_mut().zip(plain);
            pairs.for_each(|(slope, weight)| *slope = (*slope - mean) * weight);
        }
    }
}
