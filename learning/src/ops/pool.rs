//! Pooling of pictures with their channels last.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use super::kernel::{Cx, Kernel, sized, zeroed};
use super::maths::{add_to, rectified, vectorised};

/// Channels that are worked on at once: a register's.
const BLOCK: usize = 16;

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

    /// Whether every value of the picture is in just one window.
    fn tiles(&self) -> bool {
        let whole = |side: usize| side.is_multiple_of(self.kernel);
        self.stride == self.kernel && whole(self.height) && whole(self.width)
    }

    /// Calls `visit` with the first value of each place of a window, in order.
    #[inline(always)]
    fn each_place(&self, first: usize, mut visit: impl FnMut(u16, usize)) {
        let mut tap = 0;
        for y in 0..self.kernel {
            for x in 0..self.kernel {
                visit(tap, first + (y * self.width + x) * self.channels);
                tap += 1;
            }
        }
    }

    /// Calls `visit` for every window with its place among the windows and its first value, both of
    /// the first channel.
    #[inline(always)]
    fn each_window(&self, mut visit: impl FnMut(usize, usize)) {
        let columns = self.columns();
        for row in 0..self.rows() {
            for column in 0..columns {
                visit((row * columns + column) * self.channels, self.at(row, column, 0));
            }
        }
    }

    /// The largest value of each window, and its place within the window counted by rows; with `relu`
    /// the value is then rectified. The first of equal values wins, and a NaN wins over all, as in
    /// PyTorch.
    #[inline(always)]
    pub(super) fn largest(&self, picture: &[f32], out: &mut [f32], places: &mut [u16], relu: bool) {
        let whole = self.channels / BLOCK * BLOCK;
        self.each_window(|window, first| {
            for channel in (0..whole).step_by(BLOCK) {
                let at = window + channel;
                let (best, place) = self.largest_of::<BLOCK>(picture, first + channel, relu);
                out[at..at + BLOCK].copy_from_slice(&best);
                places[at..at + BLOCK].copy_from_slice(&place);
            }
            for channel in whole..self.channels {
                let ([best], [place]) = self.largest_of::<1>(picture, first + channel, relu);
                (out[window + channel], places[window + channel]) = (best, place);
            }
        });
    }

    /// [`Self::largest`] of some channels of one window, in registers.
    #[inline(always)]
    fn largest_of<const N: usize>(
        &self,
        picture: &[f32],
        first: usize,
        relu: bool,
    ) -> ([f32; N], [u16; N]) {
        let mut best = [f32::NEG_INFINITY; N];
        let mut places = [0_u32; N];
        self.each_place(first, |tap, at| {
            let values = &picture[at..at + N];
            for lane in 0..N {
                let (value, so_far) = (values[lane], best[lane]);
                // Larger, or a NaN, and not behind a NaN.
                #[allow(clippy::neg_cmp_op_on_partial_ord)]
                let wins = !(value <= so_far) & !so_far.is_nan() | (tap == 0);
                best[lane] = if wins { value } else { so_far };
                places[lane] = if wins { u32::from(tap) } else { places[lane] };
            }
        });
        if relu {
            best = best.map(rectified);
        }
        (best, places.map(|place| place as u16))
    }

    /// Makes a picture's slopes of those of the largest values: all 0 but at the places that won.
    #[inline(always)]
    pub(super) fn scatter(&self, slopes: &[f32], places: &[u16], picture: &mut [f32]) {
        let tiles = self.tiles();
        if !tiles {
            picture.fill(0.0);
        }
        let whole = self.channels / BLOCK * BLOCK;
        self.each_window(|window, first| {
            for channel in (0..whole).step_by(BLOCK) {
                let lanes = window + channel..window + channel + BLOCK;
                let (slopes, places) = (&slopes[lanes.clone()], &places[lanes]);
                self.scatter_of::<BLOCK>(slopes, places, first + channel, tiles, picture);
            }
            for channel in whole..self.channels {
                let lane = window + channel..window + channel + 1;
                let (slopes, places) = (&slopes[lane.clone()], &places[lane]);
                self.scatter_of::<1>(slopes, places, first + channel, tiles, picture);
            }
        });
    }

    #[inline(always)]
    fn scatter_of<const N: usize>(
        &self,
        slopes: &[f32],
        places: &[u16],
        first: usize,
        tiles: bool,
        picture: &mut [f32],
    ) {
        self.each_place(first, |tap, at| {
            let target = &mut picture[at..at + N];
            for lane in 0..N {
                let slope = if places[lane] == tap { slopes[lane] } else { 0.0 };
                target[lane] = if tiles { slope } else { target[lane] + slope };
            }
        });
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
                        vectorised!(window.largest(picture, out, places, false));
                    });
            }
            PoolKind::Mean => out
                .par_chunks_exact_mut(size)
                .zip(pictures)
                .for_each(|(out, picture)| vectorised!(window.mean(picture, out))),
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
                vectorised!(match kind {
                    PoolKind::Max => {
                        let places = &places[index * size..(index + 1) * size];
                        window.scatter(slopes, places, picture);
                    }
                    PoolKind::Mean => window.spread(slopes, picture),
                });
            });
    }
}
