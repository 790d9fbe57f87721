//! Performs the machine's `Pool`: the accepted sums, as the rows say them, become the job's constants.

use tributary_core::digest::Digest;
use tributary_core::round::{Event, JobState};
use tributary_core::spec::JobSpec;
use tributary_core::statistics::{Pool, SiteSums, encode_constants};

use super::fold::Folded;
use super::{Hub, Pause};
use crate::blobs::{BlobError, Blobs, constants_key, sums_key};
use crate::failpoint::failpoint;
use crate::specs::Spec;
use crate::store::{StoreError, UpdateRow};

/// Why there are no constants.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// The blobs failed; trying again may help.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The sums do not give them, now or ever.
    #[error("{0}")]
    Fault(String),
}

/// Pools, trying again for as long as the blobs only fail for now.
pub(super) async fn pool(hub: &Hub, spec: &Spec, state: &JobState) -> Result<Folded, StoreError> {
    // Nothing is open any more: the rows stay what they are.
    let accepted = hub.store.site_sums(&state.id).await?;
    let mut pause = Pause::new();
    loop {
        let pooled = constants(&hub.blobs, &spec.parsed, &state.id, &accepted).await;
        let written = match pooled {
            Ok((bytes, rows)) => {
                let constants = Digest::of(&bytes);
                let put = hub.blobs.put(&constants_key(&state.id), bytes.into()).await;
                put.map(|()| Event::Pooled { constants, rows }).map_err(PoolError::from)
            }
            Err(error) => Err(error),
        };
        let event = match written {
            Ok(event) => {
                failpoint!("sums.constants.written");
                event
            }
            Err(PoolError::Blob(error)) if error.is_transient() => {
                tracing::warn!(job = %state.id, %error, "pooling failed; trying again");
                tokio::time::sleep(pause.lengthen()).await;
                continue;
            }
            Err(error) => Event::PoolFailed { reason: error.to_string() },
        };
        return Ok(Folded { event, checkpoint: None });
    }
}

/// The constants' bytes, and the rows of all sites. One site's sums are in memory at a time, beside
/// the pool.
pub(crate) async fn constants(
    blobs: &Blobs,
    spec: &JobSpec,
    job: &tributary_core::name::JobId,
    accepted: &[UpdateRow],
) -> Result<(Vec<u8>, u64), PoolError> {
    let Some(statistics) = &spec.statistics else {
        return Err(PoolError::Fault("the spec asks for no statistics".to_owned()));
    };
    let mut pool = Pool::default();
    for row in accepted {
        let of = |what: String| PoolError::Fault(format!("the sums of {}: {what}", row.client));
        let bytes = blobs.read(&sums_key(job, &row.task, row.digest)).await?;
        let found = Digest::of(&bytes);
        if found != row.digest {
            return Err(of(format!("expected {}, found {found}", row.digest)));
        }
        let sums = SiteSums::decode(&bytes).map_err(|error| of(error.to_string()))?;
        sums.check(&statistics.asked).map_err(|error| of(error.to_string()))?;
        pool.merge(&sums).map_err(|error| of(error.to_string()))?;
    }
    let constants = pool.constants(spec).map_err(|error| PoolError::Fault(error.to_string()))?;
    Ok((encode_constants(&constants), pool.rows()))
}
