//! What a client tells the coordinator of its task: the update, a failure, signs of life.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tributary_core::name::TaskId;
use tributary_proto::v1;

use super::AgentError;
use super::checked::Checked;
use super::pulse::Pulse;
use super::work::{Outcome, Work};
use crate::observer::AgentEvent;
use crate::rpc::{Backoff, CALL, CallError, Client, JOB_PAUSED, Outgoing, limited, upload};

impl Work<'_> {
    /// Sends a finished update until there is a receipt or a refusal.
    pub(super) async fn send(
        &self,
        task: &TaskId,
        outgoing: &Outgoing,
        pulse: &Arc<Pulse>,
        stop: &CancellationToken,
    ) -> Result<Outcome, AgentError> {
        tracing::debug!(%task, digest = %outgoing.digest, "sending");
        self.agent.observer.event(AgentEvent::Sending { bytes: outgoing.bytes });
        self.until_answered(stop, pulse, || {
            let mut client = self.client.clone();
            let pulse = pulse.clone();
            let step: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
                pulse.steps.fetch_add(1, Ordering::Relaxed);
            });
            async move {
                let receipt = upload(&mut client, &self.me, outgoing, step).await?;
                Ok(receipt.update_digest)
            }
        })
        .await
    }

    /// Sends a result of one message until there is a receipt or a refusal.
    pub(super) async fn submit<F>(
        &self,
        stop: &CancellationToken,
        pulse: &Pulse,
        call: impl Fn(Client) -> F,
    ) -> Result<Outcome, AgentError>
    where
        F: Future<Output = Result<Option<v1::Receipt>, CallError>>,
    {
        self.until_answered(stop, pulse, || {
            let answered = call(self.client.clone());
            async { Ok(answered.await?.map(|receipt| receipt.update_digest).unwrap_or_default()) }
        })
        .await
    }

    /// Calls until there is an answer; a coordinator that is away is waited for without limit.
    pub(super) async fn until_answered<F>(
        &self,
        stop: &CancellationToken,
        pulse: &Pulse,
        call: impl Fn() -> F,
    ) -> Result<Outcome, AgentError>
    where
        F: Future<Output = Result<String, CallError>>,
    {
        let mut backoff = Backoff::new();
        loop {
            let result = tokio::select! {
                biased;
                result = call() => result,
                () = stop.cancelled() => return Ok(Outcome::Stopped),
            };
            match result {
                Ok(digest) => return Ok(Outcome::Receipt(digest)),
                Err(CallError::Refused { reason, message }) if reason == "superseded" => {
                    return Err(self.agent.refused(&reason, message));
                }
                Err(CallError::Refused { reason, message }) => {
                    return Ok(Outcome::Dropped(format!("{reason}: {message}")));
                }
                // Other jobs may have work: nobody waits here until this one goes on.
                Err(CallError::Held(_)) => return Ok(Outcome::Held),
                Err(error) => self.agent.away(&mut backoff, &error, stop).await,
            }
            if stop.is_cancelled() {
                return Ok(Outcome::Stopped);
            }
            if pulse.held.load(Ordering::Relaxed) {
                return Ok(Outcome::Held);
            }
            if pulse.unwanted.load(Ordering::Relaxed) {
                return Ok(self.cancelled(stop));
            }
        }
    }

    /// Heartbeats until the task ends.
    pub(super) fn beat(&self, task: &Checked, pulse: Arc<Pulse>) -> JoinHandle<()> {
        let (mut client, me) = (self.client.clone(), self.me.clone());
        let (task_id, every) = (task.id.to_string(), task.heartbeat);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let request = v1::HeartbeatRequest {
                    caller: me.caller(),
                    task_id: task_id.clone(),
                    progress: pulse.steps.load(Ordering::Relaxed),
                    progress_total: pulse.total.load(Ordering::Relaxed),
                };
                // A heartbeat that fails is followed by the next one.
                let Ok(answer) = limited(CALL, client.heartbeat(request)).await else { continue };
                if answer.action() == v1::heartbeat_response::Action::Stop {
                    let superseded = answer.reason == "superseded";
                    pulse.held.store(answer.reason == JOB_PAUSED, Ordering::Relaxed);
                    pulse.superseded.store(superseded, Ordering::Relaxed);
                    pulse.unwanted.store(true, Ordering::Relaxed);
                    return;
                }
            }
        })
    }
}
