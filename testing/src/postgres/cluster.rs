//! An ephemeral cluster: one temporary folder, one server process, one watchdog over both.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;

use super::binaries::Binaries;
use super::server::Server;
use crate::account::Account;
use crate::port::free_port;
use crate::signal::{Target, send};
use crate::watchdog::Watchdog;

/// The superuser of the cluster; nobody needs a password, as only this machine can connect.
const USER: &str = "tributary";
/// More than a test binary's pools together.
const CONNECTIONS_MAX: &str = "max_connections=200";
/// A start, recovery after a kill included, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A stop in one mode, before the next rougher mode.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at the server's state.
const POLL: Duration = Duration::from_millis(10);
/// Free ports may be taken before the server binds them: so many are tried.
const PORTS_TRIED: u32 = 5;
/// Bytes of the server's log that an error shows.
const LOG_SHOWN: usize = 4000;

/// Stops whatever runs in the folder, and removes the folder, when the test process has ended.
/// The server may be between its start and its pid file, hence the tries.
const WATCH: &str = r#"while read -r _; do :; done
for _ in 1 2 3; do
  [ -d "$2" ] || exit 0
  "$1" stop -D "$2/data" -m immediate -t 10
  rm -rf "$2" && break
  sleep 1
done"#;

/// A cluster with its server; stopped and removed when dropped.
#[derive(Debug)]
pub(super) struct Cluster {
    programs: PathBuf,
    account: Option<Account>,
    port: u16,
    server: Server,
    /// The server process; `None` while it is stopped.
    process: Mutex<Option<Child>>,
    // In this order: the watchdog's own cleaning goes before the folder's.
    _watchdog: Watchdog,
    folder: TempDir,
}

impl Cluster {
    pub(super) fn start(binaries: Binaries) -> anyhow::Result<Self> {
        let account = Account::for_postgres()?;
        let folder = tempfile::Builder::new().prefix("tributary-postgres-").tempdir()?;
        if let Some(account) = account {
            account.own(folder.path())?;
        }
        let pg_ctl = binaries.folder.join("pg_ctl");
        let watched = [pg_ctl.as_os_str(), folder.path().as_os_str()];
        let watchdog = Watchdog::spawn(WATCH, &watched, account)?;
        initdb(&binaries.folder, folder.path(), account)?;

        let mut failure = None;
        for _ in 0..PORTS_TRIED {
            let port = free_port()?;
            match serve(&binaries.folder, folder.path(), account, port) {
                Ok(child) => {
                    let url = format!("postgres://{USER}@127.0.0.1:{port}/postgres");
                    let server = Server::ephemeral(url, binaries.psql);
                    let process = Mutex::new(Some(child));
                    let programs = binaries.folder;
                    let _watchdog = watchdog;
                    return Ok(Self {
                        programs,
                        account,
                        port,
                        server,
                        process,
                        _watchdog,
                        folder,
                    });
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| anyhow::anyhow!("no port was tried")))
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn kill_immediate(&self) -> anyhow::Result<()> {
        let mut process = self.lock();
        let mut child = process.take().context("the server does not run")?;
        stop(&mut child, &[libc::SIGQUIT, libc::SIGKILL])
    }

    pub(super) fn restart(&self) -> anyhow::Result<()> {
        let mut process = self.lock();
        if let Some(mut child) = process.take() {
            stop(&mut child, &[libc::SIGINT, libc::SIGQUIT, libc::SIGKILL])?;
        }
        *process = Some(serve(&self.programs, self.folder.path(), self.account, self.port)?);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut child) = self.lock().take() {
            // A destructor has nobody to tell; the watchdog tries once more.
            let _ = stop(&mut child, &[libc::SIGINT, libc::SIGQUIT, libc::SIGKILL]);
        }
    }
}

/// A command of the cluster: under its account, in its folder, deaf to the caller's `PG…` variables.
fn command(program: &Path, folder: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").env("TZ", "UTC").current_dir(folder).stdin(Stdio::null());
    if let Some(account) = account {
        account.assume(&mut command);
    }
    command
}

fn initdb(programs: &Path, folder: &Path, account: Option<Account>) -> anyhow::Result<()> {
    let mut initdb = command(&programs.join("initdb"), folder, account);
    initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--username", USER]);
    // Only the fresh files are left to the page cache; what the server writes is flushed as ever.
    initdb.arg("--no-sync").arg("--pgdata").arg(folder.join("data"));
    let output = initdb.output().context("run initdb")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "initdb in {}: {} (the account that Postgres runs under must reach the folder; TMPDIR moves it)",
        folder.display(),
        said.trim()
    );
    Ok(())
}

/// Starts the server and waits until it takes connections.
fn serve(
    programs: &Path,
    folder: &Path,
    account: Option<Account>,
    port: u16,
) -> anyhow::Result<Child> {
    let log = folder.join("server.log");
    let file = File::options().create(true).append(true).open(&log).context("open the log")?;
    let mut postgres = command(&programs.join("postgres"), folder, account);
    postgres.arg("-D").arg(folder.join("data")).arg("-p").arg(port.to_string());
    postgres.args(["-h", "127.0.0.1", "-k", "", "-c", CONNECTIONS_MAX]);
    // A group of its own: an interrupt at the terminal is for the tests, which then stop it.
    postgres.stdout(Stdio::null()).stderr(file).process_group(0);
    let mut child = postgres.spawn().context("start postgres")?;
    let deadline = Instant::now() + START_TIMEOUT;
    let why = loop {
        if is_ready(folder, child.id()) {
            return Ok(child);
        }
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
            Ok(None) => break format!("it was not ready after {START_TIMEOUT:?}"),
            Ok(Some(status)) => break format!("it ended with {status}"),
            Err(error) => break error.to_string(),
        }
    };
    // The reason is what matters; the watchdog looks after a server that cannot be stopped.
    let _ = stop(&mut child, &[libc::SIGQUIT, libc::SIGKILL]);
    let said = std::fs::read(&log).unwrap_or_default();
    let newest = String::from_utf8_lossy(&said[said.len().saturating_sub(LOG_SHOWN)..]);
    anyhow::bail!("postgres on port {port}: {why}\n{newest}")
}

/// Whether the pid file of this very process says `ready` (its eighth line, as `pg_ctl` reads it).
fn is_ready(folder: &Path, pid: u32) -> bool {
    let text = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines();
    lines.next().map(str::trim) == Some(pid.to_string().as_str())
        && lines.nth(6).map(str::trim) == Some("ready")
}

/// Sends the signals one after the other, from gentle to rough, until the process has ended.
fn stop(child: &mut Child, signals: &[i32]) -> anyhow::Result<()> {
    for signal in signals {
        if child.try_wait().context("wait for postgres")?.is_some() {
            return Ok(());
        }
        send(Target::Process(child.id()), *signal).context("signal postgres")?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if child.try_wait().context("wait for postgres")?.is_some() {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
    }
    anyhow::bail!("postgres {} does not end", child.id())
}
