//! A coordinator put together: store, blobs, drivers, door; started and stopped as one.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::authority::Keeper;
use crate::blobs::Blobs;
use crate::config::Config;
use crate::driver::{Hub, collect, supervise};
use crate::grpc;
use crate::replica::{Replica, converse};
use crate::store::{By, Store};

/// A running coordinator.
pub struct Coordinator {
    address: SocketAddr,
    secure: bool,
    stop: CancellationToken,
    /// Ends the conversation with other replicas, which outlasts the drivers: they say goodbye.
    quit: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
    supervisor: JoinHandle<()>,
    conversation: JoinHandle<()>,
    store: Store,
    /// Held for as long as this replica's name is in use.
    _alone: File,
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
        let alone = lock_folder(data_dir)?;
        let keeper = open_keeper(config)?;
        let store = open_store(config).await?;
        if keeper.is_none() {
            check_nobody_enrolled(&store, &config.ca_dir).await?;
        }
        note_start(&store, keeper.as_deref()).await?;
        let blobs = Blobs::open(config).await;
        let blobs = blobs.with_context(|| format!("cannot open the blobs in {}", config.blobs))?;
        let lease = Duration::from_secs(config.driver_lease_s.into());
        let replica = Replica::new(replica_id(data_dir)?, lease);
        let listener = grpc::bind(config.listen).await.with_context(|| {
            format!("cannot listen on {}: is a coordinator running?", config.listen)
        })?;
        let address = listener.local_addr().context("cannot read the bound address")?;
        let secure = keeper.is_some();
        let (hub, outbox) = Hub::new(store.clone(), blobs, config, replica);
        let session = hub.replica.open(&hub).await.context("cannot listen to other replicas")?;
        let (stop, quit) = (CancellationToken::new(), CancellationToken::new());
        let conversation = tokio::spawn(converse(hub.clone(), session, outbox, quit.clone()));
        let supervisor = tokio::spawn(supervise(hub.clone(), stop.clone()));
        tokio::spawn(collect(hub.clone(), stop.clone()));
        let serving = grpc::serve(hub, keeper, config.limits, listener, stop.clone());
        let server = tokio::spawn(async move { serving.await.context("the server failed") });
        Ok(Self {
            address,
            secure,
            stop,
            quit,
            server,
            supervisor,
            conversation,
            store,
            _alone: alone,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as clients write it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.address)
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
        // Jobs are handed over at once; open calls may take their time.
        self.supervisor.await.context("the supervisor's task failed")?;
        self.quit.cancel();
        self.conversation.await.context("the conversation's task failed")?;
        let served = self.server.await.context("the server's task failed")?;
        self.store.close().await;
        served
    }
}

/// The certificates, where there is an authority; without one only this machine may reach the port.
fn open_keeper(config: &Config) -> anyhow::Result<Option<Arc<Keeper>>> {
    let mut names = config.server_names.clone();
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    if !config.listen.ip().is_unspecified() && !config.listen.ip().is_loopback() {
        names.push(config.listen.ip().to_string());
    }
    let ttl = Duration::from_secs(config.certificate_ttl_s.into());
    let keeper = Keeper::open(&config.ca_dir, names, ttl).context("cannot use the authority")?;
    if keeper.is_none() {
        anyhow::ensure!(
            config.listen.ip().is_loopback(),
            "{} is no loopback address, and there is no certificate authority in {}: run \
             `tributary-coordinator ca init`, or anybody who reaches the port could read models and \
             join",
            config.listen,
            config.ca_dir.display()
        );
        tracing::warn!(
            "no certificate authority: whoever is on this machine may do everything (`ca init` \
             makes one)"
        );
    }
    Ok(keeper.map(Arc::new))
}

/// A federation whose members have certificates is never served without: somebody lost the authority's
/// folder, or pointed at another one.
async fn check_nobody_enrolled(store: &Store, ca_dir: &Path) -> anyhow::Result<()> {
    let enrolled = store.identities().await.context("cannot read who is enrolled")?.len();
    anyhow::ensure!(
        enrolled == 0,
        "the database has {enrolled} identities, and {} holds no certificate authority: whoever is on \
         this machine could do everything. Set ca_dir to the authority's folder, or restore it",
        ca_dir.display()
    );
    Ok(())
}

async fn note_start(store: &Store, keeper: Option<&Keeper>) -> anyhow::Result<()> {
    let by = By { who: "local".to_owned(), address: "local".to_owned() };
    let detail = keeper.map_or("without certificates".to_owned(), |k| k.held().summary());
    let target = concat!("tributary-coordinator ", env!("CARGO_PKG_VERSION")).to_owned();
    let event = by.did("coordinator_started", target, detail);
    store.audit(&event).await.context("cannot write to the audit")
}

pub(crate) async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let store = Store::open(config.database_url.reveal()).await.with_context(|| {
        format!("cannot open {}", crate::config::redact(config.database_url.reveal()))
    })?;
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

/// One process a data folder: two replicas of one name would take each other's jobs for ever.
fn lock_folder(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join("serve.lock");
    let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let taken = lock.try_lock();
    taken.map_err(|_| {
        anyhow::anyhow!(
            "another coordinator runs in {}: each replica needs a data_dir of its own (they share \
             database_url and blobs)",
            data_dir.display()
        )
    })?;
    Ok(lock)
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
