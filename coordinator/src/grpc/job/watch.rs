//! Watching a job: a snapshot whenever something changes, at most ten a second, until it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tributary_core::name::JobId;
use tributary_core::round::{JobStatus, Phase};
use tributary_proto::v1;

use super::{find, present};
use crate::driver::Hub;
use crate::grpc::status::{of_store, stopping};
use crate::grpc::wire::round_to_wire;

/// Snapshots that a slow watcher may leave unread; then the watch waits for it.
const SNAPSHOTS: usize = 4;
/// Least time between two snapshots.
const PACE: Duration = Duration::from_millis(100);
/// How often the store is read though no bell rang: another replica may drive the job.
const LOOK: Duration = Duration::from_secs(1);
/// Most committed rounds in one snapshot.
const ROUNDS_MAX: u32 = 1000;

/// Starts a watch; it ends when the job does, or when nobody reads it.
pub(super) fn watch(
    hub: Arc<Hub>,
    job: JobId,
    stop: CancellationToken,
) -> mpsc::Receiver<Result<v1::WatchJobResponse, Status>> {
    let (sender, receiver) = mpsc::channel(SNAPSHOTS);
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = run(&hub, &job, &sender) => {}
            () = stop.cancelled() => {
                let _ = sender.send(Err(stopping())).await;
            }
        }
    });
    receiver
}

async fn run(hub: &Hub, job: &JobId, sender: &mpsc::Sender<Result<v1::WatchJobResponse, Status>>) {
    let bell = hub.wakes.watcher(job);
    let mut told = 0;
    let mut last = None;
    loop {
        let rung = bell.notified();
        let snapshot = match snapshot(hub, job, told).await {
            Ok(snapshot) => snapshot,
            Err(status) => {
                let _ = sender.send(Err(status)).await;
                return;
            }
        };
        let status = snapshot.job.as_ref().map(|job| job.status.clone()).unwrap_or_default();
        let ended = JobStatus::from_word(&status).is_some_and(JobStatus::ended);
        let more = snapshot.committed.len() >= ROUNDS_MAX as usize;
        told = snapshot.committed.last().map_or(told, |round| round.number);
        if last.as_ref() != Some(&snapshot) {
            last = Some(snapshot.clone());
            if sender.send(Ok(snapshot)).await.is_err() {
                return;
            }
        }
        if ended && !more {
            return;
        }
        tokio::time::sleep(PACE).await;
        if !more {
            tokio::select! {
                biased;
                () = rung => {}
                () = tokio::time::sleep(LOOK) => {}
                () = sender.closed() => return,
            }
        }
    }
}

async fn snapshot(hub: &Hub, job: &JobId, told: u32) -> Result<v1::WatchJobResponse, Status> {
    let row = find(hub, job.as_str()).await?;
    let store = &hub.store;
    let rounds =
        store.rounds(job, Some(told), ROUNDS_MAX).await.map_err(|error| of_store(&error))?;
    let committed = rounds.iter().filter(|row| row.state.phase == Phase::Committed);
    let committed = committed.map(|row| round_to_wire(job.as_str(), row, &[])).collect();
    let round = match row.current {
        Some((number, ..)) => {
            let attempts = store.round(job, number).await.map_err(|error| of_store(&error))?;
            let tasks = store.tasks(job, number).await.map_err(|error| of_store(&error))?;
            attempts.last().map(|row| round_to_wire(job.as_str(), row, &tasks))
        }
        None => None,
    };
    Ok(v1::WatchJobResponse { job: Some(present(hub, &row).await?), round, committed })
}
