//! What leaves the machine: each result, offer and reason, with its line in the ledger before its
//! first byte, and nothing that the site's policy withholds.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_core::binding::Binding;
use tributary_core::digest::Digest;
use tributary_core::metrics::Statistics;
use tributary_core::round::task::REFUSED_BY_SITE;
use tributary_core::spec::JobSpec;
use tributary_proto::v1;

use super::pulse::Pulse;
use super::work::{Outcome, Work};
use super::{Agent, AgentError};
use crate::ledger::{Departure, Ledger, LedgerError, OFFER, REASON};
use crate::observer::AgentEvent;
use crate::rpc::{CALL, Outgoing, limited};
use crate::spool::{LeftOver, Origin};

/// Longest reason that is sent: the coordinator keeps no more.
const REASON_CHARS_MAX: usize = 500;
/// What the ledger says of rows that nothing hides.
const NO_PRIVACY: &str = "none";
/// What it says of a result whose statistics stay here.
const WITHHELD: &str = "statistics_withheld";

/// What a result is: its word, its digest and length, the rows that it stands for.
pub(super) struct Product {
    pub(super) what: &'static str,
    pub(super) content: (Digest, u64),
    pub(super) examples: u64,
    pub(super) withheld: bool,
}

impl Agent {
    /// What the coordinator may know of the site's data.
    pub(super) fn offer(&self) -> Vec<Binding> {
        let bindings = self.trainer.bindings();
        bindings.into_iter().map(|binding| self.policy.offered(binding)).collect()
    }

    /// Writes down what is offered, where it is another offer than the last.
    pub(super) fn record_offer(
        &self,
        ledger: &Ledger,
        offer: &[Binding],
    ) -> Result<(), LedgerError> {
        let detail = serde_json::to_string(offer).unwrap_or_default();
        let examples = offer.iter().map(|binding| binding.train_examples).sum();
        ledger.record(Departure {
            what: OFFER,
            coordinator: self.config.coordinator.clone(),
            job: String::new(),
            round: 0,
            task: String::new(),
            spec: None,
            content: Digest::of(detail.as_bytes()),
            bytes: detail.len() as u64,
            examples,
            privacy: NO_PRIVACY,
            detail,
        })
    }
}

impl Work<'_> {
    /// Sends what was finished and has no receipt, as the site agrees to it now: by an earlier process,
    /// or by this one for a job that an operator held.
    pub(super) async fn settle(&self, stop: &CancellationToken) -> Result<(), AgentError> {
        for left in self.spool.left_over() {
            self.agent.opened(stop).await;
            if stop.is_cancelled() {
                return Ok(());
            }
            match self.settle_one(&left, stop).await? {
                Outcome::Stopped => return Ok(()),
                Outcome::Dropped(reason) => {
                    self.agent.observer.event(AgentEvent::Dropped { reason })
                }
                // Its task is offered again when the job goes on.
                Outcome::Held => continue,
                Outcome::Receipt(_) => {}
            }
            self.spool.forget(&left.task);
        }
        Ok(())
    }

    /// A job that the site no longer agrees to is refused when its task is offered again: the task is
    /// the other process's until then.
    async fn settle_one(
        &self,
        left: &LeftOver,
        stop: &CancellationToken,
    ) -> Result<Outcome, AgentError> {
        let agreed = JobSpec::parse(&left.origin.spec)
            .map_err(|faults| format!("the spec has {faults}"))
            .and_then(|spec| {
                self.agent.agrees(&spec, &left.origin.submitted_by).map(|_| spec.digest)
            });
        let spec = match agreed {
            Ok(spec) => spec,
            Err(reason) => return Ok(Outcome::Dropped(reason)),
        };
        let pulse = Arc::new(Pulse::default());
        self.send_recorded(left, spec, &pulse, stop).await
    }

    /// Writes the line of an update, and sends it: without its statistics where the policy withholds
    /// them.
    pub(super) async fn send_recorded(
        &self,
        left: &LeftOver,
        spec: Digest,
        pulse: &Arc<Pulse>,
        stop: &CancellationToken,
    ) -> Result<Outcome, AgentError> {
        let LeftOver { task, outgoing, origin } = left;
        let outgoing = Outgoing { statistics: self.told(outgoing), ..outgoing.clone() };
        let result = Product {
            what: "update",
            content: (outgoing.digest, outgoing.bytes),
            examples: outgoing.examples,
            withheld: outgoing.statistics.withheld > 0,
        };
        self.record(origin, task.as_str(), spec, &result)?;
        crate::failpoint::failpoint!("ledger.written");
        self.send(task, &outgoing, pulse, stop).await
    }

    fn told(&self, outgoing: &Outgoing) -> Statistics {
        if self.agent.policy.withholds(outgoing.examples) {
            return outgoing.statistics.withhold();
        }
        outgoing.statistics.clone()
    }

    /// Writes down that a result leaves the machine, before a byte of it does.
    pub(super) fn record(
        &self,
        origin: &Origin,
        task: &str,
        spec: Digest,
        result: &Product,
    ) -> Result<(), LedgerError> {
        self.ledger.record(Departure {
            what: result.what,
            coordinator: self.agent.config.coordinator.clone(),
            job: origin.job.clone(),
            round: origin.round,
            task: task.to_owned(),
            spec: Some(spec),
            content: result.content.0,
            bytes: result.content.1,
            examples: result.examples,
            privacy: if result.withheld { WITHHELD } else { NO_PRIVACY },
            detail: String::new(),
        })
    }

    /// Tells the coordinator why a task has no result.
    pub(super) async fn unable(
        &self,
        (task, origin): (&str, Option<&Origin>),
        code: &str,
        reason: String,
        stop: &CancellationToken,
    ) -> Result<Outcome, AgentError> {
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        self.ledger.record(Departure {
            what: REASON,
            coordinator: self.agent.config.coordinator.clone(),
            job: origin.map(|origin| origin.job.clone()).unwrap_or_default(),
            round: origin.map(|origin| origin.round).unwrap_or_default(),
            task: task.to_owned(),
            spec: origin.map(|origin| Digest::of(origin.spec.as_bytes())),
            content: Digest::of(reason.as_bytes()),
            bytes: reason.len() as u64,
            examples: 0,
            privacy: NO_PRIVACY,
            detail: reason.clone(),
        })?;
        let request = v1::ReportFailureRequest {
            refused_by_site: code == REFUSED_BY_SITE,
            code: code.to_owned(),
            caller: self.me.caller(),
            task_id: task.to_owned(),
            reason: reason.clone(),
        };
        let pulse = Arc::new(Pulse::default());
        let outcome = self
            .until_answered(stop, &pulse, || {
                let mut client = self.client.clone();
                let request = request.clone();
                async move {
                    limited(CALL, client.report_failure(request)).await?;
                    Ok(String::new())
                }
            })
            .await?;
        Ok(match outcome {
            Outcome::Stopped => Outcome::Stopped,
            _ => Outcome::Dropped(reason),
        })
    }
}
