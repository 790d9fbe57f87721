//! What a task's steps share with its heartbeats: how far it is, and whether it is still wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::observer::{AgentEvent, Observer};
use crate::trainer::Control;

/// What a task's steps share with its heartbeats.
#[derive(Default)]
pub(super) struct Pulse {
    /// Everything that moved: chunks and batches; a lease lives by its growth.
    pub(super) steps: AtomicU64,
    pub(super) total: AtomicU64,
    pub(super) unwanted: AtomicBool,
    /// It is unwanted because an operator holds its job.
    pub(super) held: AtomicBool,
    pub(super) superseded: AtomicBool,
}

/// The trainer's side of a pulse.
pub(super) struct Follow {
    pub(super) pulse: Arc<Pulse>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) stop: CancellationToken,
}

impl Control for Follow {
    fn progress(&self, done: u64, total: u64) {
        self.pulse.steps.fetch_add(1, Ordering::Relaxed);
        self.pulse.total.store(total, Ordering::Relaxed);
        self.observer.event(AgentEvent::Progress { done, total });
    }

    fn cancelled(&self) -> bool {
        self.stop.is_cancelled() || self.pulse.unwanted.load(Ordering::Relaxed)
    }
}
