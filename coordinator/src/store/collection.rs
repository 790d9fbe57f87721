//! Which rounds' update blobs are to go. A round is final once it is committed or its job has ended;
//! that row is what allows the deletion, and nothing is deleted before it.

use std::time::Duration;

use tributary_core::name::JobId;

use super::Store;
use super::decode::Fields;
use super::error::StoreError;
use super::sql::Row;

/// A final round whose updates' blobs are to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalRound {
    /// The job.
    pub job: JobId,
    /// The round.
    pub number: u32,
    /// Whether they were deleted before, and this is the last sweep.
    pub again: bool,
}

/// Rounds that one look finds.
const ROUNDS_MAX: u32 = 100;

impl Store {
    /// Final rounds that were never swept, or were longer than `grace` ago and not yet twice: an
    /// upload that was under way at the close may have left parts behind the first sweep.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn rounds_to_collect(&self, grace: Duration) -> Result<Vec<FinalRound>, StoreError> {
        let sql = "-- store.collection.due\n\
            SELECT r.job AS job, r.number AS number, MIN(r.collected) AS collected \
            FROM rounds r JOIN jobs j ON j.id = r.job \
            WHERE r.collected < 2 AND (j.status IN ('completed', 'failed', 'cancelled') \
            OR EXISTS (SELECT 1 FROM rounds c WHERE c.job = r.job AND c.number = r.number \
            AND c.phase = 'committed')) \
            AND (r.collected = 0 OR r.updated_at_us < {now} - $1) \
            GROUP BY r.job, r.number ORDER BY r.job, r.number LIMIT $2";
        let grace = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX / 4);
        let rows = self.db.fetch(sql, &[grace.into(), ROUNDS_MAX.into()]).await?;
        let round = |row: &Row| {
            let fields = Fields::of("rounds", row);
            let again = fields.int("collected")? > 0;
            Ok(FinalRound { job: fields.parsed("job")?, number: fields.number("number")?, again })
        };
        rows.iter().map(round).collect()
    }

    /// Writes down that a final round's updates are gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn round_collected(&self, round: &FinalRound) -> Result<(), StoreError> {
        let sql = "-- store.collection.done\n\
            UPDATE rounds SET collected = $3 WHERE job = $1 AND number = $2 AND collected < $3";
        let sweep = 1 + i64::from(round.again);
        let values = [round.job.as_str().into(), round.number.into(), sweep.into()];
        self.db.execute(sql, &values).await?;
        Ok(())
    }
}
