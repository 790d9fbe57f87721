//! One pass over all stored updates, unit by unit, on blocking threads, with results in order.
//!
//! A *unit* is a stretch of every update's bytes that lies within one part; a thread takes the next
//! unit, shows each update's stretch of it to its [`Pass`], two updates at a time where it can, and
//! sends on what the pass makes of it. What is computed is the pass's affair: the mean of the
//! product, and whatever it is compared with, read in the same way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tributary_core::codec::{HEADER_BYTES, PART_BYTES, VALUE_BYTES, update_len};
use tributary_outside::wait;

use super::FoldError;
use super::source::Source;
use crate::blobs::{Blobs, UpdateKey};

/// Threads of a pass: two saturate the memory of a small machine and leave a larger one to ingest.
pub const THREADS: usize = 2;
/// Bytes of an update in a unit. Its sums, twice as many bytes, stay in a second-level cache of 1 MiB
/// with the blocks; smaller units open files more often, and larger ones were no faster.
pub const UNIT_BYTES: u64 = 256 << 10;
/// Bytes that are read from a file at a time: they are still in the cache when they are summed, and
/// a system call costs little beside them.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Units that are computed or wait for their turn, of all threads together, 4 MiB: enough that the
/// threads go on while the writer is busy.
pub const UNITS_IN_FLIGHT: usize = 16;

/// How the work is cut. It changes speed and memory, and never a byte of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Threads, at least 1.
    pub threads: usize,
    /// Bytes of a unit: a divisor of [`PART_BYTES`], at least a header's.
    pub unit_bytes: u64,
    /// Bytes of a block, a multiple of 4.
    pub block_bytes: usize,
}

impl Default for Cut {
    fn default() -> Self {
        Self { threads: THREADS, unit_bytes: UNIT_BYTES, block_bytes: BLOCK_BYTES }
    }
}

/// An update and what its values are multiplied with.
#[derive(Debug, Clone)]
pub struct Weighted {
    /// Where it is stored.
    pub key: UpdateKey,
    /// The factor, as `Scale::weight` gives it.
    pub factor: f64,
}

/// A stretch of coordinates, and where every update has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The coordinates.
    pub coordinates: Range<usize>,
    /// The part of the updates that holds them.
    pub part: u32,
    /// The bytes of that part.
    pub bytes: Range<u64>,
}

/// The same stretch of one update: its values as they are stored, and its factor.
pub type Piece<'a> = (&'a [[u8; VALUE_BYTES]], f64);

/// What one thread does with units.
pub trait Pass: Send + 'static {
    /// A unit of this many coordinates begins.
    fn start(&mut self, coordinates: usize);

    /// One or two updates' values from coordinate `from` of the unit on. Pieces of one call are of
    /// the same length.
    fn add(&mut self, from: usize, pieces: &[Piece<'_>]);

    /// All updates were shown; what comes of the unit. It may block.
    ///
    /// # Errors
    /// Any ends the scan.
    fn finish(&mut self, unit: &Unit) -> Result<Bytes, FoldError>;
}

/// A pass that is ready to run.
#[derive(Debug)]
pub struct Scan {
    blobs: Blobs,
    updates: Arc<[Weighted]>,
    parameters: usize,
    cut: Cut,
}

impl Scan {
    /// A pass over these updates, of this many values each.
    #[must_use]
    pub fn new(blobs: &Blobs, updates: Vec<Weighted>, parameters: usize, cut: Cut) -> Self {
        let unit = cut.unit_bytes;
        debug_assert!(unit >= HEADER_BYTES as u64 && PART_BYTES.is_multiple_of(unit));
        Self { blobs: blobs.clone(), updates: updates.into(), parameters, cut }
    }

    /// Starts the threads; the results come in the order of the coordinates. Dropping what is
    /// returned stops the threads after the unit at hand.
    pub fn run<P: Pass>(&self, make: impl Fn() -> P) -> Units {
        let units = update_len(self.parameters).div_ceil(self.cut.unit_bytes);
        let (sender, receiver) = mpsc::channel(UNITS_IN_FLIGHT);
        let turns = Arc::new(Turns {
            next: Mutex::new(0),
            units,
            places: Arc::new(Semaphore::new(UNITS_IN_FLIGHT)),
        });
        for _ in 0..self.cut.threads.max(1) {
            let worker = Worker {
                source: Source::new(&self.blobs, self.cut.block_bytes, Handle::current()),
                updates: self.updates.clone(),
                parameters: self.parameters,
                unit_bytes: self.cut.unit_bytes,
                pass: make(),
            };
            let (turns, sender) = (turns.clone(), sender.clone());
            tributary_outside::detached(move || worker.run(&turns, &sender));
        }
        Units { receiver, early: BTreeMap::new(), next: 0, units }
    }
}

/// The results of a scan, in order.
#[derive(Debug)]
pub struct Units {
    receiver: mpsc::Receiver<Finished>,
    /// Units that came before their turn; [`UNITS_IN_FLIGHT`] bounds them.
    early: BTreeMap<u64, Finished>,
    next: u64,
    units: u64,
}

impl Units {
    /// The next unit's result; `None` after the last.
    ///
    /// # Errors
    /// The first error of any thread; there is no use in asking further.
    pub async fn next(&mut self) -> Option<Result<Bytes, FoldError>> {
        if self.next == self.units {
            return None;
        }
        while !self.early.contains_key(&self.next) {
            let Some(finished) = self.receiver.recv().await else {
                return Some(Err(FoldError::Stopped));
            };
            if finished.result.is_err() {
                return Some(finished.result);
            }
            self.early.insert(finished.index, finished);
        }
        let finished = self.early.remove(&self.next)?;
        self.next += 1;
        Some(finished.result)
    }
}

/// A unit's result with the place that it takes until it is consumed.
#[derive(Debug)]
struct Finished {
    index: u64,
    result: Result<Bytes, FoldError>,
    _place: OwnedSemaphorePermit,
}

/// Who computes which unit.
struct Turns {
    next: Mutex<u64>,
    units: u64,
    places: Arc<Semaphore>,
}

impl Turns {
    /// The next unit and a place for its result. Both are taken under one lock: a place then always
    /// belongs to an earlier unit than any that still waits for one, so the results that the
    /// reader needs next can always be finished.
    fn take(&self, runtime: &Handle) -> Option<(u64, OwnedSemaphorePermit)> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if *next == self.units {
            return None;
        }
        let place = wait(runtime, self.places.clone().acquire_owned()).ok()?;
        let index = *next;
        *next += 1;
        Some((index, place))
    }
}

struct Worker<P> {
    source: Source,
    updates: Arc<[Weighted]>,
    parameters: usize,
    unit_bytes: u64,
    pass: P,
}

impl<P: Pass> Worker<P> {
    fn run(mut self, turns: &Turns, sender: &mpsc::Sender<Finished>) {
        while !sender.is_closed()
            && let Some((index, place)) = turns.take(self.source.runtime())
        {
            let result = self.unit(index);
            let failed = result.is_err();
            let finished = Finished { index, result, _place: place };
            let sent = wait(self.source.runtime(), sender.send(finished));
            if failed || sent.is_err() {
                return;
            }
        }
    }

    fn unit(&mut self, index: u64) -> Result<Bytes, FoldError> {
        let unit = unit(index, self.unit_bytes, self.parameters);
        self.pass.start(unit.coordinates.len());
        self.source.show(&self.updates, &unit, &mut self.pass)?;
        self.pass.finish(&unit)
    }
}

/// The unit of this index: bytes `index · unit_bytes` on of every update, without the header.
pub(super) fn unit(index: u64, unit_bytes: u64, parameters: usize) -> Unit {
    let header = HEADER_BYTES as u64;
    let start = (index * unit_bytes).max(header);
    let end = ((index + 1) * unit_bytes).min(update_len(parameters));
    let part = index * unit_bytes / PART_BYTES;
    let coordinate = |byte: u64| ((byte - header) / VALUE_BYTES as u64) as usize;
    Unit {
        coordinates: coordinate(start)..coordinate(end),
        part: part as u32,
        bytes: start - part * PART_BYTES..end - part * PART_BYTES,
    }
}
