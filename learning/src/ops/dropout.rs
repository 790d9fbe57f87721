//! Seeded dropout: which value is dropped follows from seed and index, so a mask is never stored.

use super::kernel::{Cx, Kernel, sized};
use super::maths::in_blocks;

/// Sets values to zero with a probability while training, and scales the others up.
pub(crate) struct Dropout {
    mask: Mask,
}

/// A mask that can be made again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask {
    /// Tells the dropouts of a model apart.
    stream: u64,
    /// A value stays where its 32 random bits are below this.
    keep_below: u32,
    scale: f32,
}

impl Mask {
    pub(crate) fn new(stream: u64, rate: f64) -> Self {
        let keep_below = ((1.0 - rate) * f64::from(u32::MAX)) as u32;
        Self { stream, keep_below, scale: (1.0 / (1.0 - rate)) as f32 }
    }

    /// Whether nothing is dropped.
    pub(crate) fn idle(&self, cx: &Cx<'_>) -> bool {
        !cx.training || self.keep_below == u32::MAX
    }

    /// Multiplies values by the mask of their indices.
    #[inline(always)]
    pub(crate) fn apply(&self, cx: &Cx<'_>, start: usize, block: &mut [f32]) {
        self.multiply(cx.seed, start, block);
    }

    /// The same for a step's seed.
    #[inline(always)]
    pub(crate) fn multiply(&self, seed: u64, start: usize, block: &mut [f32]) {
        let key = mixed(seed ^ self.stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for (index, value) in block.iter_mut().enumerate() {
            let bits = (mixed(key.wrapping_add((start + index) as u64)) >> 32) as u32;
            *value *= if bits < self.keep_below { self.scale } else { 0.0 };
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
#[inline(always)]
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Dropout {
    pub(crate) fn new(stream: u64, rate: f64) -> Self {
        Self { mask: Mask::new(stream, rate) }
    }

    /// Drops in place.
    pub(super) fn drop(&self, cx: &Cx<'_>, values: &mut [f32]) {
        if !self.mask.idle(cx) {
            in_blocks!(values, |start, block| self.mask.apply(cx, start, block));
        }
    }
}

impl Kernel for Dropout {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        sized(out, input.len()).copy_from_slice(input);
        self.drop(cx, out);
    }

    fn backward(
        &mut self,
        cx: &Cx<'_>,
        _: &[f32],
        _: &[f32],
        slopes: &mut Vec<f32>,
        into: Option<&mut Vec<f32>>,
        _: &mut [f32],
    ) {
        self.drop(cx, slopes);
        if let Some(into) = into {
            std::mem::swap(slopes, into);
        }
    }
}
