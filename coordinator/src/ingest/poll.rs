//! Long polls: the client's open task, the same one until it ends, or a wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tributary_core::round::task::TaskEvent;
use tributary_core::round::{Rejection, TaskKind};
use tributary_proto::convert::CallerId;

use super::{IngestError, Known, known, move_task};
use crate::driver::Hub;
use crate::failpoint::failpoint;
use crate::store::{ClientHello, Greeting};

/// What a poll found.
pub(crate) enum Polled {
    /// The client's task, now leased to the calling process.
    Task(Box<Known>),
    /// Nothing for now.
    Nothing,
}

/// Waits at most `wait` for a task. The bell also rings for what another replica offered: by its hint,
/// or else by the replica's own look at the store, once a second for all waiting polls together.
pub(crate) async fn poll(
    hub: &Arc<Hub>,
    hello: ClientHello,
    reconsider: bool,
    wait: Duration,
) -> Result<Polled, IngestError> {
    let caller = CallerId { client: hello.name.clone(), instance: hello.instance.clone() };
    let bell = hub.wakes.client(&caller.client);
    let deadline = Instant::now() + wait;
    let greeting = hub.store.hello(&hello).await?;
    if greeting == Greeting::InUse {
        return Err(IngestError::IdentityInUse);
    }
    let asked = if reconsider { hub.store.reconsider_jobs(&caller.client).await? } else { 0 };
    if asked > 0 {
        tracing::info!(client = %caller.client, jobs = asked, "its site may be asked again");
    }
    if greeting == Greeting::Changed || asked > 0 {
        // Jobs may have waited for it.
        hub.wakes.wake_all_jobs();
    }
    loop {
        let rung = bell.notified();
        if let Some(known) = take(hub, &caller).await? {
            return Ok(Polled::Task(Box::new(known)));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Polled::Nothing);
        }
        tokio::select! {
            biased;
            () = rung => {}
            () = tokio::time::sleep(left) => {}
        }
    }
}

async fn take(hub: &Hub, caller: &CallerId) -> Result<Option<Known>, IngestError> {
    let Some(found) = hub.store.open_task(&caller.client).await? else { return Ok(None) };
    let mut known = known(hub, &found).await?;
    match move_task(hub, &known, caller, TaskEvent::Take, None).await {
        Ok(task) => {
            failpoint!("poll.taken");
            known.view.task = task;
            hub.wakes.wake_watchers(&known.view.job);
            if known.view.task.kind == TaskKind::Train {
                let (job, round) = (&known.view.job, known.view.round);
                tracing::debug!(client = %caller.client, %job, round, "task taken");
            }
            Ok(Some(known))
        }
        // It closed between the look and the taking.
        Err(IngestError::Rejected(
            Rejection::RoundClosed { .. }
            | Rejection::TaskEnded { .. }
            | Rejection::JobEnded { .. }
            | Rejection::JobPaused,
        )) => Ok(None),
        Err(error) => Err(error),
    }
}
