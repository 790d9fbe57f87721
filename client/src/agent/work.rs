//! One task from its start to its receipt: fetch, train, make durable, send; with heartbeats beside.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;
use tributary_core::digest::Digest;
use tributary_core::name::ClientName;
use tributary_core::params::ParameterSet;
use tributary_core::round::TaskKind;
use tributary_core::round::task::{DIVERGED, REFUSED_BY_SITE, UNABLE};
use tributary_proto::convert::statistics_to_wire;
use tributary_proto::v1;

use super::checked::{Checked, check};
use super::leaving::Product;
use super::pulse::{Follow, Pulse};
use super::{Agent, AgentError};
use crate::failpoint::failpoint;
use crate::ledger::Ledger;
use crate::observer::AgentEvent;
use crate::rpc::{Backoff, CALL, CallError, Client, Me, fetch, limited};
use crate::spool::{LeftOver, Spool, local};
use crate::trainer::{Control, Order, Trainer, TrainerError};

/// How a task ended for this client.
pub(super) enum Outcome {
    /// The digest that counts.
    Receipt(String),
    /// No result, and why.
    Dropped(String),
    /// An operator holds the job: a finished update stays here, and is sent when the job goes on.
    Held,
    /// The agent is to stop; the task stays open.
    Stopped,
}

/// Where a trainer begins: the checkpoint, and the data set that the policy lets it read.
struct Start {
    checkpoint: ParameterSet,
    data: Option<String>,
}

/// An agent at work.
pub(super) struct Work<'a> {
    pub(super) agent: &'a Agent,
    pub(super) spool: Arc<Spool>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) client: Client,
    pub(super) me: Me,
}

impl Work<'_> {
    /// Does a task. Errors of the way are tried again; only what ends the agent comes back.
    pub(super) async fn perform(
        &self,
        task: v1::Task,
        stop: &CancellationToken,
    ) -> Result<Outcome, AgentError> {
        let id = task.task_id.clone();
        let checked = match check(task) {
            Ok(checked) => checked,
            Err(reason) => return self.unable((&id, None), UNABLE, reason, stop).await,
        };
        let data = match self.agent.agrees(&checked.spec, &checked.origin.submitted_by) {
            Ok(data) => data,
            Err(reason) => return self.tell(&checked, REFUSED_BY_SITE, reason, stop).await,
        };
        self.agent.observer.event(AgentEvent::Task {
            kind: checked.kind.word(),
            job: checked.spec.name.clone(),
            round: checked.origin.round,
        });
        let pulse = Arc::new(Pulse::default());
        let beating = self.beat(&checked, pulse.clone());
        let outcome = self.work(&checked, data, &pulse, stop).await;
        beating.abort();
        if pulse.superseded.load(Ordering::Relaxed) {
            return Err(AgentError::Superseded(self.agent.config.name.clone()));
        }
        let outcome = outcome?;
        failpoint!("upload.receipt.held");
        if !matches!(outcome, Outcome::Stopped | Outcome::Held) {
            self.spool.forget(&checked.id);
            failpoint!("spool.forgotten");
        }
        Ok(outcome)
    }

    async fn work(
        &self,
        task: &Checked,
        data: Option<String>,
        pulse: &Arc<Pulse>,
        stop: &CancellationToken,
    ) -> Result<Outcome, AgentError> {
        if let Some(left) = self.spool.finished(&task.id) {
            return self.send_recorded(&left, task.spec.digest, pulse, stop).await;
        }
        if task.kind == TaskKind::Evaluate
            && let Err(reason) = self.agent.may_evaluate(data.as_deref())
        {
            return self.tell(task, UNABLE, reason, stop).await;
        }
        failpoint!("task.received");
        if task.kind == TaskKind::Statistics {
            return self.sums(task, data, pulse, stop).await;
        }
        let checkpoint = match self.checkpoint(task, pulse, stop).await? {
            Ok(checkpoint) => checkpoint,
            Err(outcome) => return Ok(outcome),
        };
        failpoint!("task.fetched");
        if task.kind == TaskKind::Evaluate {
            return self.evaluate(task, Start { checkpoint, data }, pulse, stop).await;
        }
        match self.train(task, Start { checkpoint, data }, pulse, stop).await {
            Ok(finished) => self.send_recorded(&finished, task.spec.digest, pulse, stop).await,
            Err(error) => self.failed(task, error, stop).await,
        }
    }

    /// Tells the coordinator why this task has no result.
    pub(super) async fn tell(
        &self,
        task: &Checked,
        code: &str,
        reason: String,
        stop: &CancellationToken,
    ) -> Result<Outcome, AgentError> {
        self.unable((task.id.as_str(), Some(&task.origin)), code, reason, stop).await
    }

    /// A trainer's error, told to the coordinator: data that do not fit are this site's refusal, so
    /// that it is not asked again.
    pub(super) async fn failed(
        &self,
        task: &Checked,
        error: TrainerError,
        stop: &CancellationToken,
    ) -> Result<Outcome, AgentError> {
        let (code, reason) = match error {
            TrainerError::Cancelled => return Ok(self.cancelled(stop)),
            TrainerError::Unable(reason) => (UNABLE, reason),
            TrainerError::Diverged(reason) => (DIVERGED, reason),
            TrainerError::Unfit(reason) => (REFUSED_BY_SITE, reason),
        };
        self.tell(task, code, reason, stop).await
    }

    pub(super) fn cancelled(&self, stop: &CancellationToken) -> Outcome {
        if stop.is_cancelled() {
            return Outcome::Stopped;
        }
        Outcome::Dropped("the coordinator no longer wants it".to_owned())
    }

    /// The checkpoint, fetched where it is not there yet.
    async fn checkpoint(
        &self,
        task: &Checked,
        pulse: &Arc<Pulse>,
        stop: &CancellationToken,
    ) -> Result<Result<ParameterSet, Outcome>, AgentError> {
        let path = self.spool.checkpoint_path(task.checkpoint);
        let mut backoff = Backoff::new();
        loop {
            let mut client = self.client.clone();
            let (digest, bytes) = (task.checkpoint, task.checkpoint_bytes);
            let step = || {
                pulse.steps.fetch_add(1, Ordering::Relaxed);
            };
            let fetching = fetch(&mut client, &self.me, digest, bytes, &path, step);
            let result = tokio::select! {
                biased;
                result = fetching => result,
                () = stop.cancelled() => return Ok(Err(Outcome::Stopped)),
            };
            let error = match result {
                Ok(()) => match self.read(task).await {
                    Ok(Some(parameters)) => return Ok(Ok(parameters)),
                    Ok(None) => CallError::Away("the checkpoint was damaged".to_owned(), None),
                    Err(reason) => {
                        let outcome = self.tell(task, UNABLE, reason, stop).await?;
                        return Ok(Err(outcome));
                    }
                },
                Err(CallError::Refused { reason, message }) => {
                    return Ok(Err(Outcome::Dropped(format!("{reason}: {message}"))));
                }
                Err(error) => error,
            };
            if pulse.unwanted.load(Ordering::Relaxed) {
                return Ok(Err(self.cancelled(stop)));
            }
            self.agent.away(&mut backoff, &error, stop).await;
            if stop.is_cancelled() {
                return Ok(Err(Outcome::Stopped));
            }
        }
    }

    async fn read(&self, task: &Checked) -> Result<Option<ParameterSet>, String> {
        let (spool, digest, spec) = (self.spool.clone(), task.checkpoint, task.spec.clone());
        let read = move || {
            let parameters = spool.checkpoint(digest, spec.model.schema());
            spool.trim_checkpoints();
            parameters
        };
        tributary_outside::blocking(read).await.map_err(|error| local(&error))?
    }

    async fn train(
        &self,
        task: &Checked,
        start: Start,
        pulse: &Arc<Pulse>,
        stop: &CancellationToken,
    ) -> Result<LeftOver, TrainerError> {
        let (spool, id, origin) = (self.spool.clone(), task.id.clone(), task.origin.clone());
        self.with_trainer(task, start, pulse, stop, move |trainer, order, control| {
            let trained = trainer.train(order, control)?;
            failpoint!("task.trained");
            let outgoing = spool
                .finish(&id, order.spec.model.schema(), trained, origin.clone())
                .map_err(|error| TrainerError::Unable(local(&error)))?;
            Ok(LeftOver { task: id, outgoing, origin })
        })
        .await
    }

    async fn evaluate(
        &self,
        task: &Checked,
        start: Start,
        pulse: &Arc<Pulse>,
        stop: &CancellationToken,
    ) -> Result<Outcome, AgentError> {
        let scored = self
            .with_trainer(task, start, pulse, stop, |trainer, order, control| {
                trainer.evaluate(order, control)
            })
            .await;
        let statistics = match scored {
            Ok(statistics) => statistics,
            Err(error) => return self.failed(task, error, stop).await,
        };
        if let Some(reason) = self.agent.policy.keeps(statistics.examples) {
            return self.tell(task, UNABLE, reason, stop).await;
        }
        failpoint!("evaluation.scored");
        let text = serde_json::to_vec(&statistics).unwrap_or_default();
        let product = Product {
            what: "statistics",
            content: (Digest::of(&text), text.len() as u64),
            examples: statistics.examples,
            withheld: statistics.withheld > 0,
        };
        self.record(&task.origin, task.id.as_str(), task.spec.digest, &product)?;
        failpoint!("evaluation.ledger.written");
        let request = v1::SubmitEvaluationRequest {
            caller: self.me.caller(),
            task_id: task.id.to_string(),
            statistics: Some(statistics_to_wire(&statistics)),
        };
        self.submit(stop, pulse, |mut client| {
            let request = request.clone();
            async move { Ok(limited(CALL, client.submit_evaluation(request)).await?.receipt) }
        })
        .await
    }

    /// The trainer's side of a pulse.
    pub(super) fn follow(&self, pulse: &Arc<Pulse>, stop: &CancellationToken) -> Follow {
        let (pulse, observer) = (pulse.clone(), self.agent.observer.clone());
        Follow { pulse, observer, stop: stop.clone() }
    }

    /// Runs the trainer on a thread of its own, with its progress in `pulse`.
    async fn with_trainer<T: Send + 'static>(
        &self,
        task: &Checked,
        start: Start,
        pulse: &Arc<Pulse>,
        stop: &CancellationToken,
        work: impl FnOnce(&dyn Trainer, &Order<'_>, &dyn Control) -> Result<T, TrainerError>
        + Send
        + 'static,
    ) -> Result<T, TrainerError> {
        let trainer = self.agent.trainer.clone();
        let name: ClientName = self.agent.config.name.clone();
        let (spec, round) = (task.spec.clone(), task.origin.round);
        let follow = self.follow(pulse, stop);
        let running = tributary_outside::blocking(move || {
            let Start { checkpoint, data } = &start;
            let data = data.as_deref();
            let order = Order { spec: &spec, round, client: &name, checkpoint, data };
            work(trainer.as_ref(), &order, &follow)
        });
        // What a trainer says when it panics may repeat what stands in the site's rows.
        running.await.unwrap_or_else(|error| Err(TrainerError::Unable(local(&error))))
    }
}
