//! Offline replay: the constants are pooled again from the sites' stored sums; every committed round is
//! recomputed from its recorded decisions and its stored updates, and must come to the same digests; every receipt
//! must be in an accepted set, or have another outcome that fits, once its job has ended.

use std::collections::BTreeMap;

use tributary_core::aggregate::Scale;
use tributary_core::codec::{self, ManifestHasher};
use tributary_core::digest::Digest;
use tributary_core::fault::Faults;
use tributary_core::name::{JobId, TaskId};
use tributary_core::round::divergence::{Course, median_loss};
use tributary_core::round::result::{RoundFacts, genesis, result_digest};
use tributary_core::round::task::DIVERGED;
use tributary_core::round::{Outcome, Phase, RoundState, TaskKind};
use tributary_core::spec::JobSpec;
use tributary_core::statistics::pooled_result;

use crate::aggregation::{Contribution, FoldError, FoldOutcome, FoldPlan, fold_round};
use crate::blobs::{BlobError, Blobs, UpdateKey};
use crate::driver::{PoolError, constants};
use crate::store::{Store, StoreError, UpdateRow};

/// Rounds that are read from the history at a time.
const PAGE: u32 = 100;

/// What became of one committed round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything came out the same.
    Same,
    /// Its updates are not there any more: `keep_updates` was not `always`.
    UpdatesExpired,
    /// Something is another; which, and what was expected and found.
    Differs(String),
}

/// What a replay found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The pooled constants; none where nothing was pooled.
    pub constants: Option<Verdict>,
    /// Each committed round with its verdict, and the one whose fold ended the job as diverged.
    pub rounds: Vec<(u32, Verdict)>,
    /// How many receipts came to which outcome.
    pub outcomes: BTreeMap<Outcome, usize>,
    /// Receipts whose round or job goes on.
    pub open: usize,
    /// Receipts without an outcome although their round or job has ended, or with one that is not true.
    pub lost: Vec<TaskId>,
}

impl Report {
    /// Receipts that are part of a checkpoint, of the constants or of the final scores.
    #[must_use]
    pub fn counted(&self) -> usize {
        let counts = [Outcome::Folded, Outcome::Pooled, Outcome::Scored];
        counts.iter().filter_map(|outcome| self.outcomes.get(outcome)).sum()
    }

    /// Receipts whose job ended before they counted.
    #[must_use]
    pub fn unused(&self) -> usize {
        self.outcomes.values().sum::<usize>() - self.counted()
    }

    /// Whether the constants and every committed round were recomputed to the same bytes, and no
    /// receipt is lost.
    #[must_use]
    pub fn is_same(&self) -> bool {
        let constants = self.constants.iter();
        let rounds = self.rounds.iter().map(|(_, verdict)| verdict);
        self.lost.is_empty() && constants.chain(rounds).all(|verdict| *verdict == Verdict::Same)
    }
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blobs failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// No such job.
    #[error("no job {0} in the store")]
    NoJob(String),
    /// A stored spec that this version does not understand.
    #[error("the stored spec is not one that this version reads: {0}")]
    Spec(Faults),
}

/// Recomputes a job's committed rounds. What it folds lies under `verify/` for a moment.
///
/// # Errors
/// When the store or the blobs fail, or there is no such job. What differs is in the report.
pub async fn verify(store: &Store, blobs: &Blobs, job: &str) -> Result<Report, VerifyError> {
    let none = || VerifyError::NoJob(job.to_owned());
    let row = store.find_job(job).await?.ok_or_else(none)?;
    let id = row.id;
    let text = store.job_spec(&id).await?.ok_or_else(none)?;
    let spec = JobSpec::parse(&text).map_err(VerifyError::Spec)?;
    let first = store.checkpoint(&id, 0).await?.ok_or_else(none)?;
    let mut replay = Replay {
        store,
        blobs,
        previous: genesis(spec.digest, first.digest),
        checkpoint: first.digest,
        course: Course::default(),
        ended: row.status.ended(),
        job: id,
        spec,
        report: Report::default(),
    };
    if let Some(constants) = row.constants {
        replay.pooled(constants).await?;
    }
    replay.receipts(0, row.constants.is_some()).await?;
    let mut after = None;
    loop {
        let rows = store.rounds(&replay.job, after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(replay.report) };
        after = Some(last.state.number);
        for row in &rows {
            if row.state.phase == Phase::Committed {
                replay.committed(&row.state).await?;
            } else if row.state.reason.as_deref() == Some(DIVERGED) {
                replay.diverged(&row.state).await?;
            }
        }
        for attempts in rows.chunk_by(|a, b| a.state.number == b.state.number) {
            let committed = attempts.iter().any(|row| row.state.phase == Phase::Committed);
            replay.receipts(attempts[0].state.number, committed).await?;
        }
    }
}

struct Replay<'a> {
    store: &'a Store,
    blobs: &'a Blobs,
    job: JobId,
    spec: JobSpec,
    /// The result of the round before.
    previous: Digest,
    /// The checkpoint that it made.
    checkpoint: Digest,
    /// How the rounds went, for the rule that says when a job has diverged.
    course: Course,
    /// Whether the job has ended.
    ended: bool,
    report: Report,
}

impl Replay<'_> {
    /// Pools the stored sums again; the first round's result covers what they gave.
    async fn pooled(&mut self, expected: Digest) -> Result<(), VerifyError> {
        let sums = self.store.site_sums(&self.job).await?;
        let verdict = match constants(self.blobs, &self.spec, &self.job, &sums).await {
            Ok((bytes, _)) if Digest::of(&bytes) == expected => Verdict::Same,
            Ok((bytes, _)) => {
                let found = Digest::of(&bytes);
                Verdict::Differs(format!("the constants: expected {expected}, found {found}"))
            }
            Err(PoolError::Fault(why)) => Verdict::Differs(why),
            Err(PoolError::Blob(error)) if error.is_transient() => return Err(error.into()),
            Err(PoolError::Blob(error)) => Verdict::Differs(error.to_string()),
        };
        let sums: Vec<_> = sums.into_iter().map(|u| (u.client, u.examples, u.digest)).collect();
        self.previous = pooled_result(self.previous, &sums, expected);
        self.report.constants = Some(verdict);
        Ok(())
    }

    async fn committed(&mut self, round: &RoundState) -> Result<(), VerifyError> {
        let updates = self.store.updates(&self.job, round.number).await?;
        let all = updates.len();
        let accepted: Vec<UpdateRow> =
            updates.into_iter().filter_map(|(row, place)| place.map(|_| row)).collect();
        let verdict = if accepted.len() == all {
            self.recompute(round, &accepted).await?
        } else {
            let lost = all - accepted.len();
            Verdict::Differs(format!("expected every receipt in the accepted set, {lost} are not"))
        };
        self.previous = round.result.unwrap_or(self.previous);
        if let Some(facts) = &round.facts {
            self.checkpoint = facts.checkpoint_out;
            self.course = self.course.after(facts);
        }
        self.report.rounds.push((round.number, verdict));
        Ok(())
    }

    /// An attempt that ended its job because the model ran away. Where its accepted set was fixed, the
    /// rule must come to the same from the same updates; where the clients said so, there is nothing
    /// to recompute.
    async fn diverged(&mut self, round: &RoundState) -> Result<(), VerifyError> {
        let accepted = self.store.accepted_updates(&self.job, round.number).await?;
        if accepted.is_empty() {
            return Ok(());
        }
        let verdict = match self.expired_or_damaged(&accepted).await? {
            Some(verdict) => verdict,
            None => match self.fold(round, &accepted).await? {
                Err(FoldError::NotFinite { .. }) => Verdict::Same,
                Err(error) => Verdict::Differs(error.to_string()),
                Ok(made) => {
                    let median = median_loss(accepted.iter().map(|u| &u.statistics));
                    match self.course.judge(self.spec.strategy.divergence, made.norm, median) {
                        Some(_) => Verdict::Same,
                        None => Verdict::Differs(
                            "the round: expected one that diverged, found one that did not".into(),
                        ),
                    }
                }
            },
        };
        self.report.rounds.push((round.number, verdict));
        Ok(())
    }

    /// What became of a round's receipts, where round 0 has the sums of sites: they counted where the
    /// round was committed (or the constants were fixed), and there alone.
    async fn receipts(&mut self, number: u32, committed: bool) -> Result<(), VerifyError> {
        for task in self.store.tasks(&self.job, number).await? {
            if task.accepted.is_none() {
                continue;
            }
            let counts = matches!(task.outcome, Some(Outcome::Folded | Outcome::Pooled));
            let ended = self.ended || (committed && task.kind != TaskKind::Evaluate);
            match task.outcome {
                None if !ended => self.report.open += 1,
                None => self.report.lost.push(task.id),
                Some(_) if task.kind != TaskKind::Evaluate && counts != committed => {
                    self.report.lost.push(task.id);
                }
                Some(outcome) => *self.report.outcomes.entry(outcome).or_default() += 1,
            }
        }
        Ok(())
    }

    async fn recompute(
        &self,
        round: &RoundState,
        accepted: &[UpdateRow],
    ) -> Result<Verdict, VerifyError> {
        let differs = |what: &str, expected: String, found: String| {
            Ok(Verdict::Differs(format!("{what}: expected {expected}, found {found}")))
        };
        let Some(facts) = &round.facts else {
            return differs("the round", "a checkpoint".to_owned(), "none".to_owned());
        };
        if round.checkpoint_in != self.checkpoint {
            let (expected, found) = (self.checkpoint.to_string(), round.checkpoint_in.to_string());
            return differs("checkpoint_in", expected, found);
        }
        if let Some(verdict) = self.expired_or_damaged(accepted).await? {
            return Ok(verdict);
        }
        let outcome = match self.fold(round, accepted).await? {
            Ok(outcome) => outcome,
            Err(why) => return Ok(Verdict::Differs(why.to_string())),
        };
        let made = outcome.digest;
        if made != facts.checkpoint_out {
            return differs("checkpoint_out", facts.checkpoint_out.to_string(), made.to_string());
        }
        let median = median_loss(accepted.iter().map(|u| &u.statistics));
        // Rounds of an earlier version have neither.
        let known = facts.update_norm > 0 || facts.median_loss.is_some();
        if known && (outcome.norm, median) != (facts.update_norm, facts.median_loss) {
            let shown = |norm, loss: Option<i64>| format!("{norm} and {loss:?}");
            let expected = shown(facts.update_norm, facts.median_loss);
            return differs("norm and loss", expected, shown(outcome.norm, median));
        }
        if let Some(why) = self.course.judge(self.spec.strategy.divergence, outcome.norm, median) {
            return differs("the round", "one that had not diverged".to_owned(), why);
        }
        let set: Vec<_> =
            accepted.iter().map(|u| (u.client.clone(), u.examples, u.digest)).collect();
        let result = result_digest(&RoundFacts {
            previous: self.previous,
            spec: self.spec.digest,
            roster: round.roster.unwrap_or(self.spec.digest),
            checkpoint_in: round.checkpoint_in,
            accepted: &set,
            optimizer: None,
            checkpoint_out: made,
        });
        if round.result != Some(result) {
            let expected = round.result.map_or("none".to_owned(), |digest| digest.to_string());
            return differs("the result", expected, result.to_string());
        }
        Ok(Verdict::Same)
    }

    /// What is to be said of updates that are gone, or are others than they were.
    async fn expired_or_damaged(
        &self,
        accepted: &[UpdateRow],
    ) -> Result<Option<Verdict>, VerifyError> {
        for update in accepted {
            match self.digest_of(update).await? {
                None => return Ok(Some(Verdict::UpdatesExpired)),
                Some(found) if found != update.digest => {
                    return Ok(Some(Verdict::Differs(format!(
                        "the update of {}: expected {}, found {found}",
                        update.client, update.digest
                    ))));
                }
                Some(_) => {}
            }
        }
        Ok(None)
    }

    /// The digest of an update's stored bytes; `None` where a part is gone.
    async fn digest_of(&self, update: &UpdateRow) -> Result<Option<Digest>, VerifyError> {
        let key = self.key(update);
        let mut hasher = ManifestHasher::new();
        for part in 0..codec::part_count(update.bytes) {
            let Some(range) = codec::part_range(part, update.bytes) else { break };
            let bytes = self.blobs.read_range(&key.part(part), 0..range.end - range.start).await;
            match bytes {
                Ok(bytes) => hasher.update(&bytes),
                Err(BlobError::NotFound { .. } | BlobError::Short { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(hasher.finish().digest()))
    }

    fn key(&self, update: &UpdateRow) -> UpdateKey {
        UpdateKey {
            job: self.job.clone(),
            round: update.round,
            task: update.task.clone(),
            digest: update.digest,
        }
    }

    async fn fold(
        &self,
        round: &RoundState,
        accepted: &[UpdateRow],
    ) -> Result<Result<FoldOutcome, FoldError>, VerifyError> {
        let exponent = self.spec.strategy.max_abs_update_exponent;
        let plan_fault = |expected, found| Ok(Err(FoldError::Plan { expected, found }));
        let scale = match Scale::new(round.cap_exponent, exponent) {
            Ok(scale) => scale,
            Err(error) => return plan_fault("a scale", error.to_string()),
        };
        let Some(previous) = self.store.checkpoint_by_digest(&round.checkpoint_in).await? else {
            let found = format!("none of {} in the store", round.checkpoint_in);
            return plan_fault("the round's first checkpoint", found);
        };
        let output = format!("verify/{}/{:06}.safetensors", self.job, round.number);
        let contribution = |update: &UpdateRow| Contribution {
            client: update.client.clone(),
            examples: update.examples,
            key: self.key(update),
        };
        let plan = FoldPlan {
            schema: self.spec.model.schema().clone(),
            previous: previous.key,
            output: output.clone(),
            scale,
            contributions: accepted.iter().map(contribution).collect(),
        };
        let made = fold_round(self.blobs, plan).await;
        self.blobs.delete(&output).await?;
        match made {
            Err(FoldError::Blob(error)) if error.is_transient() => Err(error.into()),
            made => Ok(made),
        }
    }
}
