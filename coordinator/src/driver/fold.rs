//! Performs the machine's `Fold`: the accepted set, as the rows say it, becomes the next checkpoint.

use std::sync::Arc;

use tokio::time::Instant;
use tributary_core::aggregate::Scale;
use tributary_core::metrics::Statistics;
use tributary_core::round::divergence::median_loss;
use tributary_core::round::{Event, FoldFacts, JobState, RoundState};

use super::{Hub, Pause};
use crate::aggregation::{Contribution, FoldError, FoldOutcome, FoldPlan, fold_round};
use crate::blobs::{UpdateKey, checkpoint_key};
use crate::specs::Spec;
use crate::store::{CheckpointRow, LeaseToken, StoreError, UpdateRow};

/// Longest sentence about what a fold waits for: a server's answer may be a page.
const WAITS_CHARS_MAX: usize = 500;

/// The machine's next event, and the checkpoint that became durable with it, where there is one.
#[derive(Clone)]
pub(super) struct Folded {
    pub(super) event: Event,
    pub(super) checkpoint: Option<CheckpointRow>,
}

/// Folds, trying again for as long as the blobs only fail for now.
pub(super) async fn fold(
    hub: &Arc<Hub>,
    spec: &Spec,
    state: &JobState,
    token: &LeaseToken,
) -> Result<Folded, StoreError> {
    let mut pause = Pause::new();
    loop {
        let Some(round) = &state.round else { return Ok(failed("no round to fold")) };
        let accepted = hub.store.accepted_updates(&state.id, round.number).await?;
        let started = Instant::now();
        let plan = match plan(hub, spec, state, round, &accepted).await? {
            Ok(plan) => plan,
            Err(reason) => return Ok(failed(&reason)),
        };
        let key = plan.output.clone();
        match fold_round(&hub.blobs, plan).await {
            Ok(outcome) => {
                return Ok(succeeded(spec, state, round, &accepted, outcome, key, started));
            }
            Err(error) if error.is_transient() => {
                let round = round.number;
                let why = chain(&error);
                tracing::warn!(job = %state.id, round, %why, "the fold failed; trying again");
                let waits_for = format!("waiting to fold round {round}: {why}");
                hub.store.note_wait(&state.id, token, &waits_for).await?;
                tokio::time::sleep(pause.lengthen()).await;
            }
            Err(FoldError::NotFinite { coordinate }) => {
                let reason = FoldError::NotFinite { coordinate }.to_string();
                return Ok(Folded { event: Event::Diverged { reason }, checkpoint: None });
            }
            Err(error) => return Ok(failed(&error.to_string())),
        }
    }
}

/// An error with what is under it: "connection refused" stands at the bottom.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text.chars().take(WAITS_CHARS_MAX).collect()
}

fn failed(reason: &str) -> Folded {
    Folded { event: Event::FoldFailed { reason: reason.to_owned() }, checkpoint: None }
}

async fn plan(
    hub: &Hub,
    spec: &Spec,
    state: &JobState,
    round: &RoundState,
    accepted: &[UpdateRow],
) -> Result<Result<FoldPlan, String>, StoreError> {
    let exponent = spec.parsed.strategy.max_abs_update_exponent;
    let scale = match Scale::new(round.cap_exponent, exponent) {
        Ok(scale) => scale,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if accepted.len() != round.accepted.len() || accepted.is_empty() {
        return Ok(Err(format!(
            "expected {} accepted updates in the store, found {}",
            round.accepted.len(),
            accepted.len()
        )));
    }
    let Some(previous) = hub.store.checkpoint_by_digest(&round.checkpoint_in).await? else {
        return Ok(Err(format!("checkpoint {} is not in the store", round.checkpoint_in)));
    };
    let contributions = accepted.iter().map(|update| contribution(state, update)).collect();
    Ok(Ok(FoldPlan {
        schema: spec.parsed.model.schema().clone(),
        previous: previous.key,
        output: checkpoint_key(&state.id, round.number, round.attempt),
        scale,
        contributions,
    }))
}

fn contribution(state: &JobState, update: &UpdateRow) -> Contribution {
    Contribution {
        client: update.client.clone(),
        examples: update.examples,
        key: UpdateKey {
            job: state.id.clone(),
            round: update.round,
            task: update.task.clone(),
            digest: update.digest,
        },
    }
}

fn succeeded(
    spec: &Spec,
    state: &JobState,
    round: &RoundState,
    accepted: &[UpdateRow],
    outcome: FoldOutcome,
    key: String,
    started: Instant,
) -> Folded {
    let mut statistics = match Statistics::of(spec.parsed.data.measure()) {
        Ok(statistics) => statistics,
        Err(error) => return failed(&error.to_string()),
    };
    for update in accepted {
        // Each client's own were checked; sums without room for one more leave it out. What a client
        // says of its rows must not end a job.
        if let Err(error) = statistics.merge(&update.statistics) {
            tracing::warn!(client = %update.client, %error, "statistics are left out of the round's");
        }
    }
    let taken = state.tasks.values().filter(|t| t.instance.is_some()).count() as u64;
    let facts = FoldFacts {
        checkpoint_out: outcome.digest,
        checkpoint_bytes: outcome.len,
        examples: accepted.iter().map(|u| u.examples).sum(),
        statistics,
        bytes_up: accepted.iter().map(|u| u.bytes).sum(),
        bytes_down: taken * outcome.len,
        update_norm: outcome.norm,
        median_loss: median_loss(accepted.iter().map(|u| &u.statistics)),
        fold_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let row =
        CheckpointRow { digest: outcome.digest, key, bytes: outcome.len, round: round.number };
    Folded { event: Event::Folded(facts), checkpoint: Some(row) }
}
