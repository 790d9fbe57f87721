//! A simulated process: whether it runs, stands still, or is gone. A process that is gone has no effect on
//! anything any more: what it was about to do waits for ever, or fails where others wait for it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// How a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Running,
    Frozen,
    Gone,
}

/// One process, from its start to its end.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    standing: Arc<(Mutex<Standing>, Notify)>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Node {
    pub(crate) fn new(name: &str) -> Self {
        let standing = (Mutex::new(Standing::Running), Notify::new());
        Self { name: name.into(), standing: Arc::new(standing) }
    }

    pub(crate) fn set(&self, standing: Standing) {
        let mut now = self.standing.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is gone stays so.
        if *now != Standing::Gone {
            *now = standing;
            // One after the other, as they came; tokio's `watch` wakes in an order of its own.
            self.standing.1.notify_waiters();
        }
    }

    fn standing(&self) -> Standing {
        *self.standing.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.standing() == Standing::Gone
    }

    async fn wait_for(&self, reached: impl Fn(Standing) -> bool) -> Standing {
        loop {
            let changed = self.standing.1.notified();
            let now = self.standing();
            if reached(now) {
                return now;
            }
            changed.await;
        }
    }

    /// Passes while the process runs; `false` where it is gone.
    pub(crate) async fn runs(&self) -> bool {
        self.wait_for(|now| now != Standing::Frozen).await == Standing::Running
    }

    /// Passes while the process runs, and never again where it is gone.
    pub(crate) async fn pass(&self) {
        if !self.runs().await {
            std::future::pending::<()>().await;
        }
    }

    /// Passes when the process is gone.
    pub(crate) async fn ended(&self) {
        self.wait_for(|now| now == Standing::Gone).await;
    }
}
