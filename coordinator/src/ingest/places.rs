//! Who may upload now: a few at once in all, two of one client, and nobody who holds a place without
//! using it while others wait for it.
//!
//! A place is asked for in the order of coming. While somebody waits, each part has to come at a least
//! rate; without anybody the slowest line is welcome. So a place is free again after half a minute,
//! however many hostile clients hold theirs, and who was cut queues behind those who waited.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tributary_core::name::ClientName;

use super::IngestError;
use crate::config::Limits;
use crate::tally::Tally;

/// Uploads of one client that are open at once: an agent sends one, and may take up another that
/// broke off before the break was noticed here.
const UPLOADS_PER_CLIENT_MAX: u32 = 2;
/// How long a part may take at least, while others wait: a short one is a round trip.
const PART_LEAST: Duration = Duration::from_secs(5);

/// The places of uploads.
pub(crate) struct Uploads {
    places: Arc<Semaphore>,
    open: Mutex<Tally<ClientName>>,
    waiting: AtomicUsize,
    /// Rung when somebody begins to wait.
    came: Notify,
    part: Duration,
    least_bytes_per_s: u64,
    wait: Duration,
}

/// An open upload of a client, given back when dropped.
pub(crate) struct Claim<'a>(&'a Uploads, ClientName);

/// Somebody who waits for a place.
struct Waiting<'a>(&'a AtomicUsize);

impl Uploads {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.uploads_max as usize)),
            open: Mutex::default(),
            waiting: AtomicUsize::new(0),
            came: Notify::new(),
            part: Duration::from_secs(limits.upload_part_s.into()),
            least_bytes_per_s: u64::from(limits.upload_least_kb_per_s) << 10,
            wait: Duration::from_secs(limits.upload_wait_s.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tally<ClientName>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of a client's own; before anything of the upload is read.
    pub(crate) fn claim(&self, client: &ClientName) -> Result<Claim<'_>, IngestError> {
        match self.lock().add(client, UPLOADS_PER_CLIENT_MAX) {
            true => Ok(Claim(self, client.clone())),
            false => Err(IngestError::TooMany),
        }
    }

    /// One of all; it is waited for, but not without end.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, IngestError> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        self.came.notify_waiters();
        let place = tokio::time::timeout(self.wait, self.places.clone().acquire_owned()).await;
        place.map_err(|_| IngestError::Busy)?.map_err(|_| IngestError::Busy)
    }

    /// Comes back when a part of `bytes` that began at `began` has taken too long.
    pub(super) async fn too_slow(&self, began: Instant, bytes: u64) {
        loop {
            // Heard from here on: who begins to wait after this look rings.
            let came = self.came.notified();
            let limit = self.limit(bytes, self.waiting.load(Ordering::SeqCst) > 0);
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = came => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    fn limit(&self, bytes: u64, others_wait: bool) -> Duration {
        if !others_wait {
            return self.part;
        }
        let at_least_rate = Duration::from_secs(bytes / self.least_bytes_per_s.max(1));
        at_least_rate.max(PART_LEAST).min(self.part)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.lock().take(&self.1);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{PART_LEAST, Uploads};
    use crate::config::Limits;
    use crate::ingest::IngestError;

    fn uploads() -> Uploads {
        let limits = Limits { uploads_max: 1, upload_wait_s: 1, ..Limits::default() };
        Uploads::new(&limits)
    }

    #[test]
    fn a_slow_line_is_welcome_until_others_wait() {
        let uploads = uploads();
        assert_eq!(uploads.limit(8 << 20, false), Duration::from_secs(300));
        assert_eq!(uploads.limit(8 << 20, true), Duration::from_secs(32), "256 kB/s");
        assert_eq!(uploads.limit(100, true), PART_LEAST);
    }

    #[tokio::test]
    async fn nobody_waits_without_end_and_a_client_has_two() {
        let uploads = uploads();
        let _held = uploads.place().await.expect("the only one");
        assert!(matches!(uploads.place().await, Err(IngestError::Busy)));
        let client = "eve".parse().expect("a name");
        let first = uploads.claim(&client).expect("one");
        let _second = uploads.claim(&client).expect("two");
        assert!(matches!(uploads.claim(&client), Err(IngestError::TooMany)));
        drop(first);
        uploads.claim(&client).expect("given back");
    }

    #[tokio::test]
    async fn who_holds_a_place_is_told_at_once_that_somebody_waits() {
        let uploads = uploads();
        let _held = uploads.place().await.expect("the only one");
        // A part that began longer ago than it may take once somebody waits.
        let long_ago = Instant::now().checked_sub(Duration::from_secs(100)).expect("a time");
        let slow = uploads.too_slow(long_ago, 100);
        tokio::pin!(slow);
        let mut place = Box::pin(uploads.place());
        tokio::select! {
            biased;
            () = &mut slow => panic!("nobody waits yet"),
            () = std::future::ready(()) => {}
        }
        tokio::select! {
            _ = &mut place => panic!("it is taken"),
            () = slow => {}
        }
    }
}
