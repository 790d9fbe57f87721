//! Who drives a job: a lease by the database's clock, and a token that fences writes.

use std::time::Duration;

use tributary_core::name::JobId;

use super::error::StoreError;
use super::{Store, sql::Value};

/// Proof that a driver holds a job's lease; every new holder has another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseToken(pub(super) String);

impl Store {
    /// Takes a job's lease where it is free, past, or already this owner's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn acquire_lease(
        &self,
        job: &JobId,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<LeaseToken>, StoreError> {
        let token = uuid::Uuid::new_v4().to_string();
        let sql = "-- store.leases.acquire\n\
            UPDATE jobs SET lease_owner = $2, lease_token = $3, lease_until_us = {now} + $4 \
            WHERE id = $1 AND (lease_until_us IS NULL OR lease_until_us < {now} OR lease_owner = $2)";
        let values = [job.as_str().into(), owner.into(), token.as_str().into(), micros(ttl)];
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
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let sql = "-- store.leases.renew\n\
            UPDATE jobs SET lease_until_us = {now} + $3 WHERE id = $1 AND lease_token = $2";
        let values = [job.as_str().into(), token.0.as_str().into(), micros(ttl)];
        Ok(self.db.execute(sql, &values).await? == 1)
    }

    /// Hands a lease back, so that another replica can take it at once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_lease(&self, job: &JobId, token: &LeaseToken) -> Result<(), StoreError> {
        let sql = "-- store.leases.release\n\
            UPDATE jobs SET lease_owner = NULL, lease_token = NULL, lease_until_us = NULL \
            WHERE id = $1 AND lease_token = $2";
        self.db.execute(sql, &[job.as_str().into(), token.0.as_str().into()]).await?;
        Ok(())
    }
}

fn micros(time: Duration) -> Value {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4).into()
}
