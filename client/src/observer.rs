//! What an agent tells those who watch it: a progress bar, a log, a demo.

/// Something that an agent did, or is about to do.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentEvent {
    /// It asks for work.
    Waiting,
    /// It is outside the hours of its site, and asks for nothing.
    Closed {
        /// For so many seconds.
        for_s: u64,
    },
    /// The coordinator does not answer; the agent tries again.
    Away {
        /// Why.
        error: String,
        /// After this many milliseconds.
        retry_in_ms: u64,
    },
    /// It has a task.
    Task {
        /// `train`, `evaluate` or `statistics`.
        kind: &'static str,
        /// The job's id.
        job: String,
        /// The round.
        round: u32,
    },
    /// How far the task is, in steps of the trainer (batches).
    Progress {
        /// Steps done.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// The result is on its way.
    Sending {
        /// Its bytes.
        bytes: u64,
    },
    /// The result is durable at the coordinator and counts.
    Receipt {
        /// The digest that counts.
        digest: String,
    },
    /// An operator holds the job: what is finished is sent when it goes on.
    Held,
    /// The task ended without a result.
    Dropped {
        /// Why.
        reason: String,
    },
}

/// Listens to an agent. It must return at once.
pub trait Observer: Send + Sync {
    /// Takes an event.
    fn event(&self, event: AgentEvent);
}

/// Writes what matters to the log.
pub struct Log;

impl Observer for Log {
    fn event(&self, event: AgentEvent) {
        match event {
            AgentEvent::Waiting => tracing::debug!("waiting for a task"),
            AgentEvent::Closed { for_s } => {
                tracing::info!(for_s, "outside the hours of policy.hours_utc");
            }
            AgentEvent::Away { error, retry_in_ms } => {
                tracing::warn!(%error, retry_in_ms, "the coordinator is away");
            }
            AgentEvent::Task { kind, job, round } => {
                tracing::info!(kind, %job, round, "task");
            }
            AgentEvent::Progress { done, total } => tracing::debug!(done, total, "progress"),
            AgentEvent::Sending { bytes } => tracing::debug!(bytes, "sending the update"),
            AgentEvent::Receipt { digest } => tracing::info!(%digest, "receipt"),
            AgentEvent::Held => tracing::info!("the job is paused"),
            AgentEvent::Dropped { reason } => tracing::warn!(%reason, "task dropped"),
        }
    }
}
