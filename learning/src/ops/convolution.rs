//! Convolution with bias, and a rectifier and max pooling joined to it.

mod winners;

use std::ops::Range;

use rayon::prelude::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefMutIterator, ParallelIterator,
};

use super::kernel::{Cx, Kernel, Place, sized, zeroed};
use super::maths::{add_to, rectified, vectorised};
use super::matrix::{Hands, Matrix, multiply, multiply_into};
use super::patches::Geometry;
use super::pieces::{PIECES_MAX, cut, split};
use super::pool::Window;
use winners::{Lists, Winners};

/// Largest gradient that each piece may have of its own, in values; larger ones mean fewer pieces.
const PIECE_GRADIENTS_MAX: usize = 1 << 25;

/// What is joined to a convolution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fused {
    pub(crate) relu: bool,
    pub(crate) pool: Option<Window>,
}

/// `[batch, height, width, channels]` to `[batch, rows, columns, filters]`, with weight `[filters,
/// channels ⁄ groups, …kernel]` and bias `[filters]`. As in PyTorch the kernel is not turned round.
pub(crate) struct Conv {
    weight: Place,
    bias: Place,
    geometry: Geometry,
    filters: usize,
    groups: usize,
    fused: Fused,
    /// How to go back where few slopes are not 0.
    winners: Option<Winners>,
    /// The weight as the products want it: for each group `[taps × channels, filters]`.
    packed: Vec<f32>,
    /// The weight as the winners' sums want it: `[filters, taps, channels]`.
    rows: Vec<f32>,
    places: Vec<u16>,
    scratch: Vec<Scratch>,
}

/// Buffers of one piece.
#[derive(Default)]
struct Scratch {
    patches: Vec<f32>,
    raw: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    lists: Lists,
}

/// How a weight's values lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// For each group `[taps × channels, filters]`.
    Packed,
    /// `[filters, taps, channels]`.
    Rows,
}

/// What the pieces share.
struct Shared<'a> {
    geometry: Geometry,
    filters: usize,
    groups: usize,
    fused: Fused,
    winners: Option<Winners>,
    packed: &'a [f32],
    rows: &'a [f32],
    bias: &'a [f32],
}

impl Shared<'_> {
    /// Values of a patch within a group.
    fn patch(&self) -> usize {
        self.geometry.taps() * self.geometry.channels / self.groups
    }

    fn raw_len(&self) -> usize {
        self.geometry.pixels() * self.filters
    }

    fn out_len(&self) -> usize {
        self.fused.pool.map_or(self.raw_len(), |pool| pool.out_len())
    }

    /// A group's channels, its filters, and its part of the packed weight.
    fn group(&self, group: usize) -> (Range<usize>, Range<usize>, Range<usize>) {
        let part = |size: usize| group * size..(group + 1) * size;
        let filters = self.filters / self.groups;
        let packed = part(self.patch() * filters);
        (part(self.geometry.channels / self.groups), part(filters), packed)
    }

    /// One picture's convolution, before rectifier and pooling.
    fn convolve(&self, picture: &[f32], scratch: &mut Vec<f32>, raw: &mut [f32]) {
        let (pixels, patch) = (self.geometry.pixels(), self.patch());
        vectorised!(raw.chunks_exact_mut(self.filters).for_each(|row| copy(row, self.bias)));
        for group in 0..self.groups {
            let (channels, filters, packed) = self.group(group);
            let patches = sized(scratch, pixels * patch);
            vectorised!(self.geometry.unfold(&channels, picture, patches));
            let patches = Matrix::new(patches, pixels, patch);
            let weight = Matrix::new(&self.packed[packed], patch, filters.len());
            let raw = &mut raw[filters.start..];
            multiply_into(raw, self.filters, patches, weight, 1.0, true, Hands::One);
        }
    }

    fn forward(
        &self,
        pictures: impl Iterator<Item = usize>,
        input: &[f32],
        out: &mut [f32],
        places: &mut [u16],
        scratch: &mut Scratch,
    ) {
        let (size, len) = (self.geometry.input_len(), self.out_len());
        let mut places = places.chunks_exact_mut(len);
        for (index, out) in pictures.zip(out.chunks_exact_mut(len)) {
            let picture = &input[index * size..(index + 1) * size];
            match (self.fused.pool, places.next()) {
                (Some(pool), Some(places)) => {
                    let raw = sized(&mut scratch.raw, self.raw_len());
                    self.convolve(picture, &mut scratch.patches, raw);
                    vectorised!(pool.largest(raw, out, places, self.fused.relu));
                }
                _ => {
                    self.convolve(picture, &mut scratch.patches, out);
                    if self.fused.relu {
                        vectorised!(out.iter_mut().for_each(|out| *out = rectified(*out)));
                    }
                }
            }
        }
    }

    /// Back through the rectifier.
    fn rectify(&self, slopes: &mut [f32], out: &[f32]) {
        if self.fused.relu {
            vectorised!({
                let pairs = slopes.iter_mut().zip(out);
                pairs.for_each(|(slope, out)| *slope = if *out > 0.0 { *slope } else { 0.0 });
            });
        }
    }

    /// The convolution's own slopes for one picture, back through the pooling.
    fn raw_slopes(&self, slopes: &[f32], places: &[u16], raw: &mut [f32]) {
        vectorised!(match self.fused.pool {
            Some(pool) => pool.scatter(slopes, places, raw),
            None => copy(raw, slopes),
        });
    }

    /// Gradients of some pictures into the piece's own sums; `into` gets their input slopes, and is
    /// empty where nobody needs them.
    fn backward(
        &self,
        pictures: Range<usize>,
        [input, out]: [&[f32]; 2],
        places: &[u16],
        slopes: &mut [f32],
        into: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (size, len) = (self.geometry.input_len(), self.out_len());
        zeroed(&mut scratch.weight, self.packed.len());
        zeroed(&mut scratch.bias, self.filters);
        let mut into = into.chunks_exact_mut(size);
        for (index, slopes) in pictures.zip(slopes.chunks_exact_mut(len)) {
            let place = index * len..(index + 1) * len;
            let own_places = places.get(place.clone()).unwrap_or_default();
            self.rectify(slopes, &out[place]);
            // Pooling moves slopes and loses none, so their sums may be taken where they are fewer.
            vectorised!({
                slopes.chunks_exact(self.filters).for_each(|row| add_to(&mut scratch.bias, row));
            });
            let picture = &input[index * size..(index + 1) * size];
            let into = into.next();
            if let Some(winners) = &self.winners {
                let Scratch { weight, lists, .. } = &mut *scratch;
                let values = [picture, slopes, self.rows];
                winners.backward(values, own_places, weight, into, lists);
            } else {
                self.unfolded(picture, slopes, own_places, into, scratch);
            }
        }
    }

    /// Gradients of one picture by products with its patches.
    fn unfolded(
        &self,
        picture: &[f32],
        slopes: &[f32],
        places: &[u16],
        mut into: Option<&mut [f32]>,
        scratch: &mut Scratch,
    ) {
        let (pixels, patch) = (self.geometry.pixels(), self.patch());
        let raw = sized(&mut scratch.raw, self.raw_len());
        self.raw_slopes(slopes, places, raw);
        for group in 0..self.groups {
            let (channels, filters, packed) = self.group(group);
            let patches = sized(&mut scratch.patches, pixels * patch);
            vectorised!(self.geometry.unfold(&channels, picture, patches));
            let raw = &raw[filters.start..];
            let raw = Matrix::strided(raw, pixels, filters.len(), self.filters);
            let sums = &mut scratch.weight[packed.clone()];
            let matrix = Matrix::new(patches, pixels, patch);
            multiply(sums, matrix.transposed(), raw, true, Hands::One);
            if let Some(into) = into.as_deref_mut() {
                let weight = Matrix::new(&self.packed[packed], patch, filters.len());
                multiply(patches, raw, weight.transposed(), false, Hands::One);
                vectorised!(self.geometry.fold(&channels, patches, into));
            }
        }
    }
}

#[inline(always)]
fn copy(target: &mut [f32], source: &[f32]) {
    target.iter_mut().zip(source).for_each(|(target, source)| *target = *source);
}

impl Conv {
    pub(crate) fn new(
        weight: Place,
        bias: Place,
        geometry: Geometry,
        groups: usize,
        fused: Fused,
    ) -> Self {
        Self {
            weight,
            bias,
            geometry,
            filters: bias.len,
            groups,
            fused,
            winners: (groups == 1).then(|| Winners::of(geometry, fused.pool, bias.len)).flatten(),
            packed: Vec::new(),
            rows: Vec::new(),
            places: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Calls `visit` with the index in the weight `[filters, channels, taps]` and the index in another
    /// layout, of every value.
    fn each_weight(&self, layout: Layout, mut visit: impl FnMut(usize, usize)) {
        let (taps, channels) = (self.geometry.taps(), self.geometry.channels / self.groups);
        let filters = self.filters / self.groups;
        for group in 0..self.groups {
            for filter in 0..filters {
                for channel in 0..channels {
                    let from = ((group * filters + filter) * channels + channel) * taps;
                    for tap in 0..taps {
                        let to = match layout {
                            Layout::Packed => {
                                ((group * taps + tap) * channels + channel) * filters + filter
                            }
                            Layout::Rows => {
                                ((group * filters + filter) * taps + tap) * channels + channel
                            }
                        };
                        visit(from + tap, to);
                    }
                }
            }
        }
    }

    /// The weight in another layout, in a buffer that was used for it before.
    fn arranged(&self, layout: Layout, weight: &[f32], mut buffer: Vec<f32>) -> Vec<f32> {
        sized(&mut buffer, weight.len());
        self.each_weight(layout, |from, to| buffer[to] = weight[from]);
        buffer
    }

    fn pieces(&self, batch: usize) -> Vec<Range<usize>> {
        let pieces = PIECE_GRADIENTS_MAX / self.weight.len.max(1);
        cut(batch, pieces.clamp(1, PIECES_MAX))
    }
}

impl Kernel for Conv {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let packed = std::mem::take(&mut self.packed);
        self.packed = self.arranged(Layout::Packed, self.weight.of(cx), packed);
        let pieces = self.pieces(cx.batch);
        self.scratch.resize_with(PIECES_MAX, Scratch::default);
        let shared = Shared {
            geometry: self.geometry,
            filters: self.filters,
            groups: self.groups,
            fused: self.fused,
            winners: self.winners,
            packed: &self.packed,
            rows: &self.rows,
            bias: self.bias.of(cx),
        };
        let len = shared.out_len();
        let out = sized(out, cx.batch * len);
        let place_len = if self.fused.pool.is_some() { len } else { 0 };
        let places = sized(&mut self.places, cx.batch * place_len);
        let outs = split(out, len, &pieces);
        let places = split(places, place_len, &pieces);
        pieces.into_par_iter().zip(outs).zip(places).zip(self.scratch.par_iter_mut()).for_each(
            |(((pictures, out), places), scratch)| {
                shared.forward(pictures, input, out, places, scratch);
            },
        );
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
        let pieces = self.pieces(cx.batch);
        // Slopes of the input alone need it.
        if self.winners.is_some() && into.is_some() {
            let rows = std::mem::take(&mut self.rows);
            self.rows = self.arranged(Layout::Rows, self.weight.of(cx), rows);
        }
        let shared = Shared {
            geometry: self.geometry,
            filters: self.filters,
            groups: self.groups,
            fused: self.fused,
            winners: self.winners,
            packed: &self.packed,
            rows: &self.rows,
            bias: self.bias.of(cx),
        };
        let (len, size) = (shared.out_len(), self.geometry.input_len());
        let mut none = Vec::new();
        let (into, per_picture) = match into {
            Some(into) => (zeroed(into, cx.batch * size), size),
            None => (none.as_mut_slice(), 0),
        };
        let parts = split(into, per_picture, &pieces);
        let slopes = split(slopes, len, &pieces);
        let places = &self.places;
        let count = pieces.len();
        pieces.into_par_iter().zip(parts).zip(slopes).zip(self.scratch.par_iter_mut()).for_each(
            |(((pictures, part), slopes), scratch)| {
                shared.backward(pictures, [input, out], places, slopes, part, scratch);
            },
        );
        let Some((first, rest)) = self.scratch[..count].split_first_mut() else { return };
        for piece in rest {
            vectorised!(add_to(&mut first.weight, &piece.weight));
            vectorised!(add_to(&mut first.bias, &piece.bias));
        }
        let sums = &self.scratch[0];
        if let Some(gradient) = self.weight.gradient(gradients) {
            let layout = if self.winners.is_some() { Layout::Rows } else { Layout::Packed };
            self.each_weight(layout, |to, from| gradient[to] = sums.weight[from]);
        }
        if let Some(gradient) = self.bias.gradient(gradients) {
            gradient.copy_from_slice(&sums.bias);
        }
    }
}
