//! Connections, transactions and migrations of both engines.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, Postgres};
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Executor, Transaction};

use super::decode::Fields;
use super::error::StoreError;
#[cfg(feature = "simulation")]
use super::simulated::{Simulated, SimulatedTx};
use super::sql::{Engine, Row, Value, bind_postgres, bind_sqlite, from_postgres, from_sqlite};

static POSTGRES: Migrator = sqlx::migrate!("../migrations/postgres");
pub(super) static SQLITE: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Connections to Postgres: more than a few dozen transactions at once only queue inside it.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// Readers of the SQLite file; there is one writer.
const SQLITE_READERS_MAX: u32 = 4;
/// How long a statement waits for a lock or a connection before it fails and is tried again.
pub(super) const WAIT: Duration = Duration::from_secs(10);
/// How often a transaction is run again before its error goes up.
const TRIES: u32 = 5;

/// The connections of one engine.
#[derive(Clone)]
pub(super) enum Database {
    Postgres(PgPool),
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
        _lock: Arc<File>,
    },
    #[cfg(feature = "simulation")]
    Simulated(Simulated),
}

/// A transaction; dropped without a commit it leaves no trace.
pub(super) enum Tx {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
    #[cfg(feature = "simulation")]
    Simulated(SimulatedTx),
}

impl Database {
    pub(super) async fn open(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            open_sqlite(Path::new(path)).await
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            open_postgres(url).await
        } else {
            let scheme = url.split("://").next().unwrap_or_default();
            Err(StoreError::Url(format!("found the scheme {scheme:?}")))
        }
    }

    pub(super) fn engine(&self) -> &'static str {
        match self {
            Database::Postgres(_) => "postgres",
            Database::Sqlite { .. } => "sqlite",
            #[cfg(feature = "simulation")]
            Database::Simulated(_) => "sqlite",
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Database::Postgres(pool) => pool.close().await,
            Database::Sqlite { writer, readers, .. } => {
                readers.close().await;
                writer.close().await;
            }
            #[cfg(feature = "simulation")]
            Database::Simulated(_) => {}
        }
    }

    /// Begins a transaction: READ COMMITTED on Postgres, the only writer on SQLite.
    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Database::Postgres(pool) => Tx::Postgres(pool.begin().await?),
            Database::Sqlite { writer, .. } => {
                Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            #[cfg(feature = "simulation")]
            Database::Simulated(database) => Tx::Simulated(database.begin().await?),
        })
    }

    /// Rows of a statement that only reads, outside any transaction.
    pub(super) async fn fetch(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Database::Postgres(pool) => fetch_postgres(pool, sql, values).await,
            Database::Sqlite { readers, .. } => {
                fetch_sqlite(readers, Engine::Sqlite.render(sql), values).await
            }
            #[cfg(feature = "simulation")]
            Database::Simulated(database) => database.fetch(sql, values).await,
        }
    }

    /// One statement that writes, as a transaction of its own.
    pub(super) async fn execute(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let rows = tx.execute(sql, values).await?;
        tx.commit().await?;
        Ok(rows)
    }

    pub(super) async fn migrate(&self) -> Result<(), StoreError> {
        let result = match self {
            Database::Postgres(pool) => POSTGRES.run(pool).await,
            Database::Sqlite { writer, .. } => SQLITE.run(writer).await,
            #[cfg(feature = "simulation")]
            Database::Simulated(_) => Ok(()),
        };
        result.map_err(|error| match error {
            MigrateError::VersionMissing(version) => newer_schema(version),
            MigrateError::VersionMismatch(version) => StoreError::Schema(format!(
                "migration {version} was applied in another form than this version's"
            )),
            error => StoreError::Schema(format!("cannot migrate: {error}")),
        })
    }

    pub(super) async fn check_schema(&self) -> Result<(), StoreError> {
        let ours = SQLITE.iter().map(|migration| migration.version).max().unwrap_or(0);
        let sql = "-- store.check_schema\n\
                   SELECT COALESCE(MAX(version), 0) AS version FROM _sqlx_migrations";
        let row = self.fetch(sql, &[]).await.ok().and_then(|rows| rows.into_iter().next());
        let found = match &row {
            Some(row) => Fields::of("_sqlx_migrations", row).int("version")?,
            None => 0,
        };
        match found {
            found if found == ours => Ok(()),
            found if found > ours => Err(newer_schema(found)),
            found => Err(StoreError::Schema(format!(
                "the database has schema {found}, this version needs {ours}: run \
                 `tributary-coordinator migrate`"
            ))),
        }
    }
}

fn newer_schema(version: i64) -> StoreError {
    StoreError::Schema(format!(
        "the database has schema {version}, which is newer than this version's: run the newer \
         coordinator"
    ))
}

/// Whether a failed transaction is worth another try, after a short wait.
pub(super) async fn try_again(error: &StoreError, tries: &mut u32) -> bool {
    *tries += 1;
    if !error.is_retryable() || *tries >= TRIES {
        return false;
    }
    tracing::debug!(%error, tries, "a transaction is run again");
    tokio::time::sleep(Duration::from_millis(5 << *tries)).await;
    true
}

impl Tx {
    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<u64, StoreError> {
        Ok(match self {
            Tx::Postgres(tx) => {
                let query = sqlx::query(Engine::Postgres.render(sql));
                bind_postgres(query, values).execute(&mut **tx).await?.rows_affected()
            }
            Tx::Sqlite(tx) => {
                let query = sqlx::query(Engine::Sqlite.render(sql));
                bind_sqlite(query, values).execute(&mut **tx).await?.rows_affected()
            }
            #[cfg(feature = "simulation")]
            Tx::Simulated(tx) => tx.execute(sql, values).await?,
        })
    }

    pub(super) async fn fetch(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Tx::Postgres(tx) => fetch_postgres(&mut **tx, sql, values).await,
            Tx::Sqlite(tx) => fetch_sqlite(&mut **tx, Engine::Sqlite.render(sql), values).await,
            #[cfg(feature = "simulation")]
            Tx::Simulated(tx) => tx.fetch(sql, values).await,
        }
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Tx::Postgres(tx) => tx.commit().await?,
            Tx::Sqlite(tx) => tx.commit().await?,
            #[cfg(feature = "simulation")]
            Tx::Simulated(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

async fn fetch_postgres<'c>(
    on: impl Executor<'c, Database = Postgres>,
    sql: &'static str,
    values: &[Value],
) -> Result<Vec<Row>, StoreError> {
    let query = sqlx::query(Engine::Postgres.render(sql));
    let rows = bind_postgres(query, values).fetch_all(on).await?;
    Ok(rows.iter().map(from_postgres).collect::<Result<_, _>>()?)
}

pub(super) async fn fetch_sqlite<'c>(
    on: impl Executor<'c, Database = Sqlite>,
    sql: AssertSqlSafe<String>,
    values: &[Value],
) -> Result<Vec<Row>, StoreError> {
    let query = sqlx::query(sql);
    let rows = bind_sqlite(query, values).fetch_all(on).await?;
    Ok(rows.iter().map(from_sqlite).collect::<Result<_, _>>()?)
}

async fn open_postgres(url: &str) -> Result<Database, StoreError> {
    let options = PgConnectOptions::from_str(url)?.application_name("tributary-coordinator");
    // Nothing waits for ever: not for a lock, not for a forgotten transaction.
    let options = options.options([
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "60s"),
        ("default_transaction_isolation", "read committed"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS_MAX)
        .acquire_timeout(WAIT)
        .connect_with(options)
        .await?;
    let setting: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&pool).await?;
    if setting == "off" {
        tracing::warn!(
            "synchronous_commit is off: a crash of the database can lose updates that have their \
             receipt; set it to on"
        );
    }
    Ok(Database::Postgres(pool))
}

async fn open_sqlite(path: &Path) -> Result<Database, StoreError> {
    if path.as_os_str().is_empty() {
        return Err(StoreError::Url("found no path behind sqlite://".to_owned()));
    }
    let lock = lock_file(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A receipt is given only once its row survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(WAIT);
    let pool =
        |connections| SqlitePoolOptions::new().max_connections(connections).acquire_timeout(WAIT);
    let writer = pool(1).connect_with(options.clone()).await?;
    let readers = pool(SQLITE_READERS_MAX).connect_with(options).await?;
    Ok(Database::Sqlite { writer, readers, _lock: Arc::new(lock) })
}

/// One process a file: the lock lives as long as the process, whatever becomes of it.
fn lock_file(path: &Path) -> Result<File, StoreError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(sqlx::Error::Io)?;
    }
    let lock_path = PathBuf::from(format!("{}.lock", path.display()));
    let lock = File::create(&lock_path).map_err(sqlx::Error::Io)?;
    lock.try_lock().map_err(|_| StoreError::InUse(path.display().to_string()))?;
    Ok(lock)
}
