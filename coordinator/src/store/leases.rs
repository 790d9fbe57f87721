//! Who drives a job: a lease by the database's clock, and a token that fences writes.
//!
//! On Postgres the holder's session also has an advisory lock, whose key stands beside the lease: when
//! a process dies its sockets close, the lock is free, and another replica need not wait for the
//! lease's end. The lock alone proves nothing; every write is fenced by the token.

use std::time::Duration;

use tributary_core::name::JobId;

use super::decode::Fields;
use super::error::StoreError;
use super::{Store, sql::Value};

/// Proof that a driver holds a job's lease; every new holder has another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseToken(pub(super) String);

/// Who takes a lease.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The replica's stable name.
    pub owner: &'a str,
    /// The key of the advisory lock that its session holds now.
    pub lock: Option<i64>,
}

impl Store {
    /// The jobs that have not ended and that `owner` could take, oldest first: their lease is free,
    /// past, its holder's session is gone, or it is the owner's own.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn takeable_jobs(&self, owner: &str) -> Result<Vec<JobId>, StoreError> {
        let sql = "-- store.leases.takeable\n\
            SELECT id FROM jobs WHERE status IN ('submitted', 'running', 'paused') \
            AND (lease_until_us IS NULL OR lease_until_us < {now} OR lease_owner = $1 \
            OR {holder gone}) ORDER BY created_at_us, id";
        let rows = self.db.fetch(sql, &[owner.into()]).await?;
        rows.iter().map(|row| Fields::of("jobs", row).parsed("id")).collect()
    }

    /// Takes a job's lease where it is free, past, already this owner's, or where its holder's
    /// session is gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn acquire_lease(
        &self,
        job: &JobId,
        holder: Holder<'_>,
        ttl: Duration,
    ) -> Result<Option<LeaseToken>, StoreError> {
        let token = tributary_outside::unique().to_string();
        let sql = "-- store.leases.acquire\n\
            UPDATE jobs SET lease_owner = $2, lease_token = $3, lease_until_us = {now} + $4, \
            lease_lock = $5 WHERE id = $1 AND (lease_until_us IS NULL OR lease_until_us < {now} \
            OR lease_owner = $2 OR {holder gone})";
        let values = [
            job.as_str().into(),
            holder.owner.into(),
            token.as_str().into(),
            micros(ttl),
            holder.lock.into(),
        ];
        let taken = self.db.execute(sql, &values).await? == 1;
        Ok(taken.then_some(LeaseToken(token)))
    }

    /// Extends a lease; `false` where it went to somebody else.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn renew_lease(
        &self,
        job: &JobId,
        token: &LeaseToken,
        lock: Option<i64>,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let sql = "-- store.leases.renew\n\
            UPDATE jobs SET lease_until_us = {now} + $3, lease_lock = $4 \
            WHERE id = $1 AND lease_token = $2";
        let values = [job.as_str().into(), token.0.as_str().into(), micros(ttl), lock.into()];
        Ok(self.db.execute(sql, &values).await? == 1)
    }

    /// Notes what a job's driver waits for, for people; the job's next step clears it. Whoever lost the
    /// lease notes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_wait(
        &self,
        job: &JobId,
        token: &LeaseToken,
        waits_for: &str,
    ) -> Result<(), StoreError> {
        let sql = "-- store.leases.note_wait\n\
            UPDATE jobs SET waits_for = $3 WHERE id = $1 AND lease_token = $2";
        let values = [job.as_str().into(), token.0.as_str().into(), waits_for.into()];
        self.db.execute(sql, &values).await?;
        Ok(())
    }

    /// Hands a lease back, so that another replica can take it at once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_lease(&self, job: &JobId, token: &LeaseToken) -> Result<(), StoreError> {
        let sql = "-- store.leases.release\n\
            UPDATE jobs SET lease_owner = NULL, lease_token = NULL, lease_until_us = NULL, \
            lease_lock = NULL WHERE id = $1 AND lease_token = $2";
        self.db.execute(sql, &[job.as_str().into(), token.0.as_str().into()]).await?;
        Ok(())
    }
}

fn micros(time: Duration) -> Value {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4).into()
}
