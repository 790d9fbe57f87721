//! A site's sums before round 1: checked, durable as a blob, then accepted; then there is a receipt.

use tributary_core::metrics::Statistics;
use tributary_core::round::task::{Accepted, TaskEvent};
use tributary_core::round::{Rejection, TaskKind};
use tributary_proto::convert::{CallerId, WireFault, sums_from_wire};
use tributary_proto::v1;

use super::{IngestError, Known, Receipt, accept, context, record_rejection};
use crate::blobs::sums_key;
use crate::driver::Hub;
use crate::failpoint::failpoint;
use crate::store::UpdateRow;

/// Takes the sums of a statistics task; what cannot be is refused and recorded.
pub(crate) async fn sums(
    hub: &Hub,
    caller: &CallerId,
    known: &Known,
    sums: Option<v1::SiteSums>,
) -> Result<Receipt, IngestError> {
    let result = take(hub, caller, known, sums).await;
    let code = match &result {
        Err(IngestError::Malformed(_)) => "malformed",
        Err(IngestError::Rejected(rejection)) => rejection.code(),
        _ => return result,
    };
    if let Err(error) = &result {
        let job = Some((&known.view.job, known.view.task.round));
        record_rejection(hub, job, caller, code, error.to_string()).await;
    }
    result
}

async fn take(
    hub: &Hub,
    caller: &CallerId,
    known: &Known,
    sums: Option<v1::SiteSums>,
) -> Result<Receipt, IngestError> {
    let task = &known.view.task;
    if task.client != caller.client {
        return Err(Rejection::NotYourTask.into());
    }
    let spec = &known.spec.parsed;
    let asked = match (task.kind, &spec.statistics) {
        (TaskKind::Statistics, Some(statistics)) => &statistics.asked,
        (kind, _) => {
            return Err(WireFault::new("task_id", "a statistics task", kind.word()).into());
        }
    };
    let sums = sums_from_wire(sums, asked)?;
    let most = known.spec.policy.cohort.max_examples;
    if sums.rows > most {
        let expected = format!("at most cohort.max_examples ({most})");
        return Err(WireFault::new("sums.rows", expected, sums.rows.to_string()).into());
    }
    let (bytes, digest) = (sums.encode(), sums.digest());
    if let Some(accepted) = &task.accepted {
        let already = accepted.digest != digest;
        return Ok(Receipt { task: task.id.clone(), digest: accepted.digest, already });
    }
    // Nothing is stored for a task that takes nothing any more.
    let accepted = Accepted { digest, examples: sums.rows };
    let context = context(&known.view, &known.spec);
    task.step(&context, &caller.client, &caller.instance, TaskEvent::Accept(accepted))?;
    hub.blobs.check_room()?;
    let length = bytes.len() as u64;
    hub.blobs.put(&sums_key(&known.view.job, &task.id, digest), bytes.into()).await?;
    failpoint!("sums.stored");
    let nothing = Statistics::of(spec.data.measure());
    let row = UpdateRow {
        task: task.id.clone(),
        client: task.client.clone(),
        round: task.round,
        digest,
        examples: sums.rows,
        bytes: length,
        statistics: nothing.map_err(|error| IngestError::Damaged(error.to_string()))?,
    };
    accept(hub, caller, known, row).await
}
