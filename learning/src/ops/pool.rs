//! Max pooling with the place of each maximum kept for the way back.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSliceMut};

use super::buffer::{argument, floats, gradient, result};

/// Square windows without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Side of the window, in pixels; at most 255.
    pub kernel: usize,
    /// Step of the window, in pixels.
    pub stride: usize,
}

impl Pool {
    /// The windows along a side; 0 where none fits.
    pub(super) fn windows(&self, side: usize) -> usize {
        side.checked_sub(self.kernel).map_or(0, |room| room / self.stride + 1)
    }

    fn check(&self) -> Result<()> {
        if self.kernel == 0 || self.kernel > 255 || self.stride == 0 {
            bail!("max_pool2d needs a kernel from 1 to 255 and a stride above 0, got {self:?}")
        }
        Ok(())
    }

    /// Pools one plane `height × width`. `places` gets the maximum's place within its window,
    /// counted by rows. The first of equal values wins, and a NaN wins over all, as in PyTorch.
    pub(super) fn plane(&self, width: usize, plane: &[f32], out: &mut [f32], places: &mut [u16]) {
        let columns = self.windows(width).max(1);
        let lines = out.chunks_exact_mut(columns).zip(places.chunks_exact_mut(columns));
        for (row, (out, places)) in lines.enumerate() {
            let top = &plane[row * self.stride * width..];
            if self.kernel == 2 && self.stride == 2 {
                pairs(top, width, out, places);
                continue;
            }
            for (column, (out, place)) in out.iter_mut().zip(places).enumerate() {
                (*out, *place) = self.window(&top[column * self.stride..], width);
            }
        }
    }

    fn window(&self, corner: &[f32], width: usize) -> (f32, u16) {
        let mut best = (f32::NEG_INFINITY, 0);
        for y in 0..self.kernel {
            for (x, &value) in corner[y * width..][..self.kernel].iter().enumerate() {
                if value > best.0 || value.is_nan() {
                    best = (value, (y * self.kernel + x) as u16);
                }
            }
        }
        best
    }

    /// Adds the pooled plane's gradient to the places that won.
    pub(super) fn scatter(
        &self,
        width: usize,
        gradient: &[f32],
        places: &[u16],
        plane: &mut [f32],
    ) {
        let columns = self.windows(width).max(1);
        let lines = gradient.chunks_exact(columns).zip(places.chunks_exact(columns));
        for (row, (line, places)) in lines.enumerate() {
            let top = row * self.stride * width;
            for (column, (value, place)) in line.iter().zip(places).enumerate() {
                let (y, x) = (*place as usize / self.kernel, *place as usize % self.kernel);
                plane[top + y * width + column * self.stride + x] += *value;
            }
        }
    }
}

/// One line of 2 × 2 windows, without branches.
fn pairs(top: &[f32], width: usize, out: &mut [f32], places: &mut [u16]) {
    let (first, second) = top.split_at(width);
    let lines = first.chunks_exact(2).zip(second.chunks_exact(2));
    for ((upper, lower), (out, place)) in lines.zip(out.iter_mut().zip(places)) {
        let larger = |a: (f32, u16), b: (f32, u16)| if b.0 > a.0 || b.0.is_nan() { b } else { a };
        let best = larger((upper[0], 0), (upper[1], 1));
        let best = larger(best, (lower[0], 2));
        (*out, *place) = larger(best, (lower[1], 3));
    }
}

struct MaxPool2d {
    pool: Pool,
    places: OnceLock<Vec<u16>>,
}

impl CustomOp1 for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let input = argument(storage, layout)?;
        let (rows, columns) = (self.pool.windows(height), self.pool.windows(width));
        let planes = batch * channels;
        let mut out = vec![0.0; planes * rows * columns];
        let mut places = vec![0; out.len()];
        let size = (rows * columns).max(1);
        out.par_chunks_mut(size).zip(places.par_chunks_mut(size)).enumerate().for_each(
            |(index, (out, places))| {
                let plane = &input[index * height * width..][..height * width];
                self.pool.plane(width, plane, out, places);
            },
        );
        // An op is built for one call, so the cell is empty.
        let _ = self.places.set(places);
        result(out, (batch, channels, rows, columns))
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, gradient_out: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, height, width) = input.dims4()?;
        let gradient_out = gradient_out.contiguous()?;
        let (storage, layout) = gradient_out.storage_and_layout();
        let out = floats(&storage, layout)?;
        let Some(places) = self.places.get() else { bail!("backward came before forward") };
        let mut planes = vec![0.0; input.elem_count()];
        let size = (self.pool.windows(height) * self.pool.windows(width)).max(1);
        planes.par_chunks_mut((height * width).max(1)).enumerate().for_each(|(index, plane)| {
            let place = index * size..(index + 1) * size;
            self.pool.scatter(width, &out[place.clone()], &places[place], plane);
        });
        gradient(planes, input)
    }
}

/// The largest value of each window of each channel: `[batch, channels, height, width]` to
/// `[batch, channels, ⌊(height − kernel) ⁄ stride⌋ + 1, …]`. The gradient goes to the first of equal
/// values.
///
/// # Errors
/// On other shapes and types.
pub fn max_pool2d(input: &Tensor, pool: Pool) -> Result<Tensor> {
    pool.check()?;
    input.contiguous()?.apply_op1(MaxPool2d { pool, places: OnceLock::new() })
}
