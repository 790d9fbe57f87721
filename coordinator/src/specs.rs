//! Parsed specs by job: a spec never changes, so it is read from the store once; so are the constants
//! that its sites' sums gave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;
use tributary_core::digest::Digest;
use tributary_core::fault::Faults;
use tributary_core::name::JobId;
use tributary_core::round::Policy;
use tributary_core::spec::JobSpec;

use crate::blobs::{BlobError, Blobs, constants_key};
use crate::store::{Store, StoreError};

/// Specs in memory; those of jobs long ended make room.
const SPECS_MAX: usize = 256;

/// A job's spec, parsed, with what is derived from it once.
pub(crate) struct Spec {
    pub(crate) text: String,
    pub(crate) parsed: JobSpec,
    pub(crate) policy: Policy,
    /// What the sites' sums gave, once it was read.
    constants: OnceCell<Bytes>,
}

impl Spec {
    /// What the sites' sums gave: the bytes of this digest.
    pub(crate) async fn constants(
        &self,
        blobs: &Blobs,
        job: &JobId,
        digest: Digest,
    ) -> Result<Bytes, BlobError> {
        let read = || async {
            let key = constants_key(job);
            let bytes = blobs.read(&key).await?;
            if Digest::of(&bytes) == digest {
                return Ok(bytes);
            }
            Err(BlobError::Damaged { key, expected: digest, found: Digest::of(&bytes) })
        };
        self.constants.get_or_try_init(read).await.cloned()
    }
}

/// Why a job's spec cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such job.
    #[error("no such job")]
    NoJob,
    /// A stored spec that this version does not understand.
    #[error("the stored spec is not one that this version reads: {0}")]
    Unreadable(Faults),
}

pub(crate) struct Specs {
    store: Store,
    known: Mutex<HashMap<JobId, Arc<Spec>>>,
}

impl Specs {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, known: Mutex::new(HashMap::new()) }
    }

    pub(crate) async fn get(&self, job: &JobId) -> Result<Arc<Spec>, SpecError> {
        if let Some(spec) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(job) {
            return Ok(spec.clone());
        }
        let text = self.store.job_spec(job).await?.ok_or(SpecError::NoJob)?;
        let parsed = JobSpec::parse(&text).map_err(SpecError::Unreadable)?;
        let policy = Policy::from(&parsed);
        let spec = Arc::new(Spec { text, parsed, policy, constants: OnceCell::new() });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SPECS_MAX {
            known.clear();
        }
        known.insert(job.clone(), spec.clone());
        Ok(spec)
    }
}
