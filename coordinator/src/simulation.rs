//! A replica inside a simulation: the rooms of [`crate::app::Coordinator`] on a store and blobs that it is
//! given, called without a port, a data folder or certificates.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::blobs::Blobs;
use crate::config::Config;
use crate::driver::{Hub, collect, supervise};
use crate::grpc;
use crate::replica::{Replica, converse};
use crate::store::Store;

pub use crate::blobs::simulated::{SimulatedBlobs, Trouble, Way};
pub use crate::grpc::simulated::{Call, Called};
pub use crate::sabotage::{Rule, break_rule};
pub use crate::store::simulated::{Fault, Line, Passing, SimulatedDatabase, Statement, Step};

/// A running replica.
pub struct SimulatedReplica {
    call: Call,
    stop: CancellationToken,
    quit: CancellationToken,
    supervisor: JoinHandle<()>,
    conversation: JoinHandle<()>,
}

impl SimulatedReplica {
    /// Starts it on the runtime that this is called in.
    #[must_use]
    pub fn start(store: Store, blobs: Blobs, config: &Config, name: String) -> Self {
        let lease = std::time::Duration::from_secs(config.driver_lease_s.into());
        let replica = Replica::new(name, lease);
        let (hub, outbox) = Hub::new(store, blobs, config, replica);
        let (stop, quit) = (CancellationToken::new(), CancellationToken::new());
        let conversation = tokio::spawn(converse(hub.clone(), None, outbox, quit.clone()));
        let supervisor = tokio::spawn(supervise(hub.clone(), stop.clone()));
        tokio::spawn(collect(hub.clone(), stop.clone()));
        let call = grpc::simulated::call(Arc::clone(&hub), config.limits, stop.clone());
        Self { call, stop, quit, supervisor, conversation }
    }

    /// What answers calls.
    #[must_use]
    pub fn call(&self) -> Call {
        self.call.clone()
    }

    /// Stops as a coordinator does that is asked to: its drivers hand back their leases.
    ///
    /// # Errors
    /// When a part of it had failed.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.supervisor.await?;
        self.quit.cancel();
        self.conversation.await?;
        Ok(())
    }
}
