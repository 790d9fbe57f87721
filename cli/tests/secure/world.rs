//! A federation as its owner sets it up: authority, tokens, enrolment, each step a built binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tributary_testing::{Process, free_port};

use crate::site;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn binary(name: &str) -> PathBuf {
    let cli = Path::new(env!("CARGO_BIN_EXE_tributary"));
    let path = cli.parent().expect("a folder").join(name);
    assert!(path.is_file(), "{name} is not built: run `cargo test --workspace`");
    path
}

pub(crate) struct World {
    database: Option<String>,
    ttl_s: u32,
    log: &'static str,
    ports: Vec<u16>,
    pub(crate) coordinators: Vec<Process>,
    pub(crate) clients: Vec<Process>,
    /// What was ever secret: tokens.
    pub(crate) secrets: Vec<String>,
    /// Dropped last: processes that still run would write into it while it is removed.
    dir: tempfile::TempDir,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What short-lived processes said, errors and logs; tokens pass just there.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The lines that short-lived processes of every test of this binary said.
pub(crate) fn said_in_passing() -> Vec<String> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Runs a command to its end, keeping what it says.
fn end(command: &mut Command) -> Output {
    let output: Output = command.output().expect("it runs");
    let lines = text(&output.stderr).lines().map(str::to_owned).collect::<Vec<_>>();
    SAID.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
    output
}

pub(crate) fn succeed(mut command: Command) -> String {
    let output = end(&mut command);
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn fail(mut command: Command) -> String {
    let output = end(&mut command);
    assert!(!output.status.success(), "{command:?} should fail: {}", text(&output.stdout));
    text(&output.stderr)
}

/// The certificates in an identity's file.
pub(crate) fn certificates(identity: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(identity).unwrap_or_default();
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    blocks.map(|block| block.trim().to_owned()).collect()
}

impl World {
    /// An authority, one coordinator, and its admin `ada`.
    pub(crate) fn start(
        name: &str,
        database: Option<String>,
        ttl_s: u32,
        log: &'static str,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix(&format!("tributary-{name}-")).tempdir();
        let dir = dir.expect("a folder");
        let mut world = Self {
            dir,
            database,
            ttl_s,
            log,
            ports: Vec::new(),
            coordinators: Vec::new(),
            clients: Vec::new(),
            secrets: Vec::new(),
        };
        succeed(world.coordinator(&["ca", "init", "--federation", "hospitals"], 0));
        let token = succeed(world.coordinator(&["token", "--name", "ada", "--role", "admin"], 0));
        world.secrets.push(token.trim().to_owned());
        world.add_coordinator();
        let mut enroll = world.tributary(&["enroll"], "ada", 0);
        enroll.env("TRIBUTARY_TOKEN", token.trim());
        assert!(succeed(enroll).contains("spiffe://hospitals/admin/ada"));
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of a coordinator: replica `i` has a data folder of its own, blobs apart from which
    /// it shares everything.
    pub(crate) fn coordinator(&self, args: &[&str], i: usize) -> Command {
        let mut command = Command::new(binary("tributary-coordinator"));
        command.args(args).arg("--data-dir").arg(self.path(&format!("coordinator-{i}")));
        command.env("TRIBUTARY__CA_DIR", self.path("ca"));
        command.env("TRIBUTARY__CERTIFICATE_TTL_S", self.ttl_s.to_string());
        command.env("TRIBUTARY__DISK_RESERVE_MB", "0");
        command.env("NO_COLOR", "1").env("RUST_LOG", self.log);
        if let Some(url) = &self.database {
            command.env("TRIBUTARY__DATABASE_URL", url);
        }
        command
    }

    pub(crate) fn add_coordinator(&mut self) {
        let i = self.ports.len();
        self.ports.push(free_port().expect("a port"));
        let listen = format!("127.0.0.1:{}", self.ports[i]);
        let command = self.coordinator(&["serve", "--listen", &listen], i);
        let process = Process::spawn(command).expect("spawn");
        process.wait_for_line("serving", PATIENCE).expect("the coordinator serves");
        self.coordinators.push(process);
    }

    /// The same replica, started again.
    pub(crate) fn restart_coordinator(&mut self, i: usize) {
        let listen = format!("127.0.0.1:{}", self.ports[i]);
        let command = self.coordinator(&["serve", "--listen", &listen], i);
        self.coordinators[i] = Process::spawn(command).expect("spawn");
        self.coordinators[i].wait_for_line("serving", PATIENCE).expect("it serves again");
    }

    pub(crate) fn at(&self, replica: usize) -> String {
        format!("https://localhost:{}", self.ports[replica])
    }

    /// The operator's tool, as somebody, at a replica.
    pub(crate) fn tributary(&self, args: &[&str], who: &str, replica: usize) -> Command {
        self.tributary_at(&self.at(replica), args, who)
    }

    /// The operator's tool, with a coordinator's address as somebody else knows it.
    pub(crate) fn tributary_at(&self, address: &str, args: &[&str], who: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        command.args(args).args(["--coordinator", address]);
        command.arg("--identity").arg(self.path(who));
        command.env("RUST_LOG", self.log).env("NO_COLOR", "1");
        command
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&succeed(self.tributary(&args, "ada", 0))).expect("JSON")
    }

    /// Site `i` of `sites`, enrolled: its client's file.
    pub(crate) fn enroll_site(&mut self, i: usize, sites: usize, more: &str) -> PathBuf {
        let config = site::write(self.dir.path(), i, sites, &self.at(0));
        let mut file = std::fs::read_to_string(&config).expect("a file");
        file.push_str(more);
        std::fs::write(&config, file).expect("written");
        let name = format!("site-{i}");
        let created = self.json(&["token", "create", "--name", &name, "--ttl", "10m"]);
        let token = created["token"].as_str().expect("a token").to_owned();
        let mut command = self.client(&["enroll", &self.at(0)], &config);
        command.args(["--token", &token]);
        succeed(command);
        self.secrets.push(token);
        config
    }

    pub(crate) fn client(&self, args: &[&str], config: &Path) -> Command {
        let mut command = Command::new(binary("tributary-client"));
        command.args(args).arg("--config").arg(config);
        command.env("NO_COLOR", "1").env("RUST_LOG", self.log);
        command
    }

    /// Starts the agent of an enrolled site.
    pub(crate) fn start_site(&mut self, config: &Path) {
        self.clients.push(Process::spawn(self.client(&["run"], config)).expect("spawn"));
    }

    pub(crate) fn run_site(&mut self, i: usize, sites: usize, more: &str) -> PathBuf {
        let config = self.enroll_site(i, sites, more);
        self.start_site(&config);
        config
    }

    pub(crate) fn submit(&self, spec: &str) -> String {
        let path = self.path("job.toml");
        std::fs::write(&path, spec).expect("written");
        let job = self.json(&["submit", &path.display().to_string()]);
        job["job_id"].as_str().expect("an id").to_owned()
    }

    /// Waits for something to become true.
    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            if Instant::now() > deadline {
                let processes = self.coordinators.iter().chain(&self.clients);
                let logs: Vec<String> = processes.map(|p| p.lines().join("\n")).collect();
                panic!("never came to it: {what}\n{}", logs.join("\n--\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn completed(&self, job: &str) -> Value {
        self.until("the job ends", || {
            let job = self.json(&["status", job]);
            ["completed", "failed", "cancelled"].contains(&job["status"].as_str()?).then_some(job)
        })
    }

    /// Everything that any process said, those included that ended long ago.
    pub(crate) fn said(&self) -> Vec<String> {
        let running = self.coordinators.iter().chain(&self.clients).flat_map(Process::lines);
        running.chain(said_in_passing()).collect()
    }

    /// The port of a replica.
    pub(crate) fn port(&self, replica: usize) -> u16 {
        self.ports[replica]
    }
}

/// A job on the sites' digits.
pub(crate) fn spec(rounds: u32, clients: u32) -> String {
    format!(
        "[job]\nname = \"digits\"\nrounds = {rounds}\nseed = 11\n\
         [data]\nkind = \"image\"\nclasses = 10\n\
         [model]\ninput = {{ shape = [1, 8, 8] }}\nlayers = [\"flatten\", {{ linear = 10 }}]\n\
         [train]\nlocal_epochs = 2\nbatch_size = 16\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.05 }}\n\
         [cohort]\nmin_available_clients = {clients}\nmin_train_clients = {clients}\n\
         min_updates = {clients}\ndeadline_s = 600\nlease_s = 120\n"
    )
}
