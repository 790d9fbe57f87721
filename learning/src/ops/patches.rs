//! Unfolding a picture into the patches that a convolution sees (im2col), and back. Pictures are
//! `[height, width, channels]`; a patch is `[kernel rows, kernel columns, channels]`.

use tributary_core::model::Convolution;

use super::pool::Window;

/// The sizes of one convolution of one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Geometry {
    /// A convolution of pictures `[channels, height, width]`.
    pub(crate) fn of_picture(conv: &Convolution, [channels, height, width]: [usize; 3]) -> Self {
        let square = |value| [value, value];
        let Convolution { kernel, stride, padding, dilation, .. } = *conv;
        let mut geometry = Self {
            channels,
            height,
            width,
            kernel: square(kernel),
            stride: square(stride),
            padding: square(padding),
            dilation: square(dilation),
            rows: 0,
            columns: 0,
        };
        geometry.rows = geometry.windows(0, height);
        geometry.columns = geometry.windows(1, width);
        geometry
    }

    /// A convolution of signals `[channels, length]`: pictures of one row.
    pub(crate) fn of_signal(conv: &Convolution, [channels, length]: [usize; 2]) -> Self {
        let mut geometry = Self::of_picture(conv, [channels, 1, length]);
        geometry.kernel[0] = 1;
        geometry.stride[0] = 1;
        geometry.padding[0] = 0;
        geometry.rows = 1;
        geometry
    }

    /// Windows of max pooling over what the convolution makes.
    pub(crate) fn window(&self, filters: usize, kernel: usize, stride: usize) -> Window {
        Window { kernel, stride, height: self.rows, width: self.columns, channels: filters }
    }

    fn windows(&self, axis: usize, side: usize) -> usize {
        let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
        let room = (side + 2 * self.padding[axis]).checked_sub(reach);
        room.map_or(0, |room| room / self.stride[axis] + 1)
    }

    /// Values of the input picture.
    pub(super) fn input_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Places of the kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// How many patches: the output's pixels.
    pub(super) fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// The input's place under a kernel's place, where it is within the picture.
    fn input(&self, axis: usize, out: usize, tap: usize) -> Option<usize> {
        let place = out * self.stride[axis] + tap * self.dilation[axis];
        let side = if axis == 0 { self.height } else { self.width };
        place.checked_sub(self.padding[axis]).filter(|&place| place < side)
    }

    /// The kernel columns that lie within the picture at an output column, and the input column of the
    /// first. Dilated kernels are taken place by place.
    fn run(&self, column: usize) -> (std::ops::Range<usize>, usize) {
        let left = column * self.stride[1];
        let first = self.padding[1].saturating_sub(left).min(self.kernel[1]);
        let end = (self.width + self.padding[1]).saturating_sub(left).min(self.kernel[1]);
        (first..end.max(first), (left + first).saturating_sub(self.padding[1]))
    }

    /// Calls `visit` with every piece of a patch that lies within the picture, in order: offsets in the
    /// patch matrix and in the picture, and a length; all in values.
    #[inline(always)]
    fn each_run(
        &self,
        channels: &std::ops::Range<usize>,
        mut visit: impl FnMut(usize, usize, usize),
    ) {
        let width = channels.len();
        let patch = self.taps() * width;
        let dense = self.dilation[1] == 1 && width == self.channels;
        for row in 0..self.rows {
            for column in 0..self.columns {
                let start = (row * self.columns + column) * patch;
                for tap_row in 0..self.kernel[0] {
                    let Some(y) = self.input(0, row, tap_row) else { continue };
                    let line = start + tap_row * self.kernel[1] * width;
                    let source = y * self.width;
                    if dense {
                        let (run, x) = self.run(column);
                        let place = (source + x) * self.channels;
                        visit(line + run.start * width, place, run.len() * width);
                        continue;
                    }
                    for tap in 0..self.kernel[1] {
                        let Some(x) = self.input(1, column, tap) else { continue };
                        let place = (source + x) * self.channels + channels.start;
                        visit(line + tap * width, place, width);
                    }
                }
            }
        }
    }

    /// Whether every patch lies within the picture.
    fn inner(&self) -> bool {
        self.padding == [0, 0]
    }

    /// Writes the patch matrix `[pixels, taps × channels]` of some channels of a picture; zeros where a
    /// patch hangs over the edge.
    #[inline(always)]
    pub(super) fn unfold(
        &self,
        channels: &std::ops::Range<usize>,
        picture: &[f32],
        patches: &mut [f32],
    ) {
        if !self.inner() {
            patches.fill(0.0);
        }
        self.each_run(channels, |patch, place, len| {
            copy_run(&mut patches[patch..patch + len], &picture[place..place + len]);
        });
    }

    /// Adds a patch matrix's slopes onto the picture's, the transpose of [`Self::unfold`].
    #[inline(always)]
    pub(super) fn fold(
        &self,
        channels: &std::ops::Range<usize>,
        patches: &[f32],
        picture: &mut [f32],
    ) {
        self.each_run(channels, |patch, place, len| {
            super::maths::add_to(&mut picture[place..place + len], &patches[patch..patch + len]);
        });
    }
}

/// A copy without a call: runs are short.
#[inline(always)]
fn copy_run(target: &mut [f32], source: &[f32]) {
    target.iter_mut().zip(source).for_each(|(target, source)| *target = *source);
}
