//! Writes a job's new state: only what differs from the state that was read under its lock.

use tributary_core::name::JobId;
use tributary_core::round::{JobState, RoundState, Task};

use super::database::Tx;
use super::decode::{int, json, optional_int};
use super::error::StoreError;
use super::history::insert_checkpoint;
use super::jobs::{Held, clock};
use super::rows::JobChanges;
use super::sql::Value;
use crate::sabotage::{Rule, is_broken};

pub(super) async fn save(
    tx: &mut Tx,
    held: &mut Held,
    before: &JobState,
    after: &JobState,
    changes: &JobChanges,
) -> Result<(), StoreError> {
    let mut only_clock = before.clone();
    only_clock.clock_ms = after.clock_ms;
    if only_clock == *after && changes.history.is_empty() && changes.checkpoints.is_empty() {
        let sql = "-- store.save.clock\nUPDATE jobs SET clock_ms = $2 WHERE id = $1";
        tx.execute(sql, &[after.id.as_str().into(), clock(after)?.into()]).await?;
        return Ok(());
    }
    save_round(tx, before, after).await?;
    for task in after.tasks.values() {
        match before.tasks.get(&task.id) {
            Some(same) if same == task => {}
            Some(_) => update_task(tx, task).await?,
            None => insert_task(tx, &after.id, task).await?,
        }
    }
    for row in &changes.checkpoints {
        insert_checkpoint(tx, &after.id, row).await?;
    }
    for line in &changes.history {
        held.chain.append(tx, line, held.now_us).await?;
    }
    save_job(tx, held, after).await
}

async fn save_job(tx: &mut Tx, held: &Held, after: &JobState) -> Result<(), StoreError> {
    let sql = "-- store.save.job\n\
        UPDATE jobs SET status = $3, reason = $4, clock_ms = $5, checkpoint = $6, result = $7, \
        evaluation_deadline_ms = $8, event_sequence = $9, event_digest = $10, \
        statistics_deadline_ms = $11, constants = $12, course = $13, waits_for = NULL, \
        version = version + 1, updated_at_us = {now} WHERE id = $1 AND version = $2";
    let values = [
        after.id.as_str().into(),
        held.version.into(),
        after.status.word().into(),
        after.reason.clone().into(),
        clock(after)?.into(),
        after.checkpoint.into(),
        after.result.into(),
        optional_int("evaluation_deadline_ms", after.evaluation_deadline_ms)?.into(),
        int("event_sequence", held.chain.sequence)?.into(),
        held.chain.digest.into(),
        optional_int("statistics_deadline_ms", after.statistics_deadline_ms)?.into(),
        after.constants.into(),
        json(&after.course)?.into(),
    ];
    if tx.execute(sql, &values).await? != 1 {
        return Err(StoreError::Fenced { job: after.id.to_string() });
    }
    Ok(())
}

async fn save_round(tx: &mut Tx, before: &JobState, after: &JobState) -> Result<(), StoreError> {
    let Some(round) = &after.round else { return Ok(()) };
    let key = |r: &RoundState| (r.number, r.attempt);
    match &before.round {
        Some(same) if same == round => return Ok(()),
        Some(old) if key(old) == key(round) => update_round(tx, &after.id, round).await?,
        _ => insert_round(tx, &after.id, round).await?,
    }
    let had = before.round.as_ref().is_some_and(|r| key(r) == key(round) && !r.accepted.is_empty());
    if !had {
        for (position, task) in round.accepted.iter().enumerate() {
            let sql = "-- store.save.position\n\
                UPDATE updates SET position = $2 WHERE task = $1 AND position IS NULL";
            let position = i64::try_from(position).unwrap_or(i64::MAX);
            tx.execute(sql, &[task.as_str().into(), position.into()]).await?;
        }
    }
    Ok(())
}

fn round_values(job: &JobId, round: &RoundState) -> Result<Vec<Value>, StoreError> {
    let facts = round.facts.as_ref();
    let statistics = facts.map(|f| json(&f.statistics)).transpose()?;
    let count = |column, of: fn(&tributary_core::round::FoldFacts) -> u64| {
        optional_int(column, facts.map(of))
    };
    Ok(vec![
        job.as_str().into(),
        round.number.into(),
        round.attempt.into(),
        round.phase.word().into(),
        round.checkpoint_in.into(),
        round.roster.into(),
        round.cohort_size.into(),
        u32::from(round.cap_exponent).into(),
        int("opened_ms", round.opened_ms)?.into(),
        optional_int("training_ms", round.training_ms)?.into(),
        optional_int("deadline_ms", round.deadline_ms)?.into(),
        optional_int("closed_ms", round.closed_ms)?.into(),
        optional_int("committed_ms", round.committed_ms)?.into(),
        facts.map(|f| f.checkpoint_out).into(),
        count("checkpoint_bytes", |f| f.checkpoint_bytes)?.into(),
        count("examples", |f| f.examples)?.into(),
        statistics.into(),
        count("bytes_up", |f| f.bytes_up)?.into(),
        count("bytes_down", |f| f.bytes_down)?.into(),
        count("fold_ms", |f| f.fold_ms)?.into(),
        round.result.into(),
        round.reason.clone().into(),
        count("update_norm", |f| f.update_norm)?.into(),
        facts.and_then(|f| f.median_loss).into(),
    ])
}

async fn insert_round(tx: &mut Tx, job: &JobId, round: &RoundState) -> Result<(), StoreError> {
    let sql = "-- store.save.insert_round\n\
        INSERT INTO rounds (job, number, attempt, phase, checkpoint_in, roster, cohort_size, \
        cap_exponent, opened_ms, training_ms, deadline_ms, closed_ms, committed_ms, \
        checkpoint_out, checkpoint_bytes, examples, statistics, bytes_up, bytes_down, fold_ms, \
        result, reason, update_norm, median_loss, created_at_us, updated_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, \
        $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, {now}, {now})";
    tx.execute(sql, &round_values(job, round)?).await?;
    Ok(())
}

async fn update_round(tx: &mut Tx, job: &JobId, round: &RoundState) -> Result<(), StoreError> {
    let sql = "-- store.save.update_round\n\
        UPDATE rounds SET phase = $4, checkpoint_in = $5, roster = $6, cohort_size = $7, \
        cap_exponent = $8, opened_ms = $9, training_ms = $10, deadline_ms = $11, closed_ms = $12, \
        committed_ms = $13, checkpoint_out = $14, checkpoint_bytes = $15, examples = $16, \
        statistics = $17, bytes_up = $18, bytes_down = $19, fold_ms = $20, result = $21, \
        reason = $22, update_norm = $23, median_loss = $24, \
        updated_at_us = {now} WHERE job = $1 AND number = $2 AND attempt = $3";
    if tx.execute(sql, &round_values(job, round)?).await? != 1 {
        return Err(StoreError::Fenced { job: job.to_string() });
    }
    Ok(())
}

async fn insert_task(tx: &mut Tx, job: &JobId, task: &Task) -> Result<(), StoreError> {
    let sql = "-- store.save.insert_task\n\
        INSERT INTO tasks (id, job, kind, round, attempt, client, state, lease_until_ms, instance, \
        progress, progress_total, code, reason, created_at_us, updated_at_us) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, {now}, {now})";
    let values = [
        task.id.as_str().into(),
        job.as_str().into(),
        task.kind.word().into(),
        task.round.into(),
        task.attempt.into(),
        task.client.as_str().into(),
        task.state.word().into(),
        int("lease_until_ms", task.lease_until_ms)?.into(),
        task.instance.clone().into(),
        int("progress", task.progress)?.into(),
        int("progress_total", task.progress_total)?.into(),
        task.code.clone().into(),
        task.reason.clone().into(),
    ];
    tx.execute(sql, &values).await?;
    Ok(())
}

/// Writes what may change of a task.
pub(super) async fn update_task(tx: &mut Tx, task: &Task) -> Result<(), StoreError> {
    let sql = "-- store.save.update_task\n\
        UPDATE tasks SET state = $2, lease_until_ms = $3, instance = $4, progress = $5, \
        progress_total = $6, accepted_digest = $7, accepted_examples = $8, code = $9, reason = $10, \
        outcome = $11, updated_at_us = {now} WHERE id = $1";
    let accepted = task.accepted.as_ref();
    let outcome = task.outcome.filter(|_| !is_broken(Rule::Outcome));
    let values = [
        task.id.as_str().into(),
        task.state.word().into(),
        int("lease_until_ms", task.lease_until_ms)?.into(),
        task.instance.clone().into(),
        int("progress", task.progress)?.into(),
        int("progress_total", task.progress_total)?.into(),
        accepted.map(|a| a.digest).into(),
        optional_int("accepted_examples", accepted.map(|a| a.examples))?.into(),
        task.code.clone().into(),
        task.reason.clone().into(),
        outcome.map(|known| known.word().to_owned()).into(),
    ];
    tx.execute(sql, &values).await?;
    Ok(())
}
