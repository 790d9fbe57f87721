//! A database for simulations: a real SQLite file that simulated replicas share, driven to its end within
//! the poll that asks, so that no other thread decides when something happens.
//!
//! What befalls each step (it waits, fails, or its answer is lost) and what time it is say the replica's
//! [`Line`]; what was committed is told to it. One transaction is open at a time, as on SQLite; others wait
//! for it as for a lock.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlSafeStr};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use tributary_outside::simulated::at_once;

use super::database::{SQLITE, WAIT, fetch_sqlite};
use super::error::StoreError;
use super::sql::{Engine, Row, Value, bind_sqlite};

/// A step of a replica's on its way to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A transaction begins.
    Begin,
    /// A statement of a transaction, by its name.
    Statement(&'static str),
    /// A question outside of one, by its name.
    Read(&'static str),
    /// What was done is to be kept.
    Commit,
    /// It is kept, and the replica is to hear so.
    Committed,
}

/// Why a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection broke.
    Broken,
    /// It was not to be had in time.
    Busy,
}

/// A statement that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its name: `store.ROOM.WHAT`.
    pub name: &'static str,
    /// What was bound to it.
    pub values: Vec<Option<String>>,
    /// Rows that it wrote.
    pub rows: u64,
}

/// A wait.
pub type Passing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One replica's line to the database.
pub trait Line: Send + Sync {
    /// Lets a step pass, or says why not; it may take its time.
    fn pass(&self, step: Step) -> Passing<'_, Result<(), Fault>>;
    /// The database's time of day, microseconds since 1970.
    fn now_us(&self) -> i64;
    /// A transaction that is kept now, whatever its replica hears of it.
    fn committed(&self, statements: &[Statement]);
}

/// The database that all replicas share.
#[derive(Clone)]
pub struct SimulatedDatabase {
    writer: Arc<Mutex<SqliteConnection>>,
    reader: Arc<Mutex<SqliteConnection>>,
    turn: Arc<Turn<()>>,
}

impl SimulatedDatabase {
    /// A new one in this file, with this version's schema.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // It need not outlive this process.
            .synchronous(SqliteSynchronous::Off)
            .foreign_keys(true)
            .disable_statement_logging();
        let mut writer = at_once(options.connect())?;
        at_once(SQLITE.run(&mut writer))
            .map_err(|error| StoreError::Schema(format!("cannot migrate: {error}")))?;
        let reader = at_once(options.connect())?;
        Ok(Self {
            writer: Arc::new(Mutex::new(writer)),
            reader: Arc::new(Mutex::new(reader)),
            turn: Arc::new(Turn::new(())),
        })
    }
}

/// One replica's way to it.
#[derive(Clone)]
pub(super) struct Simulated {
    database: SimulatedDatabase,
    line: Arc<dyn Line>,
}

impl Simulated {
    pub(super) fn new(database: SimulatedDatabase, line: Arc<dyn Line>) -> Self {
        Self { database, line }
    }

    pub(super) async fn begin(&self) -> Result<SimulatedTx, StoreError> {
        self.pass(Step::Begin).await?;
        let turn = tokio::time::timeout(WAIT, self.database.turn.clone().lock_owned()).await;
        let turn = turn.map_err(|_| failed(Fault::Busy))?;
        run(&self.database.writer, "BEGIN IMMEDIATE")?;
        Ok(SimulatedTx { way: self.clone(), done: Vec::new(), open: true, _turn: turn })
    }

    pub(super) async fn fetch(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        self.pass(Step::Read(name_of(sql))).await?;
        self.rows(&self.database.reader, sql, values)
    }

    fn rows(
        &self,
        connection: &Mutex<SqliteConnection>,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        let (now, values) = self.now(values);
        let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        at_once(fetch_sqlite(&mut *connection, Engine::Sqlite.render_at(sql, &now), &values))
    }

    /// The placeholder of the time, and the values with it.
    fn now(&self, values: &[Value]) -> (String, Vec<Value>) {
        let mut values = values.to_vec();
        values.push(self.line.now_us().into());
        (format!("${}", values.len()), values)
    }

    async fn pass(&self, step: Step) -> Result<(), StoreError> {
        self.line.pass(step).await.map_err(failed)
    }
}

/// A transaction; dropped without a commit it leaves no trace.
pub(super) struct SimulatedTx {
    way: Simulated,
    done: Vec<Statement>,
    open: bool,
    _turn: OwnedMutexGuard<()>,
}

impl SimulatedTx {
    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<u64, StoreError> {
        self.way.pass(Step::Statement(name_of(sql))).await?;
        let (now, bound) = self.way.now(values);
        let rows = {
            let writer = &self.way.database.writer;
            let mut connection = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let query = sqlx::query(Engine::Sqlite.render_at(sql, &now));
            at_once(bind_sqlite(query, &bound).execute(&mut *connection))?.rows_affected()
        };
        self.done.push(Statement { name: name_of(sql), values: texts(values), rows });
        Ok(rows)
    }

    pub(super) async fn fetch(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        self.way.pass(Step::Statement(name_of(sql))).await?;
        self.way.rows(&self.way.database.writer, sql, values)
    }

    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        self.way.pass(Step::Commit).await?;
        run(&self.way.database.writer, "COMMIT")?;
        self.open = false;
        self.way.line.committed(&self.done);
        let way = self.way.clone();
        // Others can go on before the answer is here.
        drop(self);
        way.pass(Step::Committed).await
    }
}

impl Drop for SimulatedTx {
    fn drop(&mut self) {
        if self.open
            && let Err(error) = run(&self.way.database.writer, "ROLLBACK")
        {
            tracing::error!(%error, "a simulated transaction was not rolled back");
        }
    }
}

fn run(connection: &Mutex<SqliteConnection>, sql: &'static str) -> Result<(), StoreError> {
    let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
    at_once(sqlx::query(sql.into_sql_str()).execute(&mut *connection))?;
    Ok(())
}

fn failed(fault: Fault) -> StoreError {
    let broken = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    StoreError::Database(match fault {
        Fault::Broken => sqlx::Error::Io(broken()),
        Fault::Busy => sqlx::Error::PoolTimedOut,
    })
}

/// Every statement begins with a comment that names it.
fn name_of(sql: &'static str) -> &'static str {
    sql.lines().next().and_then(|line| line.strip_prefix("-- ")).unwrap_or(sql)
}

fn texts(values: &[Value]) -> Vec<Option<String>> {
    let text = |value: &Value| match value {
        Value::Int(value) => value.map(|value| value.to_string()),
        Value::Text(value) => value.clone(),
    };
    values.iter().map(text).collect()
}
