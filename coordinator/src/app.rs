//! A coordinator put together: store, blobs, drivers, door; started and stopped as one.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::blobs::Blobs;
use crate::config::Config;
use crate::driver::{Hub, supervise};
use crate::grpc;
use crate::store::Store;

/// A running coordinator.
pub struct Coordinator {
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
    supervisor: JoinHandle<()>,
    store: Store,
}

impl Coordinator {
    /// Opens everything, applies migrations, and serves.
    ///
    /// # Errors
    /// When the data folder, the database or the address cannot be had.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let data_dir = &config.data_dir;
        std::fs::create_dir_all(data_dir)
            .with_context(|| format!("cannot make the data folder {}", data_dir.display()))?;
        let store = open_store(config).await?;
        let blobs = Blobs::local(&data_dir.join("blobs")).context("cannot open the blob folder")?;
        let replica = replica_id(data_dir)?;
        let listener = grpc::bind(config.listen).await.with_context(|| {
            format!("cannot listen on {}: is a coordinator running?", config.listen)
        })?;
        let address = listener.local_addr().context("cannot read the bound address")?;
        let hub = Hub::new(store.clone(), blobs, config.keep_updates, replica);
        let stop = CancellationToken::new();
        let supervisor = tokio::spawn(supervise(hub.clone(), stop.clone()));
        let serving = grpc::serve(hub, listener, stop.clone());
        let server = tokio::spawn(async move { serving.await.context("the server failed") });
        Ok(Self { address, stop, server, supervisor, store })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server ends by itself, which is a failure.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        (&mut self.server).await.context("the server's task failed")?
    }

    /// Stops: drivers hand back their leases, open calls finish within seconds.
    ///
    /// # Errors
    /// When the server had failed.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let served = self.server.await.context("the server's task failed")?;
        self.supervisor.await.context("the supervisor's task failed")?;
        self.store.close().await;
        served
    }
}

async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let store = Store::open(&config.database_url)
        .await
        .with_context(|| format!("cannot open {}", crate::config::redact(&config.database_url)))?;
    store.migrate().await.context("cannot migrate the database")?;
    store.check_schema().await.context("the database has another schema")?;
    Ok(store)
}

/// Applies migrations and nothing else.
///
/// # Errors
/// When the database cannot be had or migrated.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data folder {}", config.data_dir.display()))?;
    let store = open_store(config).await?;
    store.close().await;
    Ok(())
}

/// A name that stays over restarts: whoever has this data folder takes its own leases back.
fn replica_id(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join("replica-id");
    if let Ok(id) = std::fs::read_to_string(&path) {
        let id = id.trim().to_owned();
        if !id.is_empty() && id.len() <= 64 {
            return Ok(id);
        }
    }
    let id = uuid::Uuid::new_v4().to_string();
    std::fs::write(&path, &id).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(id)
}
