//! The way back through a convolution with max pooling behind it: one value of each window won, so
//! that most slopes are 0, and only the others are worked on. A quarter of the work behind 2 × 2
//! windows, and no patches are unfolded.

use pulp::{Arch, Simd, WithSimd};

use crate::ops::kernel::{sized, zeroed};
use crate::ops::maths::vectorised;
use crate::ops::patches::Geometry;
use crate::ops::pool::Window;

/// Values that every vector's width divides.
const WIDEST: usize = 16;
/// Fewer values in a row of a patch are not worth the lists.
const ROW_MIN: usize = 32;
/// Vectors that are summed at once: with fewer the additions wait for each other, more do not fit in
/// AVX2's sixteen registers.
const BLOCK_MAX: usize = 8;

/// A slope, and where the values begin that it multiplies.
type Entry = (u32, f32);

/// The convolutions that can be gone back this way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Winners {
    geometry: Geometry,
    window: Window,
    filters: usize,
}

/// Buffers of one piece.
#[derive(Default)]
pub(super) struct Lists {
    padded: Vec<f32>,
    padded_slopes: Vec<f32>,
    by_filter: Vec<Entry>,
    of_filter: Vec<usize>,
    by_pixel: Vec<Entry>,
    of_pixel: Vec<usize>,
}

impl Winners {
    /// None where windows overlap or a patch's rows are short or torn.
    pub(super) fn of(geometry: Geometry, window: Option<Window>, filters: usize) -> Option<Self> {
        let window = window?;
        let row = geometry.kernel[1] * geometry.channels;
        let whole = geometry.dilation == [1, 1] && row >= ROW_MIN && row.is_multiple_of(WIDEST);
        let apart = window.kernel > 1 && window.stride >= window.kernel;
        let winners = Self { geometry, window, filters };
        // Places are kept in 32 bits.
        let small = winners.padded_len().max(winners.patch() * filters) <= u32::MAX as usize;
        (whole && apart && small).then_some(winners)
    }

    fn patch(&self) -> usize {
        self.geometry.taps() * self.geometry.channels
    }

    /// Values of a patch that lie one behind the other.
    fn row(&self) -> usize {
        self.geometry.kernel[1] * self.geometry.channels
    }

    /// Values of a line of the padded picture.
    fn line(&self) -> usize {
        (self.geometry.width + 2 * self.geometry.padding[1]) * self.geometry.channels
    }

    fn padded_len(&self) -> usize {
        (self.geometry.height + 2 * self.geometry.padding[0]) * self.line()
    }

    /// Calls `visit` with each line's place in the padded picture, and in the picture.
    #[inline(always)]
    fn each_line(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let Geometry { channels, height, width, padding, .. } = self.geometry;
        let len = width * channels;
        for y in 0..height {
            visit((y + padding[0]) * self.line() + padding[1] * channels, y * len, len);
        }
    }

    /// Where the patch of an output pixel begins in the padded picture.
    fn base(&self, pixel: usize) -> usize {
        let Geometry { columns, stride, channels, .. } = self.geometry;
        let (row, column) = (pixel / columns, pixel % columns);
        row * stride[0] * self.line() + column * stride[1] * channels
    }

    /// Adds one picture's gradients to `sums` (`[filters, kernel rows, kernel columns, channels]`), and
    /// sets `into`, where it is wanted, to the slopes of the picture. `weight` is laid out as `sums`.
    pub(super) fn backward(
        &self,
        [picture, slopes, weight]: [&[f32]; 3],
        places: &[u16],
        sums: &mut [f32],
        into: Option<&mut [f32]>,
        lists: &mut Lists,
    ) {
        self.list(slopes, places, into.is_some(), lists);
        let padded = zeroed(&mut lists.padded, self.padded_len());
        vectorised!({
            self.each_line(|to, from, len| {
                padded[to..to + len].copy_from_slice(&picture[from..from + len]);
            });
        });
        let (patch, row, line) = (self.patch(), self.row(), self.line());
        Arch::new().dispatch(Sums {
            rows: self.geometry.kernel[0],
            row,
            lists: (&lists.by_filter, &lists.of_filter, self.windows()),
            source: (&lists.padded, line),
            target: (sums, row),
            bases: |filter| filter * patch,
        });
        let Some(into) = into else { return };
        let padded_slopes = zeroed(&mut lists.padded_slopes, self.padded_len());
        Arch::new().dispatch(Sums {
            rows: self.geometry.kernel[0],
            row,
            lists: (&lists.by_pixel, &lists.of_pixel, self.filters),
            source: (weight, row),
            target: (padded_slopes, line),
            bases: |pixel| self.base(pixel),
        });
        self.each_line(|from, to, len| {
            into[to..to + len].copy_from_slice(&padded_slopes[from..from + len]);
        });
    }

    fn windows(&self) -> usize {
        self.window.rows() * self.window.columns()
    }

    /// Sorts the slopes that are not 0 by filter, with their patches, and by pixel, with their filters.
    fn list(&self, slopes: &[f32], places: &[u16], by_pixel: bool, lists: &mut Lists) {
        let (windows, filters, patch) = (self.windows(), self.filters, self.patch());
        let pixels = self.geometry.pixels();
        let of_filter = sized(&mut lists.of_filter, filters);
        of_filter.fill(0);
        let of_pixel = sized(&mut lists.of_pixel, pixels);
        of_pixel.fill(0);
        let filter_lists = sized(&mut lists.by_filter, filters * windows);
        let pixel_lists = sized(&mut lists.by_pixel, if by_pixel { pixels * filters } else { 0 });
        let Window { kernel, stride, width, .. } = self.window;
        let columns = self.window.columns();
        for window in 0..windows {
            let first = window / columns * stride * width + window % columns * stride;
            let lane = window * filters..(window + 1) * filters;
            let pairs = slopes[lane.clone()].iter().zip(&places[lane]);
            for (filter, (&slope, &place)) in pairs.enumerate() {
                let place = usize::from(place);
                let pixel = first + place / kernel * width + place % kernel;
                let counts = usize::from(slope != 0.0);
                // Written in any case: a branch would be guessed wrong half of the time.
                filter_lists[filter * windows + of_filter[filter]] =
                    (self.base(pixel) as u32, slope);
                of_filter[filter] += counts;
                if by_pixel {
                    pixel_lists[pixel * filters + of_pixel[pixel]] =
                        ((filter * patch) as u32, slope);
                    of_pixel[pixel] += counts;
                }
            }
        }
    }
}

/// For every list and every row of a patch: adds to a row of the target the rows of the source that
/// the list names, each times its slope, in the list's order.
struct Sums<'a, F> {
    rows: usize,
    row: usize,
    /// Entries, how many count of each list, and the room of a list.
    lists: (&'a [Entry], &'a [usize], usize),
    /// Values, and how far a row of a patch is from the next.
    source: (&'a [f32], usize),
    target: (&'a mut [f32], usize),
    /// Where a list's first row begins in the target.
    bases: F,
}

impl<F: Fn(usize) -> usize> WithSimd for Sums<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let vectors = self.row / S::F32_LANES;
        let blocks = vectors.div_ceil(BLOCK_MAX);
        for row in 0..self.rows {
            for block in 0..blocks {
                let (start, end) = (block * vectors / blocks, (block + 1) * vectors / blocks);
                let at = (row, start * S::F32_LANES);
                match end - start {
                    1 => self.block::<S, 1>(simd, at),
                    2 => self.block::<S, 2>(simd, at),
                    3 => self.block::<S, 3>(simd, at),
                    4 => self.block::<S, 4>(simd, at),
                    5 => self.block::<S, 5>(simd, at),
                    6 => self.block::<S, 6>(simd, at),
                    7 => self.block::<S, 7>(simd, at),
                    _ => self.block::<S, BLOCK_MAX>(simd, at),
                }
            }
        }
    }
}

impl<F: Fn(usize) -> usize> Sums<'_, F> {
    /// Some vectors of one row of the patches, of all lists.
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&mut self, simd: S, (row, start): (usize, usize)) {
        let (entries, counts, room) = self.lists;
        let shift = row * self.source.1 + start;
        let source = &self.source.0[shift..];
        let len = N * S::F32_LANES;
        for (list, &count) in counts.iter().enumerate() {
            let entries = &entries[list * room..][..count];
            if entries.is_empty() {
                continue;
            }
            let at = (self.bases)(list) + row * self.target.1 + start;
            let (target, _) = S::as_mut_simd_f32s(&mut self.target.0[at..at + len]);
            let mut sums = [simd.splat_f32s(0.0); N];
            sums.copy_from_slice(&target[..N]);
            for &(from, slope) in entries {
                let slope = simd.splat_f32s(slope);
                let from = from as usize;
                let (values, _) = S::as_simd_f32s(&source[from..from + len]);
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = simd.mul_add_f32s(slope, *value, *sum);
                }
            }
            target[..N].copy_from_slice(&sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Conv, Fused};
    use crate::ops::kernel::{Cx, Kernel, Place};
    use crate::ops::patches::Geometry;
    use tributary_core::model::Convolution;
    use tributary_core::prg::Prg;

    /// Gradients and the input's slopes, by the winners or by all patches.
    fn gradients(conv: &Convolution, sides: [usize; 2], relu: bool, winners: bool) -> Vec<f32> {
        const CHANNELS: usize = 16;
        let (filters, batch) = (conv.out, 3);
        let geometry = Geometry::of_picture(conv, [CHANNELS, sides[0], sides[1]]);
        let weights = filters * CHANNELS * conv.kernel * conv.kernel;
        let weight = Place { offset: 0, len: weights, frozen: false };
        let bias = Place { offset: weights, len: filters, frozen: false };
        let fused = Fused { relu, pool: Some(geometry.window(filters, 2, 2)) };
        let mut kernel = Conv::new(weight, bias, geometry, 1, fused);
        assert!(kernel.winners.is_some(), "this convolution has the short way");
        if !winners {
            kernel.winners = None;
        }
        let mut prg = Prg::for_name(1, "test", "winners");
        let mut drawn =
            |len: usize| -> Vec<f32> { (0..len).map(|_| prg.unit_f64() as f32 - 0.5).collect() };
        let (trained, input) =
            (drawn(weights + filters), drawn(batch * CHANNELS * sides[0] * sides[1]));
        let cx = Cx {
            trained: &trained,
            frozen: &[],
            batch,
            tokens: &[],
            lengths: &[],
            training: true,
            observing: false,
            seed: 0,
        };
        let mut out = Vec::new();
        kernel.forward(&cx, &input, &mut out);
        let mut slopes = drawn(out.len());
        let (mut into, mut gradients) = (Vec::new(), vec![0.0; trained.len()]);
        kernel.backward(&cx, &input, &out, &mut slopes, Some(&mut into), &mut gradients);
        gradients.extend(into);
        gradients
    }

    #[test]
    fn the_winners_alone_give_the_gradients_of_all_patches() {
        let plain =
            Convolution { out: 5, kernel: 3, stride: 1, padding: 1, dilation: 1, groups: 1 };
        let wide = Convolution { kernel: 5, padding: 2, ..plain };
        let strided = Convolution { stride: 2, padding: 0, ..wide };
        for conv in [plain, wide, strided] {
            for (sides, relu) in [([8, 8], true), ([9, 13], false), ([13, 9], true)] {
                let short = gradients(&conv, sides, relu, true);
                let long = gradients(&conv, sides, relu, false);
                assert!(long.iter().any(|value| *value != 0.0));
                for (at, (short, long)) in short.iter().zip(&long).enumerate() {
                    let near = (short - long).abs() <= 2e-5 * long.abs().max(1.0);
                    assert!(near, "{conv:?} {sides:?} at {at}: {short} and {long}");
                }
            }
        }
    }
}
