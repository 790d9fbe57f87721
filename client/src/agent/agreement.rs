//! What the site agreed to when the coordinator last heard of it: after a change it asks to be asked
//! again, for jobs that it refused.
//!
//! ```text
//! STATE/agreement   the digest of policy and data that the coordinator was told of
//! ```

use std::fs;
use std::path::PathBuf;

use tributary_core::digest::Digest;

use super::Agent;

/// The site's policy and data, and whether the coordinator knows that they are not what they were.
pub(super) struct Agreement {
    path: PathBuf,
    digest: String,
    pub(super) told: bool,
}

impl Agreement {
    /// What an agent was told when it started.
    pub(super) fn of(agent: &Agent) -> Self {
        // The words of a `Debug` may change with the build: then the site is asked once more.
        let text = format!("{:?} {:?}", agent.policy, agent.trainer.bindings());
        let digest = Digest::of(text.as_bytes()).to_string();
        let path = agent.config.state_dir.join("agreement");
        let told = fs::read_to_string(&path).is_ok_and(|before| before == digest);
        Self { path, digest, told }
    }

    /// The coordinator has heard of it.
    pub(super) fn tell(&mut self) {
        if self.told {
            return;
        }
        self.told = true;
        // What is not written now is told once more after the next start.
        if let Err(error) = fs::write(&self.path, &self.digest) {
            tracing::warn!(%error, "the agreement is not written down");
        }
    }
}
