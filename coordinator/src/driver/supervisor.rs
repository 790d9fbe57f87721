//! Finds jobs that nobody drives, takes their leases, and runs a driver for each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tributary_core::name::JobId;

use super::Hub;
use super::job::drive;
use crate::failpoint::failpoint;
use crate::store::{Holder, StoreError};

/// How often the store is asked for jobs that no bell announced.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until `stop`, then waits until every driver has handed its lease back.
pub(crate) async fn supervise(hub: Arc<Hub>, stop: CancellationToken) {
    let mut drivers: BTreeMap<JobId, JoinHandle<()>> = BTreeMap::new();
    while !stop.is_cancelled() {
        drivers.retain(|_, driver| !driver.is_finished());
        if let Err(error) = adopt(&hub, &stop, &mut drivers).await {
            tracing::warn!(%error, "cannot look for jobs; trying again");
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = hub.wakes.supervisor() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    for (job, driver) in drivers {
        if let Err(error) = driver.await {
            tracing::error!(%job, %error, "a driver ended badly");
        }
    }
}

async fn adopt(
    hub: &Arc<Hub>,
    stop: &CancellationToken,
    drivers: &mut BTreeMap<JobId, JoinHandle<()>>,
) -> Result<(), StoreError> {
    for job in hub.store.takeable_jobs(&hub.replica.name).await? {
        if drivers.contains_key(&job) {
            continue;
        }
        let holder = Holder { owner: &hub.replica.name, lock: hub.replica.lock() };
        if let Some(token) = hub.store.acquire_lease(&job, holder, hub.replica.lease).await? {
            failpoint!("driver.lease.taken");
            tracing::info!(%job, replica = %hub.replica.name, "drives this job");
            let running = tokio::spawn(drive(hub.clone(), job.clone(), token, stop.clone()));
            drivers.insert(job, running);
        }
    }
    Ok(())
}
