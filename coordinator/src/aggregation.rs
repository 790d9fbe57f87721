//! Folding a round: stored updates and the old checkpoint become the next checkpoint.
//!
//! Every stored update is read once, a unit of coordinates at a time: two threads take units in
//! turn, sum them in integers ([`tributary_core::aggregate`]) and hand the new values, in order,
//! to the writer, which hashes and stores them as they come. Integers add up to the same for any
//! number of threads and any cut, so the checkpoint is a function of the plan and the blobs.
//!
//! Memory, whatever the model's size and the number of clients (see [`Cut`] for the numbers):
//! a thread has the sums of one unit (512 KiB), two blocks of updates, the unit of the old checkpoint;
//! [`scan::UNITS_IN_FLIGHT`] finished units (4 MiB) wait for their turn; the writer has 16 MiB.
//! Backends that are not a local folder add the units that are fetched ahead.
//!
//! Updates were verified when they were accepted and are not hashed again.

use std::sync::Arc;

use bytes::Bytes;
use tributary_core::aggregate::{CONTRIBUTIONS_MAX, Scale, Weighting};
use tributary_core::checkpoint::{self, CheckpointError};
use tributary_core::digest::Digest;
use tributary_core::name::ClientName;
use tributary_core::params::Schema;

mod mean;
pub mod scan;
mod source;
#[cfg(test)]
mod tests;

use crate::blobs::{BlobError, Blobs, UpdateKey};
use mean::Mean;
use scan::{Cut, Scan, Weighted};

/// One accepted update.
#[derive(Debug, Clone)]
pub struct Contribution {
    /// Whose it is.
    pub client: ClientName,
    /// How many examples it stands for.
    pub examples: u64,
    /// Where it is stored.
    pub key: UpdateKey,
}

/// What is folded into what. All of it is committed before the fold begins, so any replica, and a
/// verifier, folds the same.
#[derive(Debug, Clone)]
pub struct FoldPlan {
    /// The model's parameters.
    pub schema: Arc<Schema>,
    /// The key of the checkpoint that the round started from.
    pub previous: String,
    /// The key of the checkpoint to make.
    pub output: String,
    /// The round's fixed-point scale.
    pub scale: Scale,
    /// The accepted updates, sorted by client name.
    pub contributions: Vec<Contribution>,
}

/// What a fold made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldOutcome {
    /// The digest of the new checkpoint's bytes.
    pub digest: Digest,
    /// Its length, in bytes.
    pub len: u64,
    /// The norm of the mean update, in units of 2^-32: of the plan and the blobs alone, too.
    pub norm: u64,
}

/// Why there is no new checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// A blob is missing, too short, or cannot be read or written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The old checkpoint is not one of this schema.
    #[error("checkpoint `{key}` does not fit the job's schema: {source}")]
    Checkpoint {
        /// Its key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: CheckpointError,
    },
    /// The plan cannot be folded.
    #[error("expected {expected} in the plan of a fold, found {found}")]
    Plan {
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A new value is no number.
    #[error("the mean makes coordinate {coordinate} of the model a value that is not finite")]
    NotFinite {
        /// Its place in the flat buffer.
        coordinate: usize,
    },
    /// A thread of the fold ended early.
    #[error("a thread of the fold ended before its work was done")]
    Stopped,
}

impl FoldError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Blob(error) => error.is_transient(),
            Self::Stopped => true,
            Self::Checkpoint { .. } | Self::Plan { .. } | Self::NotFinite { .. } => false,
        }
    }
}

/// Folds a round and makes its checkpoint durable. It computes on blocking threads, and may be
/// dropped at any time: nothing is then seen under the output's key.
///
/// # Errors
/// When the plan is not one that can be folded, or a blob is missing, short or unreadable.
pub async fn fold_round(blobs: &Blobs, plan: FoldPlan) -> Result<FoldOutcome, FoldError> {
    fold_cut(blobs, plan, Cut::default()).await
}

/// [`fold_round`] in another cut; the checkpoint is the same for all of them.
///
/// # Errors
/// Those of [`fold_round`].
pub async fn fold_cut(blobs: &Blobs, plan: FoldPlan, cut: Cut) -> Result<FoldOutcome, FoldError> {
    let (updates, total) = weigh(&plan)?;
    let data_start = data_start(blobs, &plan).await?;
    let previous: Arc<str> = plan.previous.as_str().into();
    let scan = Scan::new(blobs, updates, plan.schema.len(), cut);
    let mean = Mean::new(blobs, previous, data_start, plan.scale, total);
    let mut units = scan.run(|| mean.clone());
    let mut writer = blobs.checkpoint_writer(&plan.output).await?;
    writer.write(Bytes::from(checkpoint::header(&plan.schema))).await?;
    while let Some(values) = units.next().await {
        writer.write(values?).await?;
    }
    let (digest, len) = writer.finish().await?;
    Ok(FoldOutcome { digest, len, norm: mean.norm() })
}

/// The updates with their weights, and the sum of all weights. What core's contract asks for is
/// checked here, for every fold and every build.
fn weigh(plan: &FoldPlan) -> Result<(Vec<Weighted>, u64), FoldError> {
    let wrong = |expected, found| Err(FoldError::Plan { expected, found });
    let contributions = &plan.contributions;
    if contributions.len() > CONTRIBUTIONS_MAX {
        return wrong("at most 4096 updates", contributions.len().to_string());
    }
    if let Some(pair) = contributions.windows(2).find(|pair| pair[0].client >= pair[1].client) {
        return wrong("every client once, sorted", format!("{} twice or late", pair[1].client));
    }
    let mut total = 0;
    let mut updates = Vec::with_capacity(contributions.len());
    for contribution in contributions {
        let weight = Weighting::Examples.weight(contribution.examples);
        if weight > plan.scale.cap() {
            let found = format!("{weight} of {}", contribution.client);
            return wrong("no more examples than the round's cap", found);
        }
        // 4096 weights of at most 2^29 stay far from the end of a u64.
        total += weight;
        let factor = plan.scale.weight(weight);
        updates.push(Weighted { key: contribution.key.clone(), factor });
    }
    if total == 0 {
        return wrong("at least one example", "0".to_owned());
    }
    Ok((updates, total))
}

/// Checks the old checkpoint's header and length; where its values start.
async fn data_start(blobs: &Blobs, plan: &FoldPlan) -> Result<u64, FoldError> {
    let key = &plan.previous;
    let wrong = |source| FoldError::Checkpoint { key: key.clone(), source };
    let length = blobs.read_range(key, 0..checkpoint::LENGTH_BYTES as u64).await?;
    let start = checkpoint::data_start(&length).map_err(wrong)? as u64;
    let header = blobs.read_range(key, 0..start).await?;
    checkpoint::check_header(&header, &plan.schema).map_err(wrong)?;
    let (expected, found) = (4 * plan.schema.len() as u64, blobs.len(key).await? - start);
    if found != expected {
        return Err(wrong(CheckpointError::DataLength { expected, found }));
    }
    Ok(start)
}
