//! Statements, values and rows of both engines: text with a few placeholders, `BIGINT` and `TEXT`.

use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Row as _, TypeInfo, ValueRef};
use tributary_core::digest::Digest;

/// A value that is bound to a statement.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Int(Some(value.into()))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Value::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(Some(value))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Value::Text(value)
    }
}

impl From<Digest> for Value {
    fn from(value: Digest) -> Self {
        Value::Text(Some(value.to_string()))
    }
}

impl From<Option<Digest>> for Value {
    fn from(value: Option<Digest>) -> Self {
        Value::Text(value.map(|digest| digest.to_string()))
    }
}

/// One cell of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
}

/// A row that came back: cells by column name.
pub(super) struct Row {
    pub(super) cells: Vec<(String, Cell)>,
}

/// The engine that a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Postgres,
    Sqlite,
}

impl Engine {
    /// Fills the placeholders: `{now}` is the database's clock in microseconds; `{for update}`,
    /// `{for no key update}` and `{for share}` lock rows where the engine locks rows; `{holder gone}`
    /// says whether no session holds the advisory lock beside a job's lease.
    pub(super) fn render(self, sql: &'static str) -> AssertSqlSafe<String> {
        let now = match self {
            Engine::Postgres => "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
            Engine::Sqlite => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        };
        self.render_at(sql, now)
    }

    /// The same with another expression for the time.
    pub(super) fn render_at(self, sql: &'static str, now: &str) -> AssertSqlSafe<String> {
        let (update, no_key_update, share) = match self {
            Engine::Postgres => ("FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE"),
            Engine::Sqlite => ("", "", ""),
        };
        let gone = match self {
            Engine::Postgres => HOLDER_GONE,
            Engine::Sqlite => "1 = 0",
        };
        let text = sql.replace("{now}", now).replace("{holder gone}", gone);
        let text = text.replace("{for update}", update).replace("{for share}", share);
        // Nothing of a peer's is ever part of a statement: only these texts are.
        AssertSqlSafe(text.replace("{for no key update}", no_key_update))
    }
}

/// Read from the view: asking for the lock itself would take it from a replica that is coming up.
const HOLDER_GONE: &str = "(lease_lock IS NOT NULL AND NOT EXISTS (SELECT 1 FROM pg_locks l \
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND l.classid::bigint = (lease_lock >> 32) AND l.objid::bigint = (lease_lock & 4294967295)))";

pub(super) fn bind_postgres<'q>(
    mut query: Query<'q, Postgres, PgArguments>,
    values: &[Value],
) -> Query<'q, Postgres, PgArguments> {
    for value in values {
        query = match value {
            Value::Int(value) => query.bind(*value),
            Value::Text(value) => query.bind(value.clone()),
        };
    }
    query
}

pub(super) fn bind_sqlite<'q>(
    mut query: Query<'q, Sqlite, SqliteArguments>,
    values: &[Value],
) -> Query<'q, Sqlite, SqliteArguments> {
    for value in values {
        query = match value {
            Value::Int(value) => query.bind(*value),
            Value::Text(value) => query.bind(value.clone()),
        };
    }
    query
}

pub(super) fn from_postgres(row: &PgRow) -> Result<Row, sqlx::Error> {
    let mut cells = Vec::with_capacity(row.columns().len());
    for (i, column) in row.columns().iter().enumerate() {
        let raw = row.try_get_raw(i)?;
        let cell = if raw.is_null() {
            Cell::Null
        } else if column.type_info().name() == "INT8" {
            Cell::Int(row.try_get(i)?)
        } else {
            Cell::Text(row.try_get(i)?)
        };
        cells.push((column.name().to_owned(), cell));
    }
    Ok(Row { cells })
}

pub(super) fn from_sqlite(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let mut cells = Vec::with_capacity(row.columns().len());
    for (i, column) in row.columns().iter().enumerate() {
        let raw = row.try_get_raw(i)?;
        let cell = if raw.is_null() {
            Cell::Null
        } else if raw.type_info().name() == "INTEGER" {
            Cell::Int(row.try_get(i)?)
        } else {
            Cell::Text(row.try_get(i)?)
        };
        cells.push((column.name().to_owned(), cell));
    }
    Ok(Row { cells })
}
