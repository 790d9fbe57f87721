//! Where blobs stand: keys made of names that are safe in paths.

use tributary_core::digest::Digest;
use tributary_core::name::{JobId, TaskId};

/// An update's place. It is never shared between tasks, so deleting a round's updates can hit
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateKey {
    /// The job.
    pub job: JobId,
    /// The round that the task belongs to.
    pub round: u32,
    /// The task.
    pub task: TaskId,
    /// The update's digest, the root of its manifest.
    pub digest: Digest,
}

impl UpdateKey {
    /// The key that all parts stand under.
    #[must_use]
    pub fn folder(&self) -> String {
        let round = updates_of_round(&self.job, self.round);
        format!("{round}/{}/{}", self.task, self.digest.hex())
    }

    /// The key of one part.
    #[must_use]
    pub fn part(&self, index: u32) -> String {
        format!("{}/{index:05}", self.folder())
    }
}

/// The key that all updates of a round stand under.
pub(super) fn updates_of_round(job: &JobId, round: u32) -> String {
    format!("updates/{job}/{round:06}")
}

/// The key of the checkpoint that an attempt of a round makes; round 0, attempt 0 is the first one.
#[must_use]
pub fn checkpoint_key(job: &JobId, round: u32, attempt: u32) -> String {
    format!("checkpoints/{job}/{round:06}-{attempt:02}.safetensors")
}

/// The key of a site's sums for a task.
#[must_use]
pub fn sums_key(job: &JobId, task: &TaskId, digest: Digest) -> String {
    format!("statistics/{job}/{task}/{}", digest.hex())
}

/// The key of what the sites' sums gave a job.
#[must_use]
pub fn constants_key(job: &JobId) -> String {
    format!("constants/{job}")
}
