//! What the fold is compared with, in passes over the same stored bytes.

use bytes::Bytes;
use tributary_coordinator::aggregation::FoldError;
use tributary_coordinator::aggregation::scan::{Pass, Piece, Unit};
use tributary_core::aggregate::Engine;

/// `sum += x` in f32, one update at a time, as a fold without one answer would do.
#[derive(Default)]
pub(super) struct PlainAdd {
    sums: Vec<f32>,
}

impl Pass for PlainAdd {
    fn start(&mut self, coordinates: usize) {
        self.sums.clear();
        self.sums.resize(coordinates, 0.0);
    }

    fn add(&mut self, from: usize, pieces: &[Piece<'_>]) {
        for (values, _) in pieces {
            Engine::best().plain_add(&mut self.sums[from..from + values.len()], values);
        }
    }

    fn finish(&mut self, _: &Unit) -> Result<Bytes, FoldError> {
        std::hint::black_box(&self.sums);
        Ok(Bytes::new())
    }
}

/// The fold's integer sums, two updates at a time, and nothing made of them.
#[derive(Default)]
pub(super) struct Sum {
    sums: Vec<i64>,
}

impl Pass for Sum {
    fn start(&mut self, coordinates: usize) {
        self.sums.clear();
        self.sums.resize(coordinates, 0);
    }

    fn add(&mut self, from: usize, pieces: &[Piece<'_>]) {
        let len = pieces.first().map_or(0, |(values, _)| values.len());
        fold(&mut self.sums[from..from + len], pieces);
    }

    fn finish(&mut self, _: &Unit) -> Result<Bytes, FoldError> {
        std::hint::black_box(&self.sums);
        Ok(Bytes::new())
    }
}

/// Adds one or two updates to the sums, as the coordinator's fold does.
pub(super) fn fold(sums: &mut [i64], pieces: &[Piece<'_>]) {
    match *pieces {
        [a, b] => Engine::best().fold_two(sums, [a, b]),
        _ => pieces.iter().for_each(|(values, by)| Engine::best().fold(sums, values, *by)),
    }
}

/// No arithmetic: what reading alone takes.
#[derive(Default)]
pub(super) struct ReadOnly;

impl Pass for ReadOnly {
    fn start(&mut self, _: usize) {}

    fn add(&mut self, _: usize, pieces: &[Piece<'_>]) {
        std::hint::black_box(pieces);
    }

    fn finish(&mut self, _: &Unit) -> Result<Bytes, FoldError> {
        Ok(Bytes::new())
    }
}
