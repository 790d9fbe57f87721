//! Normalisation: over features, over groups of channels, over the batch.

mod batch;

use rayon::prelude::{
    IndexedParallelIterator, IntoParallelIterator, ParallelIterator, ParallelSlice,
    ParallelSliceMut,
};

use super::kernel::{Cx, Kernel, Place, sized};
use super::maths::{LANES, add_to, sum, vectorised};
use super::pieces::{PIECES_MAX, cut, split};

pub(crate) use batch::BatchNorm;

/// Scale and shift.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    weight: Place,
    bias: Place,
}

/// Normalisation of every row (Ba, Kiros and Hinton 2016).
pub(crate) struct LayerNorm {
    affine: Affine,
    epsilon: f32,
    /// Mean and 1 ⁄ deviation of every row.
    moments: Vec<[f32; 2]>,
}

/// Rows of one piece at least.
const ROWS_MIN: usize = 32;

impl LayerNorm {
    pub(crate) fn new(weight: Place, bias: Place, epsilon: f64) -> Self {
        Self { affine: Affine { weight, bias }, epsilon: epsilon as f32, moments: Vec::new() }
    }

    fn pieces(rows: usize) -> Vec<std::ops::Range<usize>> {
        cut(rows, (rows / ROWS_MIN).clamp(1, PIECES_MAX))
    }
}

/// Mean and 1 ⁄ deviation of a list.
#[inline(always)]
fn moments(values: &[f32], epsilon: f32) -> [f32; 2] {
    let n = values.len() as f32;
    let mean = sum(values) / n;
    let mut lanes = [0.0_f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let away = chunk[lane] - mean;
            lanes[lane] += away * away;
        }
    }
    let rest: f32 = rest.iter().map(|value| (value - mean) * (value - mean)).sum();
    [mean, 1.0 / ((sum(&lanes) + rest) / n + epsilon).sqrt()]
}

impl Kernel for LayerNorm {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let (weight, bias) = (self.affine.weight.of(cx), self.affine.bias.of(cx));
        let features = weight.len();
        let rows = input.len() / features;
        let out = sized(out, input.len());
        if self.moments.len() != rows {
            self.moments = vec![[0.0; 2]; rows];
        }
        let epsilon = self.epsilon;
        let block = (super::pieces::ELEMENTS / features).max(1);
        out.par_chunks_mut(block * features)
            .zip(input.par_chunks(block * features))
            .zip(self.moments.par_chunks_mut(block))
            .for_each(|((out, input), kept)| {
                vectorised!({
                    let lines = out.chunks_exact_mut(features).zip(input.chunks_exact(features));
                    for ((out, x), kept) in lines.zip(kept) {
                        let [mean, scale] = moments(x, epsilon);
                        *kept = [mean, scale];
                        for (((out, x), weight), bias) in
                            out.iter_mut().zip(x).zip(weight).zip(bias)
                        {
                            *out = (x - mean) * scale * weight + bias;
                        }
                    }
                });
            });
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
        let weight = self.affine.weight.of(cx);
        let features = weight.len();
        let pieces = Self::pieces(self.moments.len());
        let parts = split(slopes, features, &pieces);
        let kept = &self.moments;
        // A piece turns its slopes into those of its input, in place.
        let sums: Vec<[Vec<f32>; 2]> = pieces
            .into_par_iter()
            .zip(parts)
            .map(|(rows, slopes)| {
                let mut sums = [vec![0.0; features], vec![0.0; features]];
                let mut normal = vec![0.0; features];
                vectorised!({
                    for (row, slopes) in rows.zip(slopes.chunks_exact_mut(features)) {
                        let x = &input[row * features..(row + 1) * features];
                        layer_row(x, kept[row], weight, slopes, &mut normal, &mut sums);
                    }
                });
                sums
            })
            .collect();
        if let Some(into) = into {
            std::mem::swap(slopes, into);
        }
        for (index, place) in [self.affine.weight, self.affine.bias].into_iter().enumerate() {
            if let Some(gradient) = place.gradient(gradients) {
                gradient.fill(0.0);
                sums.iter().for_each(|part| add_to(gradient, &part[index]));
            }
        }
    }
}

/// One row's way back: `slopes` become the input's.
#[inline(always)]
fn layer_row(
    x: &[f32],
    [mean, scale]: [f32; 2],
    weight: &[f32],
    slopes: &mut [f32],
    normal: &mut [f32],
    [weight_sum, bias_sum]: &mut [Vec<f32>; 2],
) {
    add_to(bias_sum, slopes);
    for (normal, x) in normal.iter_mut().zip(x) {
        *normal = (x - mean) * scale;
    }
    for ((sum, slope), normal) in weight_sum.iter_mut().zip(slopes.iter()).zip(normal.iter()) {
        *sum += slope * normal;
    }
    slopes.iter_mut().zip(weight).for_each(|(slope, weight)| *slope *= weight);
    let n = x.len() as f32;
    let (plain, turned) = (sum(slopes) / n, super::maths::dot(slopes, normal) / n);
    for (slope, normal) in slopes.iter_mut().zip(normal.iter()) {
        *slope = (*slope - plain - normal * turned) * scale;
    }
}

/// Normalisation of groups of channels of each example, `[…, channels]` (Wu and He 2018).
pub(crate) struct GroupNorm {
    affine: Affine,
    groups: usize,
    epsilon: f64,
    /// Values of an example.
    size: usize,
    moments: Vec<[f64; 2]>,
}

impl GroupNorm {
    pub(crate) fn new(
        weight: Place,
        bias: Place,
        groups: usize,
        epsilon: f64,
        size: usize,
    ) -> Self {
        Self { affine: Affine { weight, bias }, groups, epsilon, size, moments: Vec::new() }
    }
}

impl Kernel for GroupNorm {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let (weight, bias) = (self.affine.weight.of(cx), self.affine.bias.of(cx));
        let (channels, groups, epsilon) = (weight.len(), self.groups, self.epsilon);
        let width = channels / groups;
        let out = sized(out, input.len());
        self.moments.resize(cx.batch * groups, [0.0; 2]);
        out.par_chunks_exact_mut(self.size)
            .zip(input.par_chunks_exact(self.size))
            .zip(self.moments.par_chunks_exact_mut(groups))
            .for_each(|((out, input), kept)| {
                let n = (input.len() / groups) as f64;
                for (group, kept) in kept.iter_mut().enumerate() {
                    let own = group * width..(group + 1) * width;
                    let mut sums = [0.0_f64; 2];
                    for row in input.chunks_exact(channels) {
                        sums[0] += row[own.clone()].iter().map(|&x| f64::from(x)).sum::<f64>();
                    }
                    let mean = sums[0] / n;
                    for row in input.chunks_exact(channels) {
                        let away = |x: &f32| (f64::from(*x) - mean) * (f64::from(*x) - mean);
                        sums[1] += row[own.clone()].iter().map(away).sum::<f64>();
                    }
                    *kept = [mean, 1.0 / (sums[1] / n + epsilon).sqrt()];
                }
                let rows = out.chunks_exact_mut(channels).zip(input.chunks_exact(channels));
                for (out, x) in rows {
                    for (channel, (out, x)) in out.iter_mut().zip(x).enumerate() {
                        let [mean, scale] = kept[channel / width];
                        let normal = ((f64::from(*x) - mean) * scale) as f32;
                        *out = normal * weight[channel] + bias[channel];
                    }
                }
            });
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
        let weight = self.affine.weight.of(cx);
        let channels = weight.len();
        let (groups, width) = (self.groups, channels / self.groups);
        let kept = &self.moments;
        let sums: Vec<[Vec<f32>; 2]> = slopes
            .par_chunks_exact_mut(self.size)
            .zip(input.par_chunks_exact(self.size))
            .enumerate()
            .map(|(example, (slopes, input))| {
                let kept = &kept[example * groups..(example + 1) * groups];
                let mut sums = [vec![0.0_f32; channels], vec![0.0; channels]];
                let mut means = vec![[0.0_f64; 2]; groups];
                let normal = |channel: usize, x: f32| {
                    let [mean, scale] = kept[channel / width];
                    (f64::from(x) - mean) * scale
                };
                let rows = slopes.chunks_exact(channels).zip(input.chunks_exact(channels));
                for (slopes, x) in rows {
                    for (channel, (&slope, &x)) in slopes.iter().zip(x).enumerate() {
                        let normal = normal(channel, x);
                        sums[0][channel] += slope * normal as f32;
                        sums[1][channel] += slope;
                        let scaled = f64::from(slope * weight[channel]);
                        means[channel / width][0] += scaled;
                        means[channel / width][1] += scaled * normal;
                    }
                }
                let n = (input.len() / groups) as f64;
                let rows = slopes.chunks_exact_mut(channels).zip(input.chunks_exact(channels));
                for (slopes, x) in rows {
                    for (channel, (slope, &x)) in slopes.iter_mut().zip(x).enumerate() {
                        let [plain, turned] = means[channel / width];
                        let own = f64::from(*slope * weight[channel]);
                        let value = own - plain / n - normal(channel, x) * turned / n;
                        *slope = (value * kept[channel / width][1]) as f32;
                    }
                }
                sums
            })
            .collect();
        if let Some(into) = into {
            std::mem::swap(slopes, into);
        }
        for (index, place) in [self.affine.weight, self.affine.bias].into_iter().enumerate() {
            if let Some(gradient) = place.gradient(gradients) {
                gradient.fill(0.0);
                sums.iter().for_each(|part| add_to(gradient, &part[index]));
            }
        }
    }
}
