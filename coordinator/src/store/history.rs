//! What was: rounds, tasks, updates, checkpoints, the event chain, and what was refused.

use tributary_core::digest::Digest;
use tributary_core::name::{JobId, TaskId};
use tributary_core::round::{HistoryEvent, Task};

use super::Store;
use super::database::Tx;
use super::decode::{self, Fields, int};
use super::error::StoreError;
use super::rows::{CheckpointRow, EventRow, RejectionRow, RoundRow, UpdateRow};
use super::sql::Row;

/// Newest refusals that are kept of one job: a hostile client cannot fill the disk with them.
const REJECTIONS_KEPT: i64 = 10_000;
/// Longest detail of a refusal.
const DETAIL_CHARS_MAX: usize = 500;

impl Store {
    /// A job's attempts behind round `after`, ascending; so many, and those that the last one's round
    /// has besides: who goes on after its number misses none.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn rounds(
        &self,
        job: &JobId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<RoundRow>, StoreError> {
        let sql = "-- store.history.rounds\n\
            SELECT * FROM rounds WHERE job = $1 AND number > $2 AND number <= \
            (SELECT MAX(p.number) FROM (SELECT number FROM rounds WHERE job = $1 AND number > $2 \
            ORDER BY number, attempt LIMIT $3) p) ORDER BY number, attempt";
        let values = [job.as_str().into(), after.unwrap_or(0).into(), limit.into()];
        let mut rounds = Vec::new();
        let rows = self.db.fetch(sql, &values).await?;
        for row in &rows {
            rounds.push(decode::round(row)?);
        }
        let (Some(first), Some(last)) = (rounds.first(), rounds.last()) else { return Ok(rounds) };
        let accepted = self.accepted_between(job, first.state.number, last.state.number).await?;
        for round in rounds.iter_mut().filter(|r| r.state.closed_ms.is_some()) {
            let of_round = accepted.iter().filter(|(number, _)| *number == round.state.number);
            round.state.accepted = of_round.map(|(_, task)| task.clone()).collect();
        }
        Ok(rounds)
    }

    /// All attempts of one round, ascending.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn round(&self, job: &JobId, number: u32) -> Result<Vec<RoundRow>, StoreError> {
        let Some(before) = number.checked_sub(1) else { return Ok(Vec::new()) };
        let mut rows = self.rounds(job, Some(before), 1).await?;
        rows.retain(|row| row.state.number == number);
        Ok(rows)
    }

    async fn accepted_between(
        &self,
        job: &JobId,
        first: u32,
        last: u32,
    ) -> Result<Vec<(u32, TaskId)>, StoreError> {
        let sql = "-- store.history.accepted_between\n\
            SELECT task, round FROM updates WHERE job = $1 AND round >= $2 AND round <= $3 \
            AND kind = 'train' AND position IS NOT NULL ORDER BY round, position";
        let rows = self.db.fetch(sql, &[job.as_str().into(), first.into(), last.into()]).await?;
        let decode = |row: &Row| {
            let fields = Fields::of("updates", row);
            Ok((fields.number("round")?, fields.parsed("task")?))
        };
        rows.iter().map(decode).collect()
    }

    /// The tasks of a round, of all attempts, by client.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn tasks(&self, job: &JobId, round: u32) -> Result<Vec<Task>, StoreError> {
        let sql = "-- store.history.tasks\n\
            SELECT * FROM tasks WHERE job = $1 AND round = $2 ORDER BY kind DESC, client, attempt";
        let rows = self.db.fetch(sql, &[job.as_str().into(), round.into()]).await?;
        rows.iter().map(decode::task).collect()
    }

    /// The updates of a round by client, each with its place in the accepted set.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn updates(
        &self,
        job: &JobId,
        round: u32,
    ) -> Result<Vec<(UpdateRow, Option<u32>)>, StoreError> {
        let sql = "-- store.history.updates\n\
            SELECT * FROM updates WHERE job = $1 AND round = $2 AND kind = 'train' ORDER BY client";
        let rows = self.db.fetch(sql, &[job.as_str().into(), round.into()]).await?;
        rows.iter().map(decode::update).collect()
    }

    /// The accepted set of a round, in its order.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn accepted_updates(
        &self,
        job: &JobId,
        round: u32,
    ) -> Result<Vec<UpdateRow>, StoreError> {
        let mut updates: Vec<(u32, UpdateRow)> = self
            .updates(job, round)
            .await?
            .into_iter()
            .filter_map(|(update, position)| Some((position?, update)))
            .collect();
        updates.sort_by_key(|(position, _)| *position);
        Ok(updates.into_iter().map(|(_, update)| update).collect())
    }

    /// The sums that sites sent before round 1, by client.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn site_sums(&self, job: &JobId) -> Result<Vec<UpdateRow>, StoreError> {
        let sql = "-- store.history.site_sums\n\
            SELECT * FROM updates WHERE job = $1 AND round = 0 AND kind = 'statistics'";
        let rows = self.db.fetch(sql, &[job.as_str().into()]).await?;
        let sums = rows.iter().map(|row| Ok(decode::update(row)?.0));
        let mut sums = sums.collect::<Result<Vec<UpdateRow>, StoreError>>()?;
        // By its bytes: a database's own order of texts may be another.
        sums.sort_by(|a, b| a.client.cmp(&b.client));
        Ok(sums)
    }

    /// The checkpoint that a round made; 0 for the first.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn checkpoint(
        &self,
        job: &JobId,
        round: u32,
    ) -> Result<Option<CheckpointRow>, StoreError> {
        let sql = "-- store.history.checkpoint\n\
            SELECT * FROM checkpoints WHERE job = $1 AND round = $2";
        let rows = self.db.fetch(sql, &[job.as_str().into(), round.into()]).await?;
        rows.first().map(decode::checkpoint).transpose()
    }

    /// A checkpoint by its content; the newest where several have it.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn checkpoint_by_digest(
        &self,
        digest: &Digest,
    ) -> Result<Option<CheckpointRow>, StoreError> {
        let sql = "-- store.history.checkpoint_by_digest\n\
            SELECT * FROM checkpoints WHERE digest = $1 ORDER BY created_at_us DESC LIMIT 1";
        let rows = self.db.fetch(sql, &[(*digest).into()]).await?;
        rows.first().map(decode::checkpoint).transpose()
    }

    /// A job's history behind a sequence number, ascending.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn events(
        &self,
        job: &JobId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<EventRow>, StoreError> {
        let sql = "-- store.history.events\n\
            SELECT * FROM events WHERE job = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let rows = self.db.fetch(sql, &[job.as_str().into(), after.into(), limit.into()]).await?;
        rows.iter().map(event).collect()
    }

    /// Recomputes a job's event chain; the first sequence number that does not fit, if any does not.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn verify_events(&self, job: &JobId) -> Result<Option<u64>, StoreError> {
        let mut chain =
            EventChain { job: job.clone(), sequence: 0, digest: EventChain::genesis(job) };
        loop {
            let page = self.events(job, chain.sequence, 1000).await?;
            if page.is_empty() {
                break;
            }
            for row in page {
                let expected = chain.next(&row.kind, (row.round, row.attempt), &row, row.at_us);
                if row.sequence != chain.sequence + 1 || row.digest != expected {
                    return Ok(Some(chain.sequence + 1));
                }
                (chain.sequence, chain.digest) = (row.sequence, row.digest);
            }
        }
        let sql = "-- store.history.chain_head\nSELECT id, event_digest FROM jobs WHERE id = $1";
        let rows = self.db.fetch(sql, &[job.as_str().into()]).await?;
        let head = rows.first().map(|row| Fields::of("jobs", row).parsed("event_digest"));
        let cut = head.transpose()?.is_some_and(|head: Digest| head != chain.digest);
        Ok(cut.then_some(chain.sequence + 1))
    }

    /// Keeps a line of what was refused; the oldest of a job make room.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_rejection(&self, row: &RejectionRow) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = "-- store.history.record_rejection\n\
            INSERT INTO rejections (id, job, round, client, code, detail, at_us) \
            VALUES ($1, $2, $3, $4, $5, $6, {now})";
        let printable = row.detail.chars().filter(|c| !c.is_control());
        let detail: String = printable.take(DETAIL_CHARS_MAX).collect();
        let values = [
            // Version 7: in the order of their making, so that the oldest can go.
            tributary_outside::ascending().to_string().into(),
            row.job.as_ref().map(ToString::to_string).into(),
            row.round.into(),
            row.client.as_str().into(),
            row.code.as_str().into(),
            detail.into(),
        ];
        tx.execute(sql, &values).await?;
        if let Some(job) = &row.job {
            let sql = "-- store.history.trim_rejections\n\
                DELETE FROM rejections WHERE job = $1 AND id IN (SELECT id FROM rejections \
                WHERE job = $1 ORDER BY id DESC LIMIT 100 OFFSET $2)";
            tx.execute(sql, &[job.as_str().into(), REJECTIONS_KEPT.into()]).await?;
        }
        tx.commit().await
    }

    /// What was refused of a job, newest first.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn rejections(
        &self,
        job: &JobId,
        limit: u32,
    ) -> Result<Vec<RejectionRow>, StoreError> {
        let sql = "-- store.history.rejections\n\
            SELECT * FROM rejections WHERE job = $1 ORDER BY id DESC LIMIT $2";
        let rows = self.db.fetch(sql, &[job.as_str().into(), limit.into()]).await?;
        rows.iter().map(rejection).collect()
    }
}

fn event(row: &Row) -> Result<EventRow, StoreError> {
    let fields = Fields::of("events", row);
    Ok(EventRow {
        sequence: fields.number("sequence")?,
        kind: fields.text("kind")?.to_owned(),
        round: fields.number("round")?,
        attempt: fields.number("attempt")?,
        client: fields.optional_parsed("client")?,
        detail: fields.text("detail")?.to_owned(),
        at_us: fields.int("at_us")?,
        digest: fields.parsed("digest")?,
    })
}

fn rejection(row: &Row) -> Result<RejectionRow, StoreError> {
    let fields = Fields::of("rejections", row);
    Ok(RejectionRow {
        job: fields.optional_parsed("job")?,
        round: fields.number("round")?,
        client: fields.parsed("client")?,
        code: fields.text("code")?.to_owned(),
        detail: fields.text("detail")?.to_owned(),
        at_us: fields.int("at_us")?,
    })
}

/// The accepted set of a round, within a transaction.
pub(super) async fn accepted_tasks(
    tx: &mut Tx,
    job: &JobId,
    round: u32,
) -> Result<Vec<TaskId>, StoreError> {
    let sql = "-- store.history.accepted_tasks\n\
        SELECT task FROM updates WHERE job = $1 AND round = $2 AND kind = 'train' \
        AND position IS NOT NULL ORDER BY position";
    let rows = tx.fetch(sql, &[job.as_str().into(), round.into()]).await?;
    rows.iter().map(|row| Fields::of("updates", row).parsed("task")).collect()
}

pub(super) async fn insert_checkpoint(
    tx: &mut Tx,
    job: &JobId,
    row: &CheckpointRow,
) -> Result<(), StoreError> {
    let sql = "-- store.history.insert_checkpoint\n\
        INSERT INTO checkpoints (job, round, digest, key, bytes, created_at_us) \
        VALUES ($1, $2, $3, $4, $5, {now})";
    let values = [
        job.as_str().into(),
        row.round.into(),
        row.digest.into(),
        row.key.as_str().into(),
        int("bytes", row.bytes)?.into(),
    ];
    tx.execute(sql, &values).await?;
    Ok(())
}

/// The head of a job's event chain: each line's digest covers the line before.
pub(super) struct EventChain {
    pub(super) job: JobId,
    pub(super) sequence: u64,
    pub(super) digest: Digest,
}

impl EventChain {
    /// The digest before the first line.
    pub(super) fn genesis(job: &JobId) -> Digest {
        Digest::of_fields("tributary/events/genesis/v1", [job.as_str().as_bytes()])
    }

    fn next(
        &self,
        kind: &str,
        (round, attempt): (u32, u32),
        line: &impl Line,
        at_us: i64,
    ) -> Digest {
        Digest::of_fields(
            "tributary/events/v1",
            [
                self.digest.as_bytes().as_slice(),
                &(self.sequence + 1).to_le_bytes(),
                kind.as_bytes(),
                &round.to_le_bytes(),
                &attempt.to_le_bytes(),
                line.client().as_bytes(),
                line.detail().as_bytes(),
                &at_us.to_le_bytes(),
            ],
        )
    }

    /// Appends one line; the caller stores the new head with the job.
    pub(super) async fn append(
        &mut self,
        tx: &mut Tx,
        line: &HistoryEvent,
        at_us: i64,
    ) -> Result<(), StoreError> {
        self.digest = self.next(line.kind, (line.round, line.attempt), line, at_us);
        self.sequence += 1;
        let sql = "-- store.history.append\n\
            INSERT INTO events (job, sequence, kind, round, attempt, client, detail, at_us, digest) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let values = [
            self.job.as_str().into(),
            int("sequence", self.sequence)?.into(),
            line.kind.into(),
            line.round.into(),
            line.attempt.into(),
            line.client.as_ref().map(ToString::to_string).into(),
            line.detail.as_str().into(),
            at_us.into(),
            self.digest.into(),
        ];
        tx.execute(sql, &values).await?;
        Ok(())
    }
}

/// What a line has to say, written or read back.
trait Line {
    fn client(&self) -> &str;
    fn detail(&self) -> &str;
}

impl Line for HistoryEvent {
    fn client(&self) -> &str {
        self.client.as_ref().map_or("", |client| client.as_str())
    }
    fn detail(&self) -> &str {
        &self.detail
    }
}

impl Line for EventRow {
    fn client(&self) -> &str {
        self.client.as_ref().map_or("", |client| client.as_str())
    }
    fn detail(&self) -> &str {
        &self.detail
    }
}
