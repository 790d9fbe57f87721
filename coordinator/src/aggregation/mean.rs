//! The weighted mean as a pass: integers summed, then added to the old checkpoint.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tributary_core::aggregate::{Engine, Scale, norm_of_square};
use tributary_core::codec::VALUE_BYTES;

use super::FoldError;
use super::scan::{Pass, Piece, Unit};
use super::source;
use crate::blobs::Blobs;

/// One thread's sums.
#[derive(Clone)]
pub(super) struct Mean {
    blobs: Blobs,
    runtime: Handle,
    engine: Engine,
    previous: Arc<str>,
    data_start: u64,
    denominator: f64,
    /// The square of the mean's norm, of all threads' units: integers, so their order is nothing.
    square: Arc<Mutex<u128>>,
    sums: Vec<i64>,
    old: Vec<u8>,
}

impl Mean {
    pub(super) fn new(
        blobs: &Blobs,
        previous: Arc<str>,
        data_start: u64,
        scale: Scale,
        total: u64,
    ) -> Self {
        Self {
            blobs: blobs.clone(),
            runtime: Handle::current(),
            engine: Engine::best(),
            previous,
            data_start,
            denominator: scale.denominator(total),
            square: Arc::default(),
            sums: Vec::new(),
            old: Vec::new(),
        }
    }

    /// The norm of the mean, once all units are finished.
    pub(super) fn norm(&self) -> u64 {
        norm_of_square(*self.square.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The first value that is no number.
fn not_finite(values: &[[u8; VALUE_BYTES]]) -> Option<usize> {
    let finite = |bytes: &[u8; VALUE_BYTES]| f32::from_le_bytes(*bytes).is_finite();
    // All of them first: that loop is quick, and it is the usual one.
    if values.iter().fold(true, |all, value| all & finite(value)) {
        return None;
    }
    values.iter().position(|value| !finite(value))
}

impl Pass for Mean {
    fn start(&mut self, coordinates: usize) {
        self.sums.clear();
        self.sums.resize(coordinates, 0);
    }

    fn add(&mut self, from: usize, pieces: &[Piece<'_>]) {
        match *pieces {
            [a, b] => {
                self.engine.fold_two(&mut self.sums[from..from + a.0.len()], [a, b]);
            }
            _ => {
                for &(values, factor) in pieces {
                    self.engine.fold(&mut self.sums[from..from + values.len()], values, factor);
                }
            }
        }
    }

    fn finish(&mut self, unit: &Unit) -> Result<Bytes, FoldError> {
        let start = self.data_start + (unit.coordinates.start * VALUE_BYTES) as u64;
        let range = start..start + (unit.coordinates.len() * VALUE_BYTES) as u64;
        source::read_range(&self.blobs, &self.runtime, &self.previous, range, &mut self.old)?;
        let mut out = vec![0; self.old.len()];
        let (old, new) = (self.old.as_chunks().0, out.as_chunks_mut().0);
        self.engine.finish::<[u8; VALUE_BYTES]>(old, &self.sums, self.denominator, new);
        if let Some(at) = not_finite(new) {
            return Err(FoldError::NotFinite { coordinate: unit.coordinates.start + at });
        }
        let square = self.engine.square_norm(&self.sums, self.denominator);
        *self.square.lock().unwrap_or_else(PoisonError::into_inner) += square;
        Ok(Bytes::from(out))
    }
}
