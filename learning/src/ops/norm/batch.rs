//! Batch normalisation.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use super::super::kernel::{Cx, Kernel, Place, sized};
use super::{Affine, ROWS_MIN};

/// Normalisation of each channel over the batch, `[…, channels]` (Ioffe and Szegedy 2015); outside
/// training by running statistics, or by those that it observed, or else by the batch's own.
pub(crate) struct BatchNorm {
    affine: Affine,
    /// None where statistics are local.
    running: Option<[Place; 2]>,
    momentum: f64,
    epsilon: f64,
    /// Mean and 1 ⁄ deviation of every channel.
    moments: Vec<[f32; 2]>,
    /// Mean and unbiased variance of the last batch of training, until they are settled.
    seen: Option<Vec<[f64; 2]>>,
    /// Sums over observed batches of means and variances, each times its rows; and the rows.
    observed: (Vec<[f64; 2]>, f64),
}

impl BatchNorm {
    pub(crate) fn new(
        weight: Place,
        bias: Place,
        running: Option<[Place; 2]>,
        momentum: f64,
        epsilon: f64,
    ) -> Self {
        let affine = Affine { weight, bias };
        let observed = (Vec::new(), 0.0);
        Self { affine, running, momentum, epsilon, moments: Vec::new(), seen: None, observed }
    }

    fn batch_moments(&mut self, input: &[f32], channels: usize) {
        let rows = (input.len() / channels) as f64;
        let column_sums = |of: &(dyn Fn(usize, f64) -> f64 + Sync)| {
            let mut sums = vec![0.0_f64; channels];
            for row in input.chunks_exact(channels) {
                for (channel, (sum, x)) in sums.iter_mut().zip(row).enumerate() {
                    *sum += of(channel, f64::from(*x));
                }
            }
            sums
        };
        let means: Vec<f64> = column_sums(&|_, x| x).iter().map(|sum| sum / rows).collect();
        let squares = column_sums(&|channel, x| (x - means[channel]) * (x - means[channel]));
        let pairs = means.iter().zip(&squares);
        let epsilon = self.epsilon;
        self.moments = pairs
            .clone()
            .map(|(mean, square)| [*mean as f32, (1.0 / (square / rows + epsilon).sqrt()) as f32])
            .collect();
        // One example alone has no unbiased variance; PyTorch refuses it, here it counts as biased.
        let free = (rows - 1.0).max(1.0);
        self.seen = Some(pairs.map(|(mean, square)| [*mean, square / free]).collect());
    }

    /// Counts the last batch among those that stand for the site.
    fn observe(&mut self, rows: f64) {
        let Some(seen) = self.seen.take() else { return };
        let (sums, count) = &mut self.observed;
        sums.resize(seen.len(), [0.0; 2]);
        for (sum, seen) in sums.iter_mut().zip(seen) {
            *sum = [sum[0] + rows * seen[0], sum[1] + rows * seen[1]];
        }
        *count += rows;
    }
}

impl Kernel for BatchNorm {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let (weight, bias) = (self.affine.weight.of(cx), self.affine.bias.of(cx));
        let channels = weight.len();
        let scale = |variance: f64| (1.0 / (variance + self.epsilon).sqrt()) as f32;
        match self.running {
            Some(running) if !cx.training && !cx.observing => {
                let [mean, variance] = running.map(|place| place.of(cx));
                let pairs = mean.iter().zip(variance);
                self.moments = pairs.map(|(m, v)| [*m, scale(f64::from(*v))]).collect();
            }
            None if !cx.training && !cx.observing && self.observed.1 > 0.0 => {
                let (sums, rows) = &self.observed;
                let moments = sums.iter().map(|[m, v]| [(m / rows) as f32, scale(v / rows)]);
                self.moments = moments.collect();
            }
            _ => self.batch_moments(input, channels),
        }
        if cx.observing {
            self.observe((input.len() / channels) as f64);
        }
        let kept = &self.moments;
        let out = sized(out, input.len());
        out.par_chunks_mut(channels * ROWS_MIN)
            .zip(input.par_chunks(channels * ROWS_MIN))
            .for_each(|(out, input)| {
                let rows = out.chunks_exact_mut(channels).zip(input.chunks_exact(channels));
                for (out, x) in rows {
                    for (channel, (out, x)) in out.iter_mut().zip(x).enumerate() {
                        let [mean, scale] = kept[channel];
                        *out = (x - mean) * scale * weight[channel] + bias[channel];
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
        let kept = &self.moments;
        let mut sums = [vec![0.0_f64; channels], vec![0.0; channels]];
        for (slopes, x) in slopes.chunks_exact(channels).zip(input.chunks_exact(channels)) {
            for (channel, (&slope, &x)) in slopes.iter().zip(x).enumerate() {
                let [mean, scale] = kept[channel];
                sums[0][channel] += f64::from(slope) * f64::from((x - mean) * scale);
                sums[1][channel] += f64::from(slope);
            }
        }
        let rows = (input.len() / channels) as f64;
        if let Some(into) = into {
            let into = sized(into, input.len());
            let lists = slopes.chunks_exact(channels).zip(input.chunks_exact(channels));
            for ((slopes, x), into) in lists.zip(into.chunks_exact_mut(channels)) {
                for (channel, (&slope, &x)) in slopes.iter().zip(x).enumerate() {
                    let [mean, scale] = kept[channel];
                    let normal = (x - mean) * scale;
                    let drift = (sums[1][channel] + f64::from(normal) * sums[0][channel]) / rows;
                    into[channel] = (slope - drift as f32) * scale * weight[channel];
                }
            }
        }
        for (sum, place) in sums.iter().zip([self.affine.weight, self.affine.bias]) {
            if let Some(gradient) = place.gradient(gradients) {
                gradient.iter_mut().zip(sum).for_each(|(gradient, sum)| *gradient = *sum as f32);
            }
        }
    }

    fn settle(&mut self, trained: &mut [f32]) {
        let (Some(seen), Some(running)) = (self.seen.take(), self.running) else { return };
        for (index, place) in running.into_iter().enumerate() {
            let Some(running) = place.gradient(trained) else { continue };
            for (running, seen) in running.iter_mut().zip(&seen) {
                let old = f64::from(*running) * (1.0 - self.momentum);
                *running = (old + self.momentum * seen[index]) as f32;
            }
        }
    }
}
