//! A replica's ways to the database and to the blobs: they take time, fail while they are told to, and end
//! with the process.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tributary_coordinator::simulation::{Fault, Line, Passing, Statement, Step, Way};
use tributary_outside::simulated::is_within;

use crate::chance::Chance;
use crate::node::Node;
use crate::rules::Rules;

/// Longest way of a statement, milliseconds.
const STATEMENT_MS: u64 = 2;
/// Longest way of an operation on blobs.
const BLOB_MS: u64 = 10;

/// A replica's line to the database.
pub(crate) struct StoreLine {
    pub(crate) node: Node,
    pub(crate) chance: Arc<Chance>,
    pub(crate) rules: Arc<Rules>,
    /// How many of a hundred steps that can fail do.
    pub(crate) fails: Arc<AtomicU64>,
}

impl StoreLine {
    async fn take(&self, step: Step) -> Result<(), Fault> {
        self.chance.nap(STATEMENT_MS).await;
        if !self.node.runs().await {
            // Within a transaction others wait for its end; else nobody does.
            match step {
                Step::Statement(_) | Step::Commit => return Err(Fault::Broken),
                Step::Begin | Step::Read(_) | Step::Committed => self.node.pass().await,
            }
        }
        let fails = match step {
            Step::Statement(_) => 0,
            // Many questions are asked beside the transactions.
            Step::Read(_) => self.fails.load(Ordering::Relaxed) / 4,
            Step::Begin | Step::Commit | Step::Committed => self.fails.load(Ordering::Relaxed),
        };
        if !self.chance.percent(fails) {
            return Ok(());
        }
        self.chance.note(&format!("{} store fails at {step:?}", self.node.name));
        Err(if step == Step::Begin { Fault::Busy } else { Fault::Broken })
    }
}

impl Line for StoreLine {
    fn pass(&self, step: Step) -> Passing<'_, Result<(), Fault>> {
        Box::pin(self.take(step))
    }

    fn now_us(&self) -> i64 {
        self.chance.now_us()
    }

    fn committed(&self, statements: &[Statement]) {
        self.rules.committed(&self.chance, &self.node.name, statements);
    }
}

/// A replica's way to the blobs.
pub(crate) struct BlobWay {
    pub(crate) node: Node,
    pub(crate) chance: Arc<Chance>,
}

impl fmt::Debug for BlobWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobWay({})", self.node.name)
    }
}

impl Way for BlobWay {
    fn pass(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let (node, chance) = (self.node.clone(), self.chance.clone());
        Box::pin(async move {
            if is_within() {
                return !node.is_gone();
            }
            chance.nap(BLOB_MS).await;
            node.pass().await;
            true
        })
    }
}

/// The line of somebody who only looks.
pub(crate) struct Quiet(pub(crate) Arc<Chance>);

impl Line for Quiet {
    fn pass(&self, _: Step) -> Passing<'_, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }

    fn now_us(&self) -> i64 {
        self.0.now_us()
    }

    fn committed(&self, _: &[Statement]) {}
}
