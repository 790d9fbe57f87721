//! Pooling of pictures with their channels last.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use super::kernel::{Cx, Kernel, sized, zeroed};
use super::maths::{add_to, vectorised};

/// Square windows without padding over `[height, width, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Window {
    fn windows(&self, side: usize) -> usize {
        side.checked_sub(self.kernel).map_or(0, |room| room / self.stride + 1)
    }

    pub(super) fn rows(&self) -> usize {
        self.windows(self.height)
    }

    pub(super) fn columns(&self) -> usize {
        self.windows(self.width)
    }

    pub(super) fn input_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    pub(super) fn out_len(&self) -> usize {
        self.rows() * self.columns() * self.channels
    }

    /// The first value of a window's place.
    fn at(&self, row: usize, column: usize, tap: usize) -> usize {
        let (y, x) = (tap / self.kernel, tap % self.kernel);
        ((row * self.stride + y) * self.width + column * self.stride + x) * self.channels
    }

    /// The largest value of each window, and its place within the window counted by rows. The first
    /// of equal values wins, and a NaN wins over all, as in PyTorch.
    #[inline(always)]
    pub(super) fn largest(&self, picture: &[f32], out: &mut [f32], places: &mut [u16]) {
        let (columns, channels) = (self.columns(), self.channels);
        let windows = out.chunks_exact_mut(channels).zip(places.chunks_exact_mut(channels));
        for (index, (out, places)) in windows.enumerate() {
            let (row, column) = (index / columns, index % columns);
            out.copy_from_slice(&picture[self.at(row, column, 0)..][..channels]);
            places.fill(0);
            for tap in 1..self.kernel * self.kernel {
                let values = &picture[self.at(row, column, tap)..][..channels];
                for ((best, place), value) in out.iter_mut().zip(places.iter_mut()).zip(values) {
                    let wins = (*value > *best || value.is_nan()) && !best.is_nan();
                    *best = if wins { *value } else { *best };
                    *place = if wins { tap as u16 } else { *place };
                }
            }
        }
    }

    /// Adds slopes to the places that won.
    #[inline(always)]
    pub(super) fn scatter(&self, slopes: &[f32], places: &[u16], picture: &mut [f32]) {
        let (columns, channels) = (self.columns(), self.channels);
        let windows = slopes.chunks_exact(channels).zip(places.chunks_exact(channels));
        for (index, (slopes, places)) in windows.enumerate() {
            let (row, column) = (index / columns, index % columns);
            for tap in 0..self.kernel * self.kernel {
                let target = &mut picture[self.at(row, column, tap)..][..channels];
                for ((target, slope), place) in target.iter_mut().zip(slopes).zip(places) {
                    *target += if *place as usize == tap { *slope } else { 0.0 };
                }
            }
        }
    }

    #[inline(always)]
    fn mean(&self, picture: &[f32], out: &mut [f32]) {
        let (columns, channels) = (self.columns(), self.channels);
        let taps = self.kernel * self.kernel;
        for (index, out) in out.chunks_exact_mut(channels).enumerate() {
            out.fill(0.0);
            for tap in 0..taps {
                let start = self.at(index / columns, index % columns, tap);
                add_to(out, &picture[start..][..channels]);
            }
            let share = 1.0 / taps as f32;
            out.iter_mut().for_each(|out| *out *= share);
        }
    }

    #[inline(always)]
    fn spread(&self, slopes: &[f32], picture: &mut [f32]) {
        let (columns, channels) = (self.columns(), self.channels);
        let taps = self.kernel * self.kernel;
        let share = 1.0 / taps as f32;
        for (index, slopes) in slopes.chunks_exact(channels).enumerate() {
            for tap in 0..taps {
                let start = self.at(index / columns, index % columns, tap);
                let target = &mut picture[start..][..channels];
                target.iter_mut().zip(slopes).for_each(|(target, slope)| *target += slope * share);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolKind {
    Max,
    Mean,
}

/// Pooling as a layer of its own.
pub(crate) struct Pool {
    kind: PoolKind,
    window: Window,
    places: Vec<u16>,
}

impl Pool {
    pub(crate) fn new(kind: PoolKind, window: Window) -> Self {
        Self { kind, window, places: Vec::new() }
    }
}

impl Kernel for Pool {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let window = self.window;
        let size = window.out_len().max(1);
        let out = sized(out, cx.batch * size);
        let pictures = input.par_chunks_exact(window.input_len());
        match self.kind {
            PoolKind::Max => {
                let places = sized(&mut self.places, out.len());
                out.par_chunks_exact_mut(size)
                    .zip(places.par_chunks_exact_mut(size))
                    .zip(pictures)
                    .for_each(|((out, places), picture)| {
                        vectorised(|| window.largest(picture, out, places));
                    });
            }
            PoolKind::Mean => out
                .par_chunks_exact_mut(size)
                .zip(pictures)
                .for_each(|(out, picture)| vectorised(|| window.mean(picture, out))),
        }
    }

    fn backward(
        &mut self,
        _: &Cx<'_>,
        input: &[f32],
        _: &[f32],
        slopes: &mut Vec<f32>,
        into: Option<&mut Vec<f32>>,
        _: &mut [f32],
    ) {
        let Some(into) = into else { return };
        let (window, kind) = (self.window, self.kind);
        let size = window.out_len().max(1);
        let into = zeroed(into, input.len());
        let places = &self.places;
        into.par_chunks_exact_mut(window.input_len())
            .zip(slopes.par_chunks_exact(size))
            .enumerate()
            .for_each(|(index, (picture, slopes))| {
                vectorised(|| match kind {
                    PoolKind::Max => {
                        let places = &places[index * size..(index + 1) * size];
                        window.scatter(slopes, places, picture);
                    }
                    PoolKind::Mean => window.spread(slopes, picture),
                });
            });
    }
}
