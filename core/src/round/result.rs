//! The clock-free digest of a round: what tests and verifiers compare, run against run.

use crate::digest::{Digest, Hasher};
use crate::name::ClientName;

/// The digest before the first round.
#[must_use]
pub fn genesis(spec: Digest, checkpoint: Digest) -> Digest {
    Digest::of_fields(
        "tributary/result/genesis/v1",
        [spec.as_bytes().as_slice(), checkpoint.as_bytes()],
    )
}

/// What a round's result covers.
#[derive(Debug, Clone, Copy)]
pub struct RoundFacts<'a> {
    /// The result of the round before.
    pub previous: Digest,
    /// The job's spec.
    pub spec: Digest,
    /// The roster that the cohort was drawn from.
    pub roster: Digest,
    /// The checkpoint that training started from.
    pub checkpoint_in: Digest,
    /// (client, n, update digest), sorted by client name.
    pub accepted: &'a [(ClientName, u64, Digest)],
    /// The state of the server's optimiser, where the strategy has one.
    pub optimizer: Option<Digest>,
    /// The checkpoint that came out.
    pub checkpoint_out: Digest,
}

/// H(previous, spec, roster, checkpoint in, accepted set, optimiser state, checkpoint out). No time,
/// no attempt and no task id is in it.
#[must_use]
pub fn result_digest(facts: &RoundFacts<'_>) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field(b"tributary/result/v1");
    for digest in [facts.previous, facts.spec, facts.roster, facts.checkpoint_in] {
        hasher.update(digest.as_bytes());
    }
    hasher.update(&(facts.accepted.len() as u64).to_le_bytes());
    for (client, examples, update) in facts.accepted {
        hasher.field(client.as_str().as_bytes());
        hasher.update(&examples.to_le_bytes());
        hasher.update(update.as_bytes());
    }
    hasher.field(facts.optimizer.as_ref().map_or(&[], |d| d.as_bytes().as_slice()));
    hasher.update(facts.checkpoint_out.as_bytes());
    hasher.finish()
}
