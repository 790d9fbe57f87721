//! Unfolding a picture into the patches that a convolution sees (im2col), and back.

use super::convolution::Convolution;

/// The sizes of one convolution of one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel_rows: usize,
    pub(super) kernel_columns: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Geometry {
    /// `None` where not even one patch fits.
    pub(super) fn new(input: [usize; 3], kernel: [usize; 2], config: &Convolution) -> Option<Self> {
        let [channels, height, width] = input;
        let Convolution { stride, padding, .. } = *config;
        let side = |size: usize, kernel: usize| {
            Some((size + 2 * padding).checked_sub(kernel)?.checked_div(stride)? + 1)
        };
        let [kernel_rows, kernel_columns] = kernel;
        let (rows, columns) = (side(height, kernel_rows)?, side(width, kernel_columns)?);
        Some(Self {
            channels,
            height,
            width,
            kernel_rows,
            kernel_columns,
            stride,
            padding,
            rows,
            columns,
        })
    }

    /// Values of the input picture.
    pub(super) fn input_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Values of one patch.
    pub(super) fn patch_len(&self) -> usize {
        self.channels * self.kernel_rows * self.kernel_columns
    }

    /// How many patches: the output's pixels.
    pub(super) fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// The output columns of a kernel column whose input column is within the picture, and the first
    /// of those input columns.
    fn inside(&self, kernel_column: usize) -> (std::ops::Range<usize>, usize) {
        let first = self.padding.saturating_sub(kernel_column).div_ceil(self.stride);
        let end = (self.width + self.padding).saturating_sub(kernel_column).div_ceil(self.stride);
        let end = end.min(self.columns);
        let first = first.min(end);
        let input = (first * self.stride + kernel_column).saturating_sub(self.padding);
        (first..end, input.min(self.width))
    }

    /// The input row of an output row, where it is within the picture.
    fn input_row(&self, row: usize, kernel_row: usize) -> Option<usize> {
        (row * self.stride + kernel_row).checked_sub(self.padding).filter(|&y| y < self.height)
    }

    /// Calls `visit` for each row of the patch matrix with its channel, kernel row and column.
    fn each_row(&self, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let mut index = 0;
        for channel in 0..self.channels {
            for kernel_row in 0..self.kernel_rows {
                for kernel_column in 0..self.kernel_columns {
                    visit(index, channel, kernel_row, kernel_column);
                    index += 1;
                }
            }
        }
    }

    /// Writes the patch matrix `[patch_len, pixels]` of a picture `[channels, height, width]`; every
    /// element is written, zeros where a patch hangs over the edge.
    pub(super) fn unfold(&self, picture: &[f32], patches: &mut [f32]) {
        let pixels = self.pixels();
        self.each_row(|index, channel, kernel_row, kernel_column| {
            let target = &mut patches[index * pixels..(index + 1) * pixels];
            let (inside, start) = self.inside(kernel_column);
            for (row, line) in target.chunks_exact_mut(self.columns).enumerate() {
                let Some(y) = self.input_row(row, kernel_row) else {
                    line.fill(0.0);
                    continue;
                };
                let source = &picture[(channel * self.height + y) * self.width..][..self.width];
                line[..inside.start].fill(0.0);
                line[inside.end..].fill(0.0);
                let line = &mut line[inside.clone()];
                if self.stride == 1 {
                    line.copy_from_slice(&source[start..start + line.len()]);
                } else {
                    let picked = source[start..].iter().step_by(self.stride);
                    line.iter_mut().zip(picked).for_each(|(target, value)| *target = *value);
                }
            }
        });
    }

    /// Adds a patch matrix's gradient back onto the picture's, the transpose of [`Self::unfold`].
    pub(super) fn fold(&self, patches: &[f32], picture: &mut [f32]) {
        let pixels = self.pixels();
        self.each_row(|index, channel, kernel_row, kernel_column| {
            let source = &patches[index * pixels..(index + 1) * pixels];
            let (inside, start) = self.inside(kernel_column);
            for (row, line) in source.chunks_exact(self.columns).enumerate() {
                let Some(y) = self.input_row(row, kernel_row) else { continue };
                let target = &mut picture[(channel * self.height + y) * self.width..][..self.width];
                let line = &line[inside.clone()];
                if self.stride == 1 {
                    let target = &mut target[start..start + line.len()];
                    target.iter_mut().zip(line).for_each(|(target, value)| *target += *value);
                } else {
                    let picked = target[start..].iter_mut().step_by(self.stride);
                    picked.zip(line).for_each(|(target, value)| *target += *value);
                }
            }
        });
    }
}
