//! Cutting work in pieces, by its size alone.

use std::ops::Range;

/// Most pieces of a batch: enough for eight threads, few enough that a sum over a piece's own
/// gradient buffer stays cheap.
pub(crate) const PIECES_MAX: usize = 8;
/// Elements of one piece of an elementwise pass: about as much as a core's second cache holds.
pub(super) const ELEMENTS: usize = 1 << 15;

/// Cuts `0..items` in at most `pieces` ranges whose lengths differ by at most one.
pub(crate) fn cut(items: usize, pieces: usize) -> Vec<Range<usize>> {
    let pieces = pieces.clamp(1, items.max(1));
    (0..pieces).map(|p| p * items / pieces..(p + 1) * items / pieces).collect()
}

/// Cuts a buffer of `per_item` values an item along the ranges of [`cut`].
pub(crate) fn split<'a, T>(
    mut buffer: &'a mut [T],
    per_item: usize,
    pieces: &[Range<usize>],
) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let (part, rest) = buffer.split_at_mut(piece.len() * per_item);
        parts.push(part);
        buffer = rest;
    }
    parts
}
