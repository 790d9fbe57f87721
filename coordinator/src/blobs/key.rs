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
        let task = updates_of_task(&self.job, self.round, &self.task);
        format!("{task}/{}", self.digest.hex())
    }

    /// The key of one part.
    #[must_use]
    pub fn part(&self, index: u32) -> String {
        format!("{}/{index:05}", self.folder())
    }

    /// The key of a part's first bytes, where its upload broke off.
    #[must_use]
    pub(crate) fn beginning(&self, index: u32) -> String {
        format!("{}.begun", self.part(index))
    }
}

/// The key that all updates of a round stand under.
pub(super) fn updates_of_round(job: &JobId, round: u32) -> String {
    format!("updates/{job}/{round:06}")
}

/// The key that all updates of a task stand under.
pub(super) fn updates_of_task(job: &JobId, round: u32, task: &TaskId) -> String {
    format!("{}/{task}", updates_of_round(job, round))
}

/// The key of the checkpoint that an attempt of a round makes.
#[must_use]
pub fn checkpoint_key(job: &JobId, round: u32, attempt: u32) -> String {
    format!("checkpoints/{job}/{round:06}-{attempt:02}.safetensors")
}

/// The key of a job's first checkpoint. It is written before the job exists, so it carries a digest
/// of the request that asks for the job: two requests never write to one key.
#[must_use]
pub(crate) fn first_checkpoint_key(job: &JobId, request: Digest) -> String {
    format!("checkpoints/{job}/000000-{}.safetensors", request.hex())
}

/// The key of a checkpoint that an operator brought for jobs to start from.
#[must_use]
pub(crate) fn initial_key(digest: Digest) -> String {
    format!("initial/{}.safetensors", digest.hex())
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
