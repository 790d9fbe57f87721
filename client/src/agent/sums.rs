//! A statistics task: the site's sums, as far as its policy tells them, before the job's first round.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_core::round::task::REFUSED_BY_SITE;
use tributary_proto::convert::sums_to_wire;
use tributary_proto::v1;

use super::AgentError;
use super::checked::Checked;
use super::leaving::Product;
use super::pulse::Pulse;
use super::work::{Outcome, Work};
use crate::failpoint::failpoint;
use crate::rpc::{CALL, limited};
use crate::spool::local;
use crate::trainer::TrainerError;

impl Work<'_> {
    /// Sums the rows and sends what the policy tells. Nothing is kept for after a kill: the same
    /// files give the same sums.
    pub(super) async fn sums(
        &self,
        task: &Checked,
        data: Option<String>,
        pulse: &Arc<Pulse>,
        stop: &CancellationToken,
    ) -> Result<Outcome, AgentError> {
        let policy = &self.agent.policy;
        if let Some(reason) = policy.refuses_statistics(&task.spec) {
            return self.tell(task, REFUSED_BY_SITE, reason, stop).await;
        }
        let (trainer, spec) = (self.agent.trainer.clone(), task.spec.clone());
        let follow = self.follow(pulse, stop);
        let running = tributary_outside::blocking(move || {
            trainer.statistics(&spec, data.as_deref(), &follow)
        });
        let summed = running.await;
        let summed = summed.unwrap_or_else(|error| Err(TrainerError::Unable(local(&error))));
        let sums = match summed {
            Ok(sums) => sums,
            Err(error) => return self.failed(task, error, stop).await,
        };
        let sums = match policy.told(sums) {
            Ok(sums) => sums,
            Err(reason) => return self.tell(task, REFUSED_BY_SITE, reason, stop).await,
        };
        failpoint!("sums.computed");
        let content = (sums.digest(), sums.encode().len() as u64);
        let result = Product { what: "sums", content, examples: sums.rows, withheld: false };
        self.record(&task.origin, task.id.as_str(), task.spec.digest, &result)?;
        failpoint!("sums.ledger.written");
        let request = v1::SubmitStatisticsRequest {
            caller: self.me.caller(),
            task_id: task.id.to_string(),
            sums: Some(sums_to_wire(&sums)),
        };
        self.submit(stop, pulse, |mut client| {
            let request = request.clone();
            async move { Ok(limited(CALL, client.submit_statistics(request)).await?.receipt) }
        })
        .await
    }
}
