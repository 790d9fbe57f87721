//! Jobs: created once, listed, and changed in one transaction with their round and its tasks.

use tributary_core::binding::DataNeed;
use tributary_core::digest::Digest;
use tributary_core::metrics::Statistics;
use tributary_core::name::JobId;
use tributary_core::round::cohort::Roster;
use tributary_core::round::{HistoryEvent, JobState, JobStatus, Phase, Rejection};

use super::audit::append;
use super::database::{Tx, try_again};
use super::decode::{self, Fields, int, json};
use super::error::StoreError;
use super::history::{EventChain, insert_checkpoint};
use super::leases::LeaseToken;
use super::rows::{CreatedJob, JobChanges, JobRow, NewJob};
use super::save::save;
use super::sql::Row;
use super::{Store, clients};
use crate::failpoint::failpoint;

/// The columns of a listed job, with where its current attempt stands.
macro_rules! select_jobs {
    ($comment:literal, $rest:literal) => {
        concat!(
            "-- ",
            $comment,
            "\nSELECT j.id, j.name, j.status, j.reason, j.waits_for, j.submitted_by, \
             j.spec_digest, j.checkpoint, j.result, j.clock_ms, j.evaluation_deadline_ms, \
             j.constants, j.created_at_us, j.updated_at_us, \
             r.number AS number, r.attempt AS attempt, r.phase AS phase \
             FROM jobs j LEFT JOIN rounds r ON r.job = j.id \
             AND r.number = (SELECT MAX(number) FROM rounds WHERE job = j.id) \
             AND r.attempt = (SELECT MAX(attempt) FROM rounds WHERE job = j.id AND number = r.number) ",
            $rest
        )
    };
}

/// A job as a transaction holds it.
pub(super) struct Held {
    pub(super) state: JobState,
    pub(super) version: i64,
    pub(super) chain: EventChain,
    pub(super) now_us: i64,
    data_need: DataNeed,
}

impl Store {
    /// Makes a job, its first checkpoint's row and the first line of its history; the same request
    /// id makes no second one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_job(&self, new: &NewJob) -> Result<CreatedJob, StoreError> {
        let mut tries = 0;
        loop {
            match self.try_create_job(new).await {
                Err(error) if try_again(&error, &mut tries).await => {}
                result => return result,
            }
        }
    }

    /// What a request id made before: this job from the same spec, or one from another.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn earlier_job(
        &self,
        request_id: &str,
        spec: &str,
    ) -> Result<Option<CreatedJob>, StoreError> {
        let rows = self.db.fetch(EARLIER, &[request_id.into()]).await?;
        rows.first().map(|row| earlier(row, spec)).transpose()
    }

    async fn try_create_job(&self, new: &NewJob) -> Result<CreatedJob, StoreError> {
        let mut tx = self.db.begin().await?;
        let state = &new.state;
        let spec_digest = Digest::of(new.spec.as_bytes());
        let sql = "-- store.jobs.create\n\
            INSERT INTO jobs (id, name, request_id, spec, spec_digest, data_need, status, \
            clock_ms, checkpoint, result, event_sequence, event_digest, version, created_at_us, \
            updated_at_us, submitted_by) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, 0, $10, 1, {now}, {now}, $11) \
            ON CONFLICT DO NOTHING";
        let values = [
            state.id.as_str().into(),
            new.name.as_str().into(),
            new.request_id.as_str().into(),
            new.spec.as_str().into(),
            spec_digest.into(),
            json(&new.data_need)?.into(),
            state.status.word().into(),
            state.checkpoint.into(),
            state.result.into(),
            EventChain::genesis(&state.id).into(),
            new.by.who.as_str().into(),
        ];
        if tx.execute(sql, &values).await? == 0 {
            let rows = tx.fetch(EARLIER, &[new.request_id.as_str().into()]).await?;
            let taken = || Ok(CreatedJob::Taken(state.id.clone()));
            return rows.first().map_or_else(taken, |row| earlier(row, &new.spec));
        }
        insert_checkpoint(&mut tx, &state.id, &new.checkpoint).await?;
        let mut held = hold(&mut tx, &state.id).await?;
        let line = HistoryEvent {
            kind: "job_submitted",
            round: 0,
            attempt: 0,
            client: None,
            detail: spec_digest.to_string(),
        };
        let before = held.state.clone();
        let changes = JobChanges { history: vec![line], ..JobChanges::default() };
        save(&mut tx, &mut held, &before, &before, &changes).await?;
        let detail = format!("spec {spec_digest}");
        append(&mut tx, &new.by.did("job_created", state.id.to_string(), detail)).await?;
        tx.commit().await?;
        failpoint!("create.committed");
        Ok(CreatedJob::New)
    }

    /// A job's row.
    ///
    /// # Errors
    /// When the database fails or the row is corrupt.
    pub async fn job(&self, job: &JobId) -> Result<Option<JobRow>, StoreError> {
        let sql = select_jobs!("store.jobs.get", "WHERE j.id = $1");
        let rows = self.db.fetch(sql, &[job.as_str().into()]).await?;
        self.first_listed(rows).await
    }

    /// The job of this id, or else the newest of this name.
    ///
    /// # Errors
    /// When the database fails or the row is corrupt.
    pub async fn find_job(&self, name_or_id: &str) -> Result<Option<JobRow>, StoreError> {
        let sql = select_jobs!(
            "store.jobs.find",
            "WHERE j.id = $1 OR j.name = $1 \
             ORDER BY CASE WHEN j.id = $1 THEN 0 ELSE 1 END, j.created_at_us DESC LIMIT 1"
        );
        let rows = self.db.fetch(sql, &[name_or_id.into()]).await?;
        self.first_listed(rows).await
    }

    /// Jobs, newest first: all, or those of one status; behind `before`, where it is given.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn jobs(
        &self,
        filter: Option<JobStatus>,
        before: Option<(i64, JobId)>,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError> {
        let (at, id) = before.map_or((i64::MAX, String::new()), |(at, id)| (at, id.to_string()));
        let sql = select_jobs!(
            "store.jobs.list",
            "WHERE (j.created_at_us < $1 OR (j.created_at_us = $1 AND j.id < $2)) \
             AND ($3 = '' OR j.status = $3) \
             ORDER BY j.created_at_us DESC, j.id DESC LIMIT $4"
        );
        let status = filter.map_or("", JobStatus::word);
        let values = [at.into(), id.into(), status.into(), limit.into()];
        let mut listed = Vec::new();
        for row in self.db.fetch(sql, &values).await? {
            listed.push(self.listed(&row).await?);
        }
        Ok(listed)
    }

    async fn first_listed(&self, rows: Vec<Row>) -> Result<Option<JobRow>, StoreError> {
        match rows.first() {
            Some(row) => Ok(Some(self.listed(row).await?)),
            None => Ok(None),
        }
    }

    async fn listed(&self, row: &Row) -> Result<JobRow, StoreError> {
        let fields = Fields::of("jobs", row);
        let current = match fields.optional_number("number")? {
            Some(number) => {
                let phase = fields.optional_phase("phase")?.unwrap_or(Phase::Selecting);
                Some((number, fields.number("attempt")?, phase))
            }
            None => None,
        };
        let id: JobId = fields.parsed("id")?;
        let evaluation = self.evaluation(&id).await?;
        Ok(JobRow {
            id,
            name: fields.text("name")?.to_owned(),
            status: fields.status("status")?,
            reason: fields.optional_text("reason")?.map(str::to_owned),
            waits_for: fields.optional_text("waits_for")?.map(str::to_owned),
            submitted_by: fields.text("submitted_by")?.to_owned(),
            spec_digest: fields.parsed("spec_digest")?,
            checkpoint: fields.parsed("checkpoint")?,
            result: fields.parsed("result")?,
            clock_ms: fields.number("clock_ms")?,
            current,
            evaluating: fields.optional_int("evaluation_deadline_ms")?.is_some(),
            constants: fields.optional_parsed("constants")?,
            evaluation,
            created_at_us: fields.int("created_at_us")?,
            updated_at_us: fields.int("updated_at_us")?,
        })
    }

    /// What the evaluate tasks found, added up.
    async fn evaluation(&self, job: &JobId) -> Result<Option<Statistics>, StoreError> {
        let sql = "-- store.jobs.evaluation\n\
            SELECT task, statistics FROM updates WHERE job = $1 AND kind = 'evaluate' \
            ORDER BY client, task";
        let mut sum: Option<Statistics> = None;
        for row in self.db.fetch(sql, &[job.as_str().into()]).await? {
            let fields = Fields::of("updates", &row);
            let one: Statistics = fields.json("statistics")?;
            match &mut sum {
                // Each was checked when it came; without room for one more the sum leaves it out.
                Some(sum) => sum.merge(&one).unwrap_or_else(|error| {
                    tracing::warn!(%job, %error, "statistics are left out of the evaluation");
                }),
                None => sum = Some(one),
            }
        }
        Ok(sum)
    }

    /// A job's spec document.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_spec(&self, job: &JobId) -> Result<Option<String>, StoreError> {
        let sql = "-- store.jobs.spec\nSELECT spec FROM jobs WHERE id = $1";
        let rows = self.db.fetch(sql, &[job.as_str().into()]).await?;
        let spec = rows.first().map(|row| Fields::of("jobs", row).text("spec").map(str::to_owned));
        spec.transpose()
    }

    /// Changes a job in one transaction. The job's row and then its current round's are locked;
    /// only after that is anything read. `change` may run again, and must be pure. An unchanged
    /// state with no changes writes nothing; a state with another clock alone writes the clock.
    ///
    /// # Errors
    /// Outside: the database failed, or `fence` is no longer the job's lease. Inside: what `change`
    /// refused; nothing is written then.
    pub async fn update_job<R>(
        &self,
        job: &JobId,
        fence: Option<&LeaseToken>,
        want_roster: impl Fn(&JobState) -> bool,
        mut change: impl FnMut(JobState, Option<Roster>) -> Result<(JobState, JobChanges, R), Rejection>,
    ) -> Result<Result<R, Rejection>, StoreError> {
        let mut tries = 0;
        loop {
            match self.try_update_job(job, fence, &want_roster, &mut change).await {
                Err(error) if try_again(&error, &mut tries).await => {}
                result => return result,
            }
        }
    }

    async fn try_update_job<R>(
        &self,
        job: &JobId,
        fence: Option<&LeaseToken>,
        want_roster: &impl Fn(&JobState) -> bool,
        change: &mut impl FnMut(
            JobState,
            Option<Roster>,
        ) -> Result<(JobState, JobChanges, R), Rejection>,
    ) -> Result<Result<R, Rejection>, StoreError> {
        let mut tx = self.db.begin().await?;
        check_fence(&mut tx, job, fence).await?;
        let mut held = hold(&mut tx, job).await?;
        let roster = match want_roster(&held.state) {
            true => Some(clients::roster(&mut tx, job, &held.data_need).await?),
            false => None,
        };
        let before = held.state.clone();
        let (after, changes, result) = match change(before.clone(), roster) {
            Ok(changed) => changed,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if after != before || !changes.history.is_empty() || !changes.checkpoints.is_empty() {
            save(&mut tx, &mut held, &before, &after, &changes).await?;
            if let Some(event) = &changes.audit {
                append(&mut tx, event).await?;
            }
            #[cfg(feature = "failpoints")]
            let [staged, committed] = super::points::of_job(&before, &after);
            failpoint!(staged);
            tx.commit().await?;
            failpoint!(committed);
        }
        Ok(Ok(result))
    }
}

const EARLIER: &str =
    "-- store.jobs.earlier\nSELECT id, spec_digest FROM jobs WHERE request_id = $1";

fn earlier(row: &Row, spec: &str) -> Result<CreatedJob, StoreError> {
    let fields = Fields::of("jobs", row);
    let (id, digest): (_, Digest) = (fields.parsed("id")?, fields.parsed("spec_digest")?);
    let same = digest == Digest::of(spec.as_bytes());
    Ok(if same { CreatedJob::Existing(id) } else { CreatedJob::Conflict(id) })
}

/// Locks the job's row, and refuses a driver that lost its lease. The lock is `NO KEY`: a row that an
/// acceptance inserts refers to the job, and that reference must not wait for us while we wait for
/// the acceptance's round.
async fn check_fence(
    tx: &mut Tx,
    job: &JobId,
    fence: Option<&LeaseToken>,
) -> Result<(), StoreError> {
    let sql =
        "-- store.jobs.lock\nSELECT id, lease_token FROM jobs WHERE id = $1 {for no key update}";
    let rows = tx.fetch(sql, &[job.as_str().into()]).await?;
    let row = rows.first().ok_or_else(|| StoreError::NoJob(job.to_string()))?;
    let token = Fields::of("jobs", row).optional_text("lease_token")?;
    match fence {
        Some(fence) if token != Some(fence.0.as_str()) && crate::sabotage::fences() => {
            Err(StoreError::Fenced { job: job.to_string() })
        }
        _ => Ok(()),
    }
}

/// Locks the current round, then reads the whole state.
async fn hold(tx: &mut Tx, job: &JobId) -> Result<Held, StoreError> {
    let key = [job.as_str().into()];
    let sql = "-- store.jobs.hold.round\n\
        SELECT * FROM rounds WHERE job = $1 ORDER BY number DESC, attempt DESC LIMIT 1 {for update}";
    let rounds = tx.fetch(sql, &key).await?;
    let sql = "-- store.jobs.hold.job\nSELECT j.*, {now} AS now_us FROM jobs j WHERE id = $1";
    let rows = tx.fetch(sql, &key).await?;
    let row = rows.first().ok_or_else(|| StoreError::NoJob(job.to_string()))?;
    let fields = Fields::of("jobs", row);
    let mut state = JobState {
        id: fields.parsed("id")?,
        status: fields.status("status")?,
        reason: fields.optional_text("reason")?.map(str::to_owned),
        clock_ms: fields.number("clock_ms")?,
        checkpoint: fields.parsed("checkpoint")?,
        result: fields.parsed("result")?,
        course: fields.json("course")?,
        round: None,
        evaluation_deadline_ms: fields.optional_number("evaluation_deadline_ms")?,
        statistics_deadline_ms: fields.optional_number("statistics_deadline_ms")?,
        constants: fields.optional_parsed("constants")?,
        tasks: std::collections::BTreeMap::new(),
    };
    if let Some(round) = rounds.first() {
        let mut round = decode::round(round)?.state;
        if matches!(round.phase, Phase::Aggregating | Phase::Committed) {
            round.accepted = super::history::accepted_tasks(tx, job, round.number).await?;
        }
        state.round = Some(round);
    }
    // Before the first round there may be statistics tasks, which are of round 0.
    let number = state.round.as_ref().map_or(0, |round| round.number);
    let sql = "-- store.jobs.hold.tasks\nSELECT * FROM tasks WHERE job = $1 AND round = $2";
    for row in tx.fetch(sql, &[job.as_str().into(), number.into()]).await? {
        let task = decode::task(&row)?;
        state.tasks.insert(task.id.clone(), task);
    }
    let chain = EventChain {
        job: job.clone(),
        sequence: fields.number("event_sequence")?,
        digest: fields.parsed("event_digest")?,
    };
    let (version, now_us) = (fields.int("version")?, fields.int("now_us")?);
    Ok(Held { state, version, chain, now_us, data_need: fields.json("data_need")? })
}

/// Job time as the database holds it.
pub(super) fn clock(state: &JobState) -> Result<i64, StoreError> {
    int("clock_ms", state.clock_ms)
}
