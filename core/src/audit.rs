//! One line of the federation's audit: who did what to what, when, from where, with which outcome.
//! Each line's digest covers the line before, so that a copy of the last one fixes all of them;
//! whoever exported the lines can check them without the coordinator.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// One administrative act or security event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// 1 for the first.
    pub sequence: u64,
    /// Wall clock, microseconds since 1970.
    pub at_us: i64,
    /// Who: `ROLE/NAME`, or `unknown`.
    pub actor: String,
    /// From where: an address, or `local`.
    pub address: String,
    /// What: a stable word such as `token_created`.
    pub action: String,
    /// To what: a name, a job, a method.
    pub target: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// The facts, as short text.
    pub detail: String,
    /// H(previous line's digest, this line).
    pub digest: Digest,
}

/// The digest before the first line.
#[must_use]
pub fn genesis() -> Digest {
    Digest::of_fields("tributary/audit/genesis/v1", [])
}

impl AuditLine {
    /// What the line's digest must be behind `previous`.
    #[must_use]
    pub fn digest_after(&self, previous: Digest) -> Digest {
        Digest::of_fields(
            "tributary/audit/v1",
            [
                previous.as_bytes().as_slice(),
                &self.sequence.to_le_bytes(),
                &self.at_us.to_le_bytes(),
                self.actor.as_bytes(),
                self.address.as_bytes(),
                self.action.as_bytes(),
                self.target.as_bytes(),
                self.outcome.as_bytes(),
                self.detail.as_bytes(),
            ],
        )
    }
}

/// Follows a chain line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditChain {
    /// Of the last line that fitted; 0 before the first.
    pub sequence: u64,
    /// Its digest.
    pub digest: Digest,
}

impl Default for AuditChain {
    fn default() -> Self {
        Self { sequence: 0, digest: genesis() }
    }
}

impl AuditChain {
    /// Takes the next line; `false` where it does not follow, and then the chain stays where it was.
    pub fn follow(&mut self, line: &AuditLine) -> bool {
        let follows =
            line.sequence == self.sequence + 1 && line.digest == line.digest_after(self.digest);
        if follows {
            (self.sequence, self.digest) = (line.sequence, line.digest);
        }
        follows
    }
}

#[cfg(test)]
mod tests {
    use super::{AuditChain, AuditLine};
    use crate::digest::Digest;

    fn line(chain: &AuditChain, action: &str) -> AuditLine {
        let mut line = AuditLine {
            sequence: chain.sequence + 1,
            at_us: 5,
            actor: "admin/ada".to_owned(),
            address: "127.0.0.1".to_owned(),
            action: action.to_owned(),
            target: "client/a".to_owned(),
            outcome: "done".to_owned(),
            detail: String::new(),
            digest: Digest::of(b""),
        };
        line.digest = line.digest_after(chain.digest);
        line
    }

    #[test]
    fn a_changed_missing_or_swapped_line_breaks_the_chain() {
        let mut chain = AuditChain::default();
        let first = line(&chain, "token_created");
        assert!(chain.follow(&first));
        let second = line(&chain, "revoked");
        assert!(!AuditChain::default().follow(&second), "the first is missing");
        let mut changed = second.clone();
        changed.target = "client/b".to_owned();
        assert!(!chain.follow(&changed));
        assert!(chain.follow(&second) && !chain.follow(&second), "each once");
    }
}
