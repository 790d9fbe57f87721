//! One task at a time: what ingest does on any replica, while the driver steps the whole round.
//!
//! The task's round is locked `FOR SHARE` before anything is read, and the driver closes a round
//! under `FOR UPDATE`: an update that is accepted is seen by the close, or the close by it. Before the
//! first round it is the job's row, which the driver locks `FOR NO KEY UPDATE`.

use tributary_core::name::{ClientName, JobId, TaskId};
use tributary_core::round::{Phase, Rejection, Task, TaskKind};

use super::Store;
use super::database::{Tx, try_again};
use super::decode::{self, Fields, int, json};
use super::error::StoreError;
use super::rows::{TaskView, UpdateRow};
use super::save::update_task;
use super::sql::Row;
use crate::failpoint::failpoint;
use crate::sabotage::{Rule, is_broken};

/// A task with its round's last attempt (statistics are before all rounds) and its job, by task id.
const VIEW: &str = "-- store.tasks.view\n\
    SELECT t.*, r.phase AS phase, COALESCE(r.cap_exponent, 0) AS cap_exponent, \
    COALESCE(r.checkpoint_in, j.checkpoint) AS checkpoint_in, j.constants AS constants, \
    j.submitted_by AS submitted_by, j.status AS status, j.clock_ms AS clock_ms, j.checkpoint AS checkpoint, \
    j.evaluation_deadline_ms AS evaluation_deadline_ms \
    FROM tasks t JOIN jobs j ON j.id = t.job \
    LEFT JOIN rounds r ON r.job = t.job AND r.number = t.round \
    WHERE t.id = $1 ORDER BY r.attempt DESC LIMIT 1";

impl Store {
    /// A task with where its job and round stand.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn task(&self, task: &TaskId) -> Result<Option<TaskView>, StoreError> {
        let rows = self.db.fetch(VIEW, &[task.as_str().into()]).await?;
        rows.first().map(view).transpose()
    }

    /// The oldest task that a client could work on.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn open_task(&self, client: &ClientName) -> Result<Option<TaskId>, StoreError> {
        let sql = "-- store.tasks.open\n\
            SELECT t.id AS id FROM tasks t JOIN jobs j ON j.id = t.job \
            WHERE t.client = $1 AND t.state IN ('offered', 'leased') AND j.status = 'running' \
            ORDER BY t.created_at_us, t.id LIMIT 1";
        let rows = self.db.fetch(sql, &[client.as_str().into()]).await?;
        rows.first().map(|row| Fields::of("tasks", row).parsed("id")).transpose()
    }

    /// The train tasks of a client whose updates may be on the disk: those of rounds that go on.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn live_tasks(
        &self,
        client: &ClientName,
    ) -> Result<Vec<(JobId, u32, TaskId)>, StoreError> {
        let sql = "-- store.tasks.live\n\
            SELECT t.job AS job, t.round AS round, t.id AS id FROM tasks t \
            JOIN jobs j ON j.id = t.job WHERE t.client = $1 AND t.kind = 'train' \
            AND j.status IN ('submitted', 'running', 'paused') \
            AND t.round = (SELECT MAX(number) FROM rounds WHERE job = t.job)";
        let live = |row: &Row| {
            let fields = Fields::of("tasks", row);
            Ok((fields.parsed("job")?, fields.number("round")?, fields.parsed("id")?))
        };
        self.db.fetch(sql, &[client.as_str().into()]).await?.iter().map(live).collect()
    }

    /// Changes one task in one transaction, with the row of its update where it is accepted.
    /// `change` may run again, and must be pure. `None` where there is no such task.
    ///
    /// # Errors
    /// Outside: the database failed. Inside: what `change` refused; nothing is written then.
    pub async fn update_task<R>(
        &self,
        task: &TaskId,
        mut change: impl FnMut(&TaskView) -> Result<(Task, Option<UpdateRow>, R), Rejection>,
    ) -> Result<Option<Result<R, Rejection>>, StoreError> {
        let mut tries = 0;
        loop {
            match self.try_update_task(task, &mut change).await {
                Err(error) if try_again(&error, &mut tries).await => {}
                result => return result,
            }
        }
    }

    async fn try_update_task<R>(
        &self,
        task: &TaskId,
        change: &mut impl FnMut(&TaskView) -> Result<(Task, Option<UpdateRow>, R), Rejection>,
    ) -> Result<Option<Result<R, Rejection>>, StoreError> {
        let mut tx = self.db.begin().await?;
        lock(&mut tx, task).await?;
        let rows = tx.fetch(VIEW, &[task.as_str().into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let view = view(row)?;
        let (after, update, result) = match change(&view) {
            Ok(changed) => changed,
            Err(rejection) => return Ok(Some(Err(rejection))),
        };
        let mut wrote = false;
        if after != view.task {
            update_task(&mut tx, &after).await?;
            wrote = true;
        }
        #[cfg(feature = "failpoints")]
        let [staged, committed] = super::points::of_task(update.is_some().then_some(after.kind));
        if let Some(update) = update {
            insert_update(&mut tx, &view, &update).await?;
            wrote = true;
        }
        if wrote {
            failpoint!(staged);
            if is_broken(Rule::Receipt) {
                tokio::spawn(tx.commit());
                return Ok(Some(Ok(result)));
            }
            tx.commit().await?;
            failpoint!(committed);
        }
        Ok(Some(Ok(result)))
    }
}

/// The round first, shared with other tasks of it; then the task, alone.
async fn lock(tx: &mut Tx, task: &TaskId) -> Result<(), StoreError> {
    // SQLite has one writer, and that is us already.
    if let Tx::Sqlite(_) = tx {
        return Ok(());
    }
    let sql = "-- store.tasks.lock_round\n\
        SELECT r.number AS number FROM rounds r \
        WHERE (r.job, r.number) IN (SELECT job, round FROM tasks WHERE id = $1) {for share}";
    if tx.fetch(sql, &[task.as_str().into()]).await?.is_empty() {
        let sql = "-- store.tasks.lock_job\n\
            SELECT j.id AS id FROM jobs j \
            WHERE j.id IN (SELECT job FROM tasks WHERE id = $1) {for share}";
        tx.fetch(sql, &[task.as_str().into()]).await?;
    }
    let sql = "-- store.tasks.lock\nSELECT id FROM tasks WHERE id = $1 {for update}";
    tx.fetch(sql, &[task.as_str().into()]).await?;
    Ok(())
}

fn view(row: &Row) -> Result<TaskView, StoreError> {
    let task = decode::task(row)?;
    let fields = Fields::of("tasks", row);
    let checkpoint = match task.kind {
        TaskKind::Train | TaskKind::Statistics => fields.parsed("checkpoint_in")?,
        TaskKind::Evaluate => fields.parsed("checkpoint")?,
    };
    Ok(TaskView {
        job: fields.parsed("job")?,
        submitted_by: fields.text("submitted_by")?.to_owned(),
        status: fields.status("status")?,
        clock_ms: fields.number("clock_ms")?,
        round: task.round,
        phase: fields.optional_phase("phase")?.unwrap_or(Phase::Missed),
        cap_exponent: fields.number("cap_exponent")?,
        evaluating: fields.optional_int("evaluation_deadline_ms")?.is_some(),
        constants: fields.optional_parsed("constants")?,
        checkpoint,
        task,
    })
}

async fn insert_update(tx: &mut Tx, view: &TaskView, update: &UpdateRow) -> Result<(), StoreError> {
    let sql = "-- store.tasks.insert_update\n\
        INSERT INTO updates (task, job, kind, round, client, digest, examples, bytes, statistics, \
        accepted_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, {now}) \
        ON CONFLICT (task) DO NOTHING";
    let values = [
        update.task.as_str().into(),
        view.job.as_str().into(),
        view.task.kind.word().into(),
        update.round.into(),
        update.client.as_str().into(),
        update.digest.into(),
        int("examples", update.examples)?.into(),
        int("bytes", update.bytes)?.into(),
        json(&update.statistics)?.into(),
    ];
    tx.execute(sql, &values).await?;
    Ok(())
}
