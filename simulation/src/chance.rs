//! A run's time and chance, and what it writes down of itself: the trace, which the same seed repeats.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tributary_core::digest::Digest;
use tributary_core::prg::Prg;
use tributary_outside::simulated::Outside;

/// The wall clock at a run's start: 2026-01-01.
const START: Duration = Duration::from_secs(1_767_225_600);
/// How long blocking work (a hash, a file, some training) takes; now and then a disk is busy for long.
const WORK_MS: (u64, u64) = (20, 2_500);
/// One of so many is long.
const LONG_EVERY: u64 = 24;

/// Time, chance and trace of one run.
pub(crate) struct Chance {
    started: Instant,
    prg: Mutex<Prg>,
    trace: Mutex<Vec<String>>,
}

impl Chance {
    /// Within a runtime whose clock is paused.
    pub(crate) fn new(seed: u64) -> Self {
        let prg = Mutex::new(Prg::for_name(seed, "simulation", "chance"));
        Self { started: Instant::now(), prg, trace: Mutex::new(Vec::new()) }
    }

    fn prg(&self) -> MutexGuard<'_, Prg> {
        self.prg.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below `bound`; 0 where that is 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.prg().below(bound) }
    }

    /// Whether one of a hundred, of which so many do, does.
    pub(crate) fn percent(&self, percent: u64) -> bool {
        percent > 0 && self.below(100) < percent
    }

    /// Waits up to so long.
    pub(crate) async fn nap(&self, most_ms: u64) {
        let us = self.below(most_ms * 1000 + 1);
        tokio::time::sleep(Duration::from_micros(us)).await;
    }

    /// Milliseconds since the start.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn now_us(&self) -> i64 {
        i64::try_from((START + self.started.elapsed()).as_micros()).unwrap_or(i64::MAX)
    }

    /// Writes a line.
    pub(crate) fn note(&self, line: &str) {
        let at = self.now_ms();
        let mut trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        trace.push(format!("{at:>8} {line}"));
    }

    /// What was written.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The outside of a run's thread, set when the run's clock is there.
#[derive(Default)]
pub(crate) struct Lent(OnceLock<Arc<Chance>>);

impl Lent {
    pub(crate) fn set(&self, chance: Arc<Chance>) {
        let _ = self.0.set(chance);
    }

    fn of(&self) -> &Chance {
        self.0.get().expect("a run begins with its chance")
    }
}

impl Outside for Lent {
    fn wall_clock(&self) -> SystemTime {
        self.of().wall_clock()
    }

    fn chance(&self) -> [u8; 16] {
        self.of().chance()
    }

    fn pause(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.of().pause()
    }
}

impl Outside for Chance {
    fn wall_clock(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + START + self.started.elapsed()
    }

    fn chance(&self) -> [u8; 16] {
        let draw = self.prg().next_u64();
        let digest = Digest::of(&draw.to_le_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        bytes
    }

    fn pause(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let most = if self.below(LONG_EVERY) == 0 { WORK_MS.1 } else { WORK_MS.0 };
        let pause = Duration::from_micros(self.below(most * 1000));
        Box::pin(tokio::time::sleep(pause))
    }
}
