//! The driver of jobs: load → `core::round::step` → one transaction → effects → feed back.
//!
//! A job is driven by whoever holds its lease. Everything that must survive is a row of the
//! transaction; what is left over (waking polls, folding, deleting) can be done again.

mod collector;
mod fold;
mod job;
mod pool;
mod supervisor;

pub(crate) use collector::collect;
pub(crate) use pool::{PoolError, constants};
pub(crate) use supervisor::supervise;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::blobs::Blobs;
use crate::config::{Config, KeepUpdates};
use crate::ingest::Uploads;
use crate::replica::Replica;
use crate::specs::Specs;
use crate::store::Store;
use crate::wakes::{Hint, Wakes};

/// What the rooms of a coordinator share.
pub(crate) struct Hub {
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) specs: Specs,
    pub(crate) wakes: Wakes,
    pub(crate) uploads: Uploads,
    pub(crate) keep_updates: KeepUpdates,
    /// What one client may have on the disk in updates that are not folded yet.
    pub(crate) open_bytes_max: u64,
    pub(crate) replica: Replica,
    pub(crate) started: Instant,
}

impl Hub {
    /// The hub, and what is to be told to other replicas.
    pub(crate) fn new(
        store: Store,
        blobs: Blobs,
        config: &Config,
        replica: Replica,
    ) -> (Arc<Self>, mpsc::Receiver<Hint>) {
        let specs = Specs::new(store.clone());
        let started = Instant::now();
        let (wakes, outbox) = Wakes::new();
        let uploads = Uploads::new(&config.limits);
        let open_bytes_max = u64::from(config.limits.open_bytes_per_identity_mb) << 20;
        let keep_updates = config.keep_updates;
        let hub = Self {
            store,
            blobs,
            specs,
            wakes,
            uploads,
            keep_updates,
            open_bytes_max,
            replica,
            started,
        };
        (Arc::new(hub), outbox)
    }
}

/// How often a driver looks at a job that nothing wakes: leases and deadlines pass in steps of this.
const TICK: Duration = Duration::from_millis(500);
/// Most job time that one tick may add: an outage eats nobody's deadline.
const TICK_MAX: Duration = Duration::from_millis(1000);
/// Waits between tries when the store or the blobs fail, from the first to the longest: a database
/// that is back should not be waited for.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The waits between tries: twice as long each time, up to the longest.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(RETRY.0)
    }

    /// How long to wait before the next try.
    fn lengthen(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(RETRY.1);
        now
    }
}
