//! The convolution, with an optional rectifier and max pooling in the same pass.
//!
//! One picture at a time: its patches are unfolded, multiplied by the weights, rectified and pooled
//! while they are in the cache; only the pooled values are kept. The way back unfolds again, which
//! is cheaper than keeping the patches.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use super::activation::rectified;
use super::buffer::{argument, floats, gradient, result};
use super::matrix::{Matrix, multiply};
use super::patches::Geometry;
use super::pieces::{PIECES_MAX, cut, split};
use super::pool::Pool;

/// How a convolution goes over its input, and what follows it in the same pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Step of the kernel, in pixels.
    pub stride: usize,
    /// Zeros at each side, in pixels.
    pub padding: usize,
    /// Whether max(·, 0) follows.
    pub relu: bool,
    /// The max pooling that follows, behind the rectifier.
    pub pool: Option<Pool>,
}

/// Weight gradients of all the pieces together stay below this many values, so that a large
/// convolution does not take eight times its size.
const PIECE_GRADIENTS_MAX: usize = 1 << 24;

struct Conv2d {
    config: Convolution,
    /// The places of the pooled maxima.
    places: OnceLock<Vec<u16>>,
}

/// The sizes of a call.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    filters: usize,
    geometry: Geometry,
    pool: Option<Pool>,
    /// The output's rows and columns.
    rows: usize,
    columns: usize,
}

impl Sizes {
    fn new(input: &Shape, weight: &Shape, bias: &Shape, config: &Convolution) -> Result<Self> {
        let (batch, channels, height, width) = input.dims4()?;
        let (filters, kernel_channels, kernel_rows, kernel_columns) = weight.dims4()?;
        let geometry =
            Geometry::new([channels, height, width], [kernel_rows, kernel_columns], config);
        let fits = kernel_channels == channels && bias.dims1()? == filters;
        let Some(geometry) = geometry.filter(|_| fits) else {
            bail!("conv2d got input {input:?}, weight {weight:?}, bias {bias:?} with {config:?}")
        };
        let out = |side| config.pool.map_or(side, |pool| pool.windows(side));
        let (rows, columns) = (out(geometry.rows), out(geometry.columns));
        if rows == 0 || columns == 0 {
            bail!("conv2d got a pooling window larger than its output")
        }
        Ok(Self { batch, filters, geometry, pool: config.pool, rows, columns })
    }

    /// Values of one picture's output.
    fn out_len(&self) -> usize {
        self.filters * self.rows * self.columns
    }

    /// Values of one picture's convolution, before pooling.
    fn raw_len(&self) -> usize {
        self.filters * self.geometry.pixels()
    }

    fn weight_len(&self) -> usize {
        self.filters * self.geometry.patch_len()
    }

    fn pieces(&self) -> Vec<Range<usize>> {
        let pieces = PIECE_GRADIENTS_MAX / self.weight_len().max(1);
        cut(self.batch, pieces.clamp(1, PIECES_MAX))
    }

    fn picture<'a>(&self, values: &'a [f32], index: usize) -> &'a [f32] {
        let size = self.geometry.input_len();
        &values[index * size..(index + 1) * size]
    }

    fn patches<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix::new(values, self.geometry.patch_len(), self.geometry.pixels())
    }
}

/// The forward pass of some pictures.
fn forward(
    sizes: &Sizes,
    config: &Convolution,
    pictures: impl Iterator<Item = usize>,
    [input, weight, bias]: [&[f32]; 3],
    out: &mut [f32],
    places: &mut [u16],
) {
    let geometry = &sizes.geometry;
    let pixels = geometry.pixels();
    let weight = Matrix::new(weight, sizes.filters, geometry.patch_len());
    let mut patches = vec![0.0; geometry.patch_len() * pixels];
    let mut raw = vec![0.0; if sizes.pool.is_some() { sizes.raw_len() } else { 0 }];
    let mut places = places.chunks_exact_mut(sizes.out_len());
    for (index, out) in pictures.zip(out.chunks_exact_mut(sizes.out_len())) {
        geometry.unfold(sizes.picture(input, index), &mut patches);
        let target = if sizes.pool.is_some() { raw.as_mut_slice() } else { &mut *out };
        for (plane, bias) in target.chunks_exact_mut(pixels).zip(bias) {
            plane.fill(*bias);
        }
        multiply(target, weight, sizes.patches(&patches), true);
        if let (Some(pool), Some(places)) = (sizes.pool, places.next()) {
            let size = sizes.rows * sizes.columns;
            let planes = out.chunks_exact_mut(size).zip(places.chunks_exact_mut(size));
            for (plane, (out, places)) in raw.chunks_exact(pixels).zip(planes) {
                pool.plane(geometry.columns, plane, out, places);
            }
        }
        if config.relu {
            out.iter_mut().for_each(|out| *out = rectified(*out));
        }
    }
}

/// What the way back reads.
struct Backward<'a> {
    sizes: Sizes,
    relu: bool,
    input: &'a [f32],
    weight: &'a [f32],
    out: &'a [f32],
    slopes: &'a [f32],
    places: &'a [u16],
}

/// The gradients of weight and bias of one piece.
struct Gradients {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Backward<'_> {
    /// The convolution's own slopes for one picture, back through pooling and rectifier.
    fn raw_slopes(&self, index: usize, raw: &mut [f32], masked: &mut [f32]) {
        let sizes = &self.sizes;
        let place = index * sizes.out_len()..(index + 1) * sizes.out_len();
        masked.copy_from_slice(&self.slopes[place.clone()]);
        if self.relu {
            for (slope, out) in masked.iter_mut().zip(&self.out[place.clone()]) {
                *slope = if *out > 0.0 { *slope } else { 0.0 };
            }
        }
        let Some(pool) = sizes.pool else {
            raw.copy_from_slice(masked);
            return;
        };
        raw.fill(0.0);
        let size = sizes.rows * sizes.columns;
        let planes = masked.chunks_exact(size).zip(self.places[place].chunks_exact(size));
        for (raw, (slopes, places)) in raw.chunks_exact_mut(sizes.geometry.pixels()).zip(planes) {
            pool.scatter(sizes.geometry.columns, slopes, places, raw);
        }
    }

    /// The pictures of one piece; `input_gradient` is theirs, empty where nobody needs it.
    fn piece(&self, pictures: Range<usize>, input_gradient: &mut [f32]) -> Gradients {
        let (sizes, geometry) = (&self.sizes, &self.sizes.geometry);
        let (pixels, patch) = (geometry.pixels(), geometry.patch_len());
        let mut sums =
            Gradients { weight: vec![0.0; sizes.weight_len()], bias: vec![0.0; sizes.filters] };
        let mut patches = vec![0.0; patch * pixels];
        let mut raw = vec![0.0; sizes.raw_len()];
        let mut masked = vec![0.0; sizes.out_len()];
        let weight = Matrix::new(self.weight, sizes.filters, patch).transposed();
        let mut input_gradients = input_gradient.chunks_exact_mut(geometry.input_len().max(1));
        for index in pictures {
            self.raw_slopes(index, &mut raw, &mut masked);
            for (sum, plane) in sums.bias.iter_mut().zip(raw.chunks_exact(pixels)) {
                *sum += sum_of(plane);
            }
            geometry.unfold(sizes.picture(self.input, index), &mut patches);
            let slopes = Matrix::new(&raw, sizes.filters, pixels);
            multiply(&mut sums.weight, slopes, sizes.patches(&patches).transposed(), true);
            if let Some(picture) = input_gradients.next() {
                multiply(&mut patches, weight, slopes, false);
                geometry.fold(&patches, picture);
            }
        }
        sums
    }
}

/// A sum in eight fixed lanes, so that it can use vectors and still has one order.
fn sum_of(values: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let chunks = values.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += *value);
    }
    lanes.iter().sum::<f32>() + rest
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = Sizes::new(l1.shape(), l2.shape(), l3.shape(), &self.config)?;
        let arguments = [argument(s1, l1)?, argument(s2, l2)?, argument(s3, l3)?];
        let mut out = vec![0.0; sizes.batch * sizes.out_len()];
        let mut places = vec![0; if sizes.pool.is_some() { out.len() } else { 0 }];
        let place_len = if sizes.pool.is_some() { sizes.out_len() } else { 0 };
        let pieces = sizes.pieces();
        let outs = split(&mut out, sizes.out_len(), &pieces);
        let place_parts = split(&mut places, place_len, &pieces);
        pieces.clone().into_par_iter().zip(outs).zip(place_parts).for_each(
            |((pictures, out), places)| {
                forward(&sizes, &self.config, pictures, arguments, out, places);
            },
        );
        // An op is built for one call, so the cell is empty.
        let _ = self.places.set(places);
        result(out, (sizes.batch, sizes.filters, sizes.rows, sizes.columns))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        gradient_out: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sizes = Sizes::new(input.shape(), weight.shape(), bias.shape(), &self.config)?;
        let Some(places) = self.places.get() else { bail!("backward came before forward") };
        let gradient_out = gradient_out.contiguous()?;
        let (slope_storage, slope_layout) = gradient_out.storage_and_layout();
        let (out_storage, out_layout) = out.storage_and_layout();
        let (input_storage, input_layout) = input.storage_and_layout();
        let (weight_storage, weight_layout) = weight.storage_and_layout();
        let backward = Backward {
            sizes,
            relu: self.config.relu,
            input: floats(&input_storage, input_layout)?,
            weight: floats(&weight_storage, weight_layout)?,
            out: floats(&out_storage, out_layout)?,
            slopes: floats(&slope_storage, slope_layout)?,
            places,
        };
        // Pictures are nobody's parameter: their gradient would be the dearest product of all.
        let tracked = input.track_op();
        let per_picture = if tracked { sizes.geometry.input_len() } else { 0 };
        let mut input_gradient = vec![0.0; sizes.batch * per_picture];
        let pieces = sizes.pieces();
        let parts = split(&mut input_gradient, per_picture, &pieces);
        let sums: Vec<Gradients> = pieces
            .clone()
            .into_par_iter()
            .zip(parts)
            .map(|(pictures, part)| backward.piece(pictures, part))
            .collect();
        let sums = sums.into_iter().reduce(|mut sum, more| {
            sum.weight.iter_mut().zip(&more.weight).for_each(|(sum, more)| *sum += *more);
            sum.bias.iter_mut().zip(&more.bias).for_each(|(sum, more)| *sum += *more);
            sum
        });
        let Some(sums) = sums else { bail!("conv2d got an empty batch") };
        let input_gradient = if tracked { gradient(input_gradient, input)? } else { None };
        Ok((input_gradient, gradient(sums.weight, weight)?, gradient(sums.bias, bias)?))
    }
}

/// A convolution with bias, then max(·, 0) and max pooling where `config` says so: `[batch,
/// channels, height, width]` to `[batch, filters, rows, columns]`, with weight `[filters, channels,
/// kernel rows, kernel columns]` and bias `[filters]`. As in PyTorch the kernel is not turned round.
///
/// # Errors
/// On other shapes and types.
pub fn conv2d(
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    config: Convolution,
) -> Result<Tensor> {
    let op = Conv2d { config, places: OnceLock::new() };
    input.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}
