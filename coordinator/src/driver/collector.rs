//! Deletes the updates of final rounds: at once after a commit, and whatever was left, by a kill or by
//! an upload that came too late, at its next look. Deleting twice is harmless, so any replica may.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Hub;
use crate::config::KeepUpdates;
use crate::failpoint::failpoint;
use crate::store::FinalRound;

/// How often the store is asked for final rounds that were not swept.
const LOOK: Duration = Duration::from_secs(10);
/// The last sweep comes so long after the round's end: no try of an upload lasts as long.
const GRACE: Duration = Duration::from_secs(3600);

/// Runs until `stop`.
pub(crate) async fn collect(hub: Arc<Hub>, stop: CancellationToken) {
    if hub.keep_updates == KeepUpdates::Always {
        return;
    }
    while !stop.is_cancelled() {
        sweep(&hub, GRACE).await;
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = hub.wakes.collector() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// One look: every final round that is due.
async fn sweep(hub: &Hub, grace: Duration) {
    let due = match hub.store.rounds_to_collect(grace).await {
        Ok(due) => due,
        Err(error) => {
            tracing::debug!(%error, "cannot look for updates to delete; trying again");
            return;
        }
    };
    for round in due {
        let FinalRound { job, number, .. } = &round;
        if let Err(error) = hub.blobs.delete_updates(job, *number).await {
            tracing::warn!(%job, round = number, %error, "old updates are still there");
            continue;
        }
        failpoint!("collect.deleted");
        if let Err(error) = hub.store.round_collected(&round).await {
            tracing::debug!(%error, "deleted updates are deleted once more later");
        }
    }
}
