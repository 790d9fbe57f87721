//! Folding the accepted updates of a round into the next checkpoint, chunk by chunk.
