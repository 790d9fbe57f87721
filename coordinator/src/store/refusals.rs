//! Which site refused which job by its own policy, and what a client may fetch.

use tributary_core::digest::Digest;
use tributary_core::name::{ClientName, JobId};

use super::Store;
use super::decode::Fields;
use super::error::StoreError;
use super::rows::RefusalRow;
use super::sql::Row;

/// Longest reason that is kept.
const REASON_CHARS_MAX: usize = 300;

impl Store {
    /// Writes down that a site does not allow a job: it is no longer in the job's roster.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refuse_job(
        &self,
        job: &JobId,
        client: &ClientName,
        reason: &str,
    ) -> Result<(), StoreError> {
        let sql = "-- store.refusals.insert\n\
            INSERT INTO refusals (job, client, reason, at_us) VALUES ($1, $2, $3, {now}) \
            ON CONFLICT (job, client) DO NOTHING";
        let reason: String =
            reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        let values = [job.as_str().into(), client.as_str().into(), reason.into()];
        self.db.execute(sql, &values).await?;
        Ok(())
    }

    /// Forgets what a client refused: its site's policy or data changed. How many jobs it was.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reconsider_jobs(&self, client: &ClientName) -> Result<u64, StoreError> {
        let sql = "-- store.refusals.reconsider\nDELETE FROM refusals WHERE client = $1";
        self.db.execute(sql, &[client.as_str().into()]).await
    }

    /// The sites that do not allow a job, by name.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn refusals(&self, job: &JobId) -> Result<Vec<RefusalRow>, StoreError> {
        let sql = "-- store.refusals.of_job\n\
            SELECT client, reason, at_us FROM refusals WHERE job = $1 ORDER BY client";
        let refusal = |row: &Row| {
            let fields = Fields::of("refusals", row);
            Ok(RefusalRow {
                client: fields.parsed("client")?,
                reason: fields.text("reason")?.to_owned(),
                at_us: fields.int("at_us")?,
            })
        };
        self.db.fetch(sql, &[job.as_str().into()]).await?.iter().map(refusal).collect()
    }

    /// Whether a client works, or worked, with a checkpoint: it is the one that a task of its own
    /// begins with, or came of that task's round; and its site did not refuse the job.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn may_fetch(
        &self,
        client: &ClientName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let sql = "-- store.refusals.may_fetch\n\
            SELECT t.id FROM checkpoints c JOIN tasks t ON t.job = c.job \
            WHERE c.digest = $1 AND t.client = $2 AND c.round IN (t.round, t.round - 1) \
            AND NOT EXISTS (SELECT 1 FROM refusals r WHERE r.job = c.job AND r.client = t.client) \
            LIMIT 1";
        let rows = self.db.fetch(sql, &[(*digest).into(), client.as_str().into()]).await?;
        Ok(!rows.is_empty())
    }
}
