//! A Postgres server for tests: the one that `TRIBUTARY_TEST_POSTGRES_URL` names, else a cluster of
//! their own, made by `initdb`, on a free loopback port, gone when the test process is gone.
//!
//! Durability is at the server's defaults (`fsync` and `synchronous_commit` on), so what a test
//! sees survive a kill here survives it elsewhere.

mod binaries;
mod cluster;
mod server;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::skip::skip_unless_ci;
use binaries::Binaries;
use cluster::Cluster;
use server::Server;

/// The variable that names a server to use instead of a cluster of the tests' own.
pub const URL_VARIABLE: &str = "TRIBUTARY_TEST_POSTGRES_URL";

/// A server that gives out empty databases.
#[derive(Debug)]
pub struct Postgres {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Own(Cluster),
    Given(Server),
}

impl Postgres {
    /// The server that `TRIBUTARY_TEST_POSTGRES_URL` names, else a fresh cluster; `None`, and a
    /// `SKIP` line, where there are no Postgres programs.
    ///
    /// # Errors
    /// Where the cluster does not start, or where there are no programs and `CI` is `true`.
    pub fn start() -> anyhow::Result<Option<Self>> {
        match std::env::var(URL_VARIABLE) {
            Ok(url) => {
                let psql = Binaries::psql().context("psql is needed to make databases")?;
                Ok(Some(Self { source: Source::Given(Server::new(&url, psql)?) }))
            }
            Err(_) => Self::start_own(),
        }
    }

    /// A fresh cluster, whatever the environment says: for tests that stop and restart it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_own() -> anyhow::Result<Option<Self>> {
        let Some(binaries) = Binaries::find() else {
            skip_unless_ci(&format!(
                "no `initdb` on PATH or in /usr/lib/postgresql/*/bin: install a Postgres server \
                 (Debian: postgresql), or set {URL_VARIABLE}"
            ))?;
            return Ok(None);
        };
        let cluster = Cluster::start(binaries).context("start a Postgres cluster")?;
        Ok(Some(Self { source: Source::Own(cluster) }))
    }

    /// One server for the whole test binary, started by whoever asks first.
    ///
    /// It is never dropped (statics are not); its watchdog stops it and removes its files when the
    /// test process ends. Do not stop or restart it: other tests use it at the same time.
    ///
    /// # Errors
    /// As [`start`](Self::start), the same for everybody who asks.
    pub fn shared() -> anyhow::Result<Option<&'static Self>> {
        static SHARED: OnceLock<Result<Option<Postgres>, String>> = OnceLock::new();
        match SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:#}"))) {
            Ok(postgres) => Ok(postgres.as_ref()),
            Err(error) => anyhow::bail!("{error}"),
        }
    }

    /// Makes a new empty database and gives its URL, `postgres://USER@HOST:PORT/NAME`.
    ///
    /// On a server that was given by URL, it is dropped again when the test process ends.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn database(&self) -> anyhow::Result<String> {
        let name = unique_name()?;
        match &self.source {
            Source::Own(cluster) => cluster.server().create(&name),
            Source::Given(server) => server.create(&name),
        }
    }

    /// Whether the server is the tests' own, so that it can be stopped and restarted.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self.source, Source::Own(_))
    }

    /// Stops the server in `immediate` mode: every connection breaks, nothing is flushed, and the
    /// next start goes through crash recovery.
    ///
    /// # Errors
    /// Where the server is not the tests' own, or does not run.
    pub fn kill_immediate(&self) -> anyhow::Result<()> {
        self.own()?.kill_immediate()
    }

    /// Starts the server again on the same port and data; one that still runs is stopped before.
    ///
    /// # Errors
    /// Where the server is not the tests' own, or does not start.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.own()?.restart()
    }

    fn own(&self) -> anyhow::Result<&Cluster> {
        match &self.source {
            Source::Own(cluster) => Ok(cluster),
            Source::Given(_) => {
                anyhow::bail!("the server of {URL_VARIABLE} is not ours to stop: use start_own")
            }
        }
    }
}

/// A database name that no other test, process or earlier run on the same server uses.
fn unique_name() -> anyhow::Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("clock before 1970")?;
    Ok(format!("tributary_{}_{}_{count}", now.as_micros(), std::process::id()))
}
