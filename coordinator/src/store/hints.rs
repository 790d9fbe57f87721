//! Hints between replicas: NOTIFY after a commit, LISTEN on a session of its own, which also holds the
//! replica's advisory lock. A hint may be lost; whoever waits reads the store anyway.

use sqlx::postgres::{PgListener, PgPoolOptions};
use tributary_core::name::ClientName;

use super::Store;
use super::database::Database;
use super::decode::Fields;
use super::error::StoreError;

/// The channel of all replicas on one database.
const CHANNEL: &str = "tributary_hints";
/// Longest payload: Postgres refuses 8000 bytes.
pub const HINT_BYTES_MAX: usize = 7000;

/// The session that listens, and whose advisory lock shows that the replica lives.
pub struct Session {
    listener: PgListener,
}

impl Store {
    /// A listening session; `None` on SQLite, which serves one process.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn session(&self) -> Result<Option<Session>, StoreError> {
        let Database::Postgres(pool) = &self.db else { return Ok(None) };
        // A pool of its own: this connection is held for good.
        let own = PgPoolOptions::new().max_connections(1);
        let own = own.connect_with((*pool.connect_options()).clone()).await?;
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(Session { listener }))
    }

    /// Tells the other replicas; nothing on SQLite.
    ///
    /// # Errors
    /// When the database fails; the hint is lost then.
    pub async fn notify(&self, payload: &str) -> Result<(), StoreError> {
        let Database::Postgres(pool) = &self.db else { return Ok(()) };
        let sql = "-- store.hints.notify\nSELECT pg_notify($1, $2)";
        sqlx::query(sql).bind(CHANNEL).bind(payload).execute(pool).await?;
        Ok(())
    }

    /// The clients with a task that they could work on now.
    ///
    /// # Errors
    /// When the database fails or a row is corrupt.
    pub async fn wanted_clients(&self) -> Result<Vec<ClientName>, StoreError> {
        let sql = "-- store.hints.wanted_clients\n\
            SELECT DISTINCT t.client AS client FROM tasks t JOIN jobs j ON j.id = t.job \
            WHERE t.state IN ('offered', 'leased') AND j.status = 'running'";
        let rows = self.db.fetch(sql, &[]).await?;
        rows.iter().map(|row| Fields::of("tasks", row).parsed("client")).collect()
    }
}

impl Session {
    /// Takes the replica's lock; `false` while an earlier session still has it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock(&mut self, key: i64) -> Result<bool, StoreError> {
        let sql = "-- store.hints.lock\nSELECT pg_try_advisory_lock($1)";
        Ok(sqlx::query_scalar(sql).bind(key).fetch_one(&mut self.listener).await?)
    }

    /// The next hint; `None` where the session broke, and with it its lock: hints may have been lost.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<String>, StoreError> {
        Ok(self.listener.try_recv().await?.map(|hint| hint.payload().to_owned()))
    }
}
