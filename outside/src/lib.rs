//! What a process takes from outside itself: the wall clock, chance, threads that may block.
//!
//! Everything else that a coordinator or a client meets comes by a handle that it was given (a store, a
//! link) or by tokio's clock. These three have no handle, so they stand here, and a simulation puts its
//! own in their place: with the feature `simulation`, and on the thread that asks for it alone.

#[cfg(feature = "simulation")]
pub mod simulated;

use std::time::SystemTime;

use tokio::runtime::Handle;
use uuid::Uuid;

/// Work on another thread that ended without a result: it panicked, or the runtime ends.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Lost(#[from] tokio::task::JoinError);

/// The time of day. It may be set at any moment: what has to pass is measured with tokio's clock.
#[must_use]
pub fn wall_clock() -> SystemTime {
    #[cfg(feature = "simulation")]
    if let Some(outside) = simulated::current() {
        return outside.wall_clock();
    }
    SystemTime::now()
}

/// A number that nobody else draws.
#[must_use]
pub fn unique() -> Uuid {
    #[cfg(feature = "simulation")]
    if let Some(outside) = simulated::current() {
        return uuid::Builder::from_random_bytes(outside.chance()).into_uuid();
    }
    Uuid::new_v4()
}

/// A number that nobody else draws, and whose text sorts behind that of earlier ones.
#[must_use]
pub fn ascending() -> Uuid {
    #[cfg(feature = "simulation")]
    if let Some(outside) = simulated::current() {
        let now = outside.wall_clock().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut tail = [0; 10];
        tail.copy_from_slice(&outside.chance()[..10]);
        return uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid();
    }
    Uuid::now_v7()
}

/// A share in [0, 1], so that many who wait do not come back in the same instant.
#[must_use]
pub fn share() -> f64 {
    let [a, b, ..] = *unique().as_bytes();
    f64::from(u16::from_le_bytes([a, b])) / f64::from(u16::MAX)
}

/// Work that blocks, on a thread for that.
///
/// # Errors
/// [`Lost`].
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Lost> {
    #[cfg(feature = "simulation")]
    if let Some(outside) = simulated::current() {
        outside.pause().await;
        let done = simulated::within(work);
        outside.pause().await;
        return Ok(done);
    }
    Ok(tokio::task::spawn_blocking(work).await?)
}

/// Work that blocks, on a thread for that; nobody waits for its end.
pub fn detached(work: impl FnOnce() + Send + 'static) {
    #[cfg(feature = "simulation")]
    if simulated::current().is_some() {
        return simulated::within(work);
    }
    tokio::task::spawn_blocking(work);
}

/// Waits for a future from a thread that may block.
pub fn wait<F: Future>(runtime: &Handle, future: F) -> F::Output {
    #[cfg(feature = "simulation")]
    if simulated::current().is_some() {
        return simulated::at_once(future);
    }
    runtime.block_on(future)
}
