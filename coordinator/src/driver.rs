//! The driver of jobs: load → `core::round::step` → one transaction → effects → feed back.
//!
//! A job is driven by whoever holds its lease. Everything that must survive is a row of the
//! transaction; what is left over (waking polls, folding, deleting) can be done again.

mod fold;
mod job;
mod supervisor;

pub(crate) use supervisor::supervise;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::blobs::Blobs;
use crate::config::KeepUpdates;
use crate::ingest::Uploads;
use crate::specs::Specs;
use crate::store::Store;
use crate::wakes::Wakes;

/// What the rooms of a coordinator share.
pub(crate) struct Hub {
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) specs: Specs,
    pub(crate) wakes: Wakes,
    pub(crate) uploads: Uploads,
    pub(crate) keep_updates: KeepUpdates,
    /// This replica's stable name: after a restart it takes its own leases back at once.
    pub(crate) replica: String,
    pub(crate) started: Instant,
}

impl Hub {
    pub(crate) fn new(
        store: Store,
        blobs: Blobs,
        keep_updates: KeepUpdates,
        replica: String,
    ) -> Arc<Self> {
        let specs = Specs::new(store.clone());
        let started = Instant::now();
        let (wakes, uploads) = (Wakes::new(), Uploads::default());
        Arc::new(Self { store, blobs, specs, wakes, uploads, keep_updates, replica, started })
    }
}

/// How long a driver may be silent before another takes its job.
const LEASE: Duration = Duration::from_secs(10);
/// How often a driver looks at a job that nothing wakes: leases and deadlines pass in steps of this.
const TICK: Duration = Duration::from_millis(500);
/// Most job time that one tick may add: an outage eats nobody's deadline.
const TICK_MAX: Duration = Duration::from_millis(1000);
/// Waits between tries when the store or the blobs fail, from the first to the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
