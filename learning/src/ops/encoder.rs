//! A block of an encoder: attention and a feed-forward part, each with dropout, a way around it, and
//! normalisation behind (as in the first paper) or before it.

use super::attention::Attention;
use super::dropout::Dropout;
use super::kernel::{Cx, Kernel, sized};
use super::layout::add_blocks;
use super::linear::Linear;
use super::norm::LayerNorm;

/// What a block is made of.
pub(crate) struct BlockParts {
    pub(crate) attention: Attention,
    pub(crate) norms: [LayerNorm; 2],
    pub(crate) feed_forward: [Linear; 2],
    /// Behind attention, within the feed-forward part, and behind it.
    pub(crate) dropouts: [Dropout; 3],
    pub(crate) norm_first: bool,
}

/// One block over `[batch, steps, features]`.
pub(crate) struct Block {
    parts: BlockParts,
    /// Behind normalisation of the input (`norm_first`), and of the sum of attention and input.
    first: Vec<f32>,
    /// Attention and what went around it.
    attended: Vec<f32>,
    /// `attended`, normalised.
    second: Vec<f32>,
    hidden: Vec<f32>,
    /// The feed-forward part and what went around it, where it is still to be normalised.
    last: Vec<f32>,
    slopes: [Vec<f32>; 3],
}

impl Block {
    pub(crate) fn new(parts: BlockParts) -> Self {
        Self {
            parts,
            first: Vec::new(),
            attended: Vec::new(),
            second: Vec::new(),
            hidden: Vec::new(),
            last: Vec::new(),
            slopes: Default::default(),
        }
    }

    /// The feed-forward part of `second`, plus `around`.
    fn feed(
        parts: &mut BlockParts,
        cx: &Cx<'_>,
        hidden: &mut Vec<f32>,
        second: &[f32],
        out: &mut Vec<f32>,
    ) {
        let [wide, narrow] = &mut parts.feed_forward;
        wide.forward(cx, second, hidden);
        parts.dropouts[1].drop(cx, hidden);
        narrow.forward(cx, hidden, out);
        parts.dropouts[2].drop(cx, out);
    }

    /// From the slopes of the feed-forward part (in `slopes[0]`) to those of `second` (in `slopes[1]`).
    fn feed_back(&mut self, cx: &Cx<'_>, gradients: &mut [f32]) {
        let [wide, narrow] = &mut self.parts.feed_forward;
        let [slopes, into, hidden] = &mut self.slopes;
        self.parts.dropouts[2].drop(cx, slopes);
        narrow.backward(cx, &self.hidden, &[], slopes, Some(hidden), gradients);
        self.parts.dropouts[1].drop(cx, hidden);
        wide.backward(cx, &self.second, &self.hidden, hidden, Some(into), gradients);
    }
}

impl Kernel for Block {
    fn forward(&mut self, cx: &Cx<'_>, input: &[f32], out: &mut Vec<f32>) {
        let parts = &mut self.parts;
        if parts.norm_first {
            parts.norms[0].forward(cx, input, &mut self.first);
            parts.attention.forward(cx, &self.first, &mut self.attended);
        } else {
            parts.attention.forward(cx, input, &mut self.attended);
        }
        parts.dropouts[0].drop(cx, &mut self.attended);
        add_blocks(&mut self.attended, input);
        let norm = usize::from(parts.norm_first);
        parts.norms[norm].forward(cx, &self.attended, &mut self.second);
        if parts.norm_first {
            Self::feed(parts, cx, &mut self.hidden, &self.second, out);
            add_blocks(out, &self.attended);
        } else {
            Self::feed(parts, cx, &mut self.hidden, &self.second, &mut self.last);
            add_blocks(&mut self.last, &self.second);
            parts.norms[1].forward(cx, &self.last, out);
        }
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
        let norm_first = self.parts.norm_first;
        if !norm_first {
            // In place: the slopes of the sum behind the feed-forward part.
            self.parts.norms[1].backward(cx, &self.last, &[], slopes, None, gradients);
        }
        copy(&mut self.slopes[0], slopes);
        self.feed_back(cx, gradients);
        let [_, second, _] = &mut self.slopes;
        if norm_first {
            self.parts.norms[1].backward(cx, &self.attended, &[], second, None, gradients);
            add_blocks(second, slopes);
        } else {
            add_blocks(second, slopes);
            self.parts.norms[0].backward(cx, &self.attended, &[], second, None, gradients);
        }
        // `second` has the slopes of `attended` now: they go around attention, and through it.
        copy(slopes, second);
        self.parts.dropouts[0].drop(cx, second);
        let wanted = norm_first || into.is_some();
        let [_, through, last] = &mut self.slopes;
        let before = if norm_first { self.first.as_slice() } else { input };
        let target = wanted.then_some(&mut *last);
        self.parts.attention.backward(cx, before, &[], through, target, gradients);
        if norm_first {
            self.parts.norms[0].backward(cx, input, &[], last, None, gradients);
        }
        if let Some(into) = into {
            std::mem::swap(into, last);
            add_blocks(into, slopes);
        }
    }
}

fn copy(target: &mut Vec<f32>, source: &[f32]) {
    sized(target, source.len()).copy_from_slice(source);
}
