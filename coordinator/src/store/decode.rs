//! Rows into domain types; what does not fit is [`StoreError::Corrupt`], with its place.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use tributary_core::digest::Digest;
use tributary_core::round::task::Accepted;
use tributary_core::round::{
    FoldFacts, JobStatus, Outcome, Phase, RoundState, Task, TaskKind, TaskState,
};

use super::error::StoreError;
use super::rows::{CheckpointRow, RoundRow, UpdateRow};
use super::sql::{Cell, Row};

/// A row's columns by name.
pub(super) struct Fields<'a> {
    table: &'static str,
    row: &'a Row,
}

/// Longest excerpt of a corrupt cell in an error.
const FOUND_CHARS_MAX: usize = 80;

impl<'a> Fields<'a> {
    pub(super) fn of(table: &'static str, row: &'a Row) -> Self {
        Self { table, row }
    }

    fn cell(&self, column: &'static str) -> &'a Cell {
        let found = self.row.cells.iter().find(|(name, _)| name == column);
        found.map_or(&Cell::Null, |(_, cell)| cell)
    }

    pub(super) fn corrupt(&self, column: &'static str) -> StoreError {
        let key = match self.row.cells.first() {
            Some((name, cell)) => format!("{name} {cell:?}"),
            None => "an empty row".to_owned(),
        };
        let found: String =
            format!("{:?}", self.cell(column)).chars().take(FOUND_CHARS_MAX).collect();
        StoreError::Corrupt { table: self.table, key, column, found }
    }

    pub(super) fn optional_int(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        match self.cell(column) {
            Cell::Null => Ok(None),
            Cell::Int(value) => Ok(Some(*value)),
            Cell::Text(_) => Err(self.corrupt(column)),
        }
    }

    pub(super) fn int(&self, column: &'static str) -> Result<i64, StoreError> {
        self.optional_int(column)?.ok_or_else(|| self.corrupt(column))
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        T::try_from(self.int(column)?).map_err(|_| self.corrupt(column))
    }

    pub(super) fn optional_number<T: TryFrom<i64>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let Some(value) = self.optional_int(column)? else { return Ok(None) };
        T::try_from(value).map(Some).map_err(|_| self.corrupt(column))
    }

    pub(super) fn optional_text(
        &self,
        column: &'static str,
    ) -> Result<Option<&'a str>, StoreError> {
        match self.cell(column) {
            Cell::Null => Ok(None),
            Cell::Text(text) => Ok(Some(text)),
            Cell::Int(_) => Err(self.corrupt(column)),
        }
    }

    pub(super) fn text(&self, column: &'static str) -> Result<&'a str, StoreError> {
        self.optional_text(column)?.ok_or_else(|| self.corrupt(column))
    }

    pub(super) fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|_| self.corrupt(column))
    }

    pub(super) fn optional_parsed<T: FromStr>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let Some(text) = self.optional_text(column)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.corrupt(column))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(self.text(column)?).map_err(|_| self.corrupt(column))
    }

    pub(super) fn status(&self, column: &'static str) -> Result<JobStatus, StoreError> {
        JobStatus::from_word(self.text(column)?).ok_or_else(|| self.corrupt(column))
    }

    pub(super) fn optional_phase(&self, column: &'static str) -> Result<Option<Phase>, StoreError> {
        let Some(word) = self.optional_text(column)? else { return Ok(None) };
        Phase::from_word(word).map(Some).ok_or_else(|| self.corrupt(column))
    }

    fn outcome(&self, column: &'static str) -> Result<Option<Outcome>, StoreError> {
        let Some(word) = self.optional_text(column)? else { return Ok(None) };
        Outcome::from_word(word).map(Some).ok_or_else(|| self.corrupt(column))
    }

    fn phase(&self, column: &'static str) -> Result<Phase, StoreError> {
        self.optional_phase(column)?.ok_or_else(|| self.corrupt(column))
    }
}

pub(super) fn task(row: &Row) -> Result<Task, StoreError> {
    let fields = Fields::of("tasks", row);
    let kind = fields.text("kind")?;
    let state = fields.text("state")?;
    let accepted = match fields.optional_parsed::<Digest>("accepted_digest")? {
        Some(digest) => Some(Accepted { digest, examples: fields.number("accepted_examples")? }),
        None => None,
    };
    Ok(Task {
        id: fields.parsed("id")?,
        kind: TaskKind::from_word(kind).ok_or_else(|| fields.corrupt("kind"))?,
        round: fields.number("round")?,
        attempt: fields.number("attempt")?,
        client: fields.parsed("client")?,
        state: TaskState::from_word(state).ok_or_else(|| fields.corrupt("state"))?,
        lease_until_ms: fields.number("lease_until_ms")?,
        instance: fields.optional_text("instance")?.map(str::to_owned),
        progress: fields.number("progress")?,
        progress_total: fields.number("progress_total")?,
        accepted,
        outcome: fields.outcome("outcome")?,
        code: fields.optional_text("code")?.map(str::to_owned),
        reason: fields.optional_text("reason")?.map(str::to_owned),
    })
}

/// A round without its accepted set, which are rows of their own.
pub(super) fn round(row: &Row) -> Result<RoundRow, StoreError> {
    let fields = Fields::of("rounds", row);
    let facts = match fields.optional_parsed::<Digest>("checkpoint_out")? {
        Some(checkpoint_out) => Some(FoldFacts {
            checkpoint_out,
            checkpoint_bytes: fields.number("checkpoint_bytes")?,
            examples: fields.number("examples")?,
            statistics: fields.json("statistics")?,
            bytes_up: fields.number("bytes_up")?,
            bytes_down: fields.number("bytes_down")?,
            // Rounds of an earlier version have none.
            update_norm: fields.optional_number("update_norm")?.unwrap_or(0),
            median_loss: fields.optional_int("median_loss")?,
            fold_ms: fields.number("fold_ms")?,
        }),
        None => None,
    };
    let state = RoundState {
        number: fields.number("number")?,
        attempt: fields.number("attempt")?,
        phase: fields.phase("phase")?,
        checkpoint_in: fields.parsed("checkpoint_in")?,
        roster: fields.optional_parsed("roster")?,
        cohort_size: fields.number("cohort_size")?,
        cap_exponent: fields.number("cap_exponent")?,
        opened_ms: fields.number("opened_ms")?,
        training_ms: fields.optional_number("training_ms")?,
        deadline_ms: fields.optional_number("deadline_ms")?,
        closed_ms: fields.optional_number("closed_ms")?,
        committed_ms: fields.optional_number("committed_ms")?,
        reason: fields.optional_text("reason")?.map(str::to_owned),
        accepted: Vec::new(),
        facts,
        result: fields.optional_parsed("result")?,
    };
    let (created_at_us, updated_at_us) =
        (fields.int("created_at_us")?, fields.int("updated_at_us")?);
    Ok(RoundRow { state, created_at_us, updated_at_us })
}

pub(super) fn update(row: &Row) -> Result<(UpdateRow, Option<u32>), StoreError> {
    let fields = Fields::of("updates", row);
    let update = UpdateRow {
        task: fields.parsed("task")?,
        client: fields.parsed("client")?,
        round: fields.number("round")?,
        digest: fields.parsed("digest")?,
        examples: fields.number("examples")?,
        bytes: fields.number("bytes")?,
        statistics: fields.json("statistics")?,
    };
    Ok((update, fields.optional_number("position")?))
}

pub(super) fn checkpoint(row: &Row) -> Result<CheckpointRow, StoreError> {
    let fields = Fields::of("checkpoints", row);
    Ok(CheckpointRow {
        digest: fields.parsed("digest")?,
        key: fields.text("key")?.to_owned(),
        bytes: fields.number("bytes")?,
        round: fields.number("round")?,
    })
}

/// An unsigned number as the database holds it.
pub(super) fn int(column: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Range { column, found: value })
}

/// An optional unsigned number as the database holds it.
pub(super) fn optional_int(
    column: &'static str,
    value: Option<u64>,
) -> Result<Option<i64>, StoreError> {
    value.map(|value| int(column, value)).transpose()
}

/// A value as JSON text; our own types always have one.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Database(sqlx::Error::Encode(error.into())))
}
