//! A coordinator, its clients and an operator, each a process of the built binaries.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tributary_testing::{Process, free_port};

use crate::site;

/// How long anything may take before the test fails: far more than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// The folder of the built binaries. `cargo test --workspace` builds all of them, with the same
/// features as everything else; alone, `cargo test -p tributary` needs them built before.
fn binaries() -> &'static Path {
    let cli = Path::new(env!("CARGO_BIN_EXE_tributary"));
    let folder = cli.parent().expect("a folder");
    for name in ["tributary-coordinator", "tributary-client"] {
        let built = folder.join(name).is_file();
        assert!(built, "{name} is not built: run `cargo test --workspace`");
    }
    folder
}

pub(crate) struct World {
    dir: tempfile::TempDir,
    at: String,
    port: u16,
    database: Option<String>,
    coordinator: Option<Process>,
    clients: Vec<Option<Process>>,
}

/// A job of so many rounds and epochs on the sites' digits.
pub(crate) fn spec(rounds: u32, epochs: u32) -> String {
    format!(
        "[job]\nname = \"digits\"\nrounds = {rounds}\nseed = 11\n\
         [data]\nkind = \"image\"\nclasses = 10\n\
         [model]\ninput = {{ shape = [1, 8, 8] }}\n\
         layers = [{{ conv2d = {{ out = 8, kernel = 3, padding = 1 }} }}, \"relu\", \
         {{ max_pool2d = 2 }}, \"flatten\", {{ linear = 10 }}]\n\
         [train]\nlocal_epochs = {epochs}\nbatch_size = 4\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.05 }}\n\
         [cohort]\nmin_available_clients = 3\nmin_train_clients = 3\nmin_updates = 3\n\
         deadline_s = 600\nlease_s = 120\n"
    )
}

impl World {
    pub(crate) fn start(name: &str, database: Option<String>) -> Self {
        let dir = tempfile::Builder::new().prefix(&format!("tributary-{name}-")).tempdir();
        let port = free_port().expect("a port");
        let mut world = Self {
            dir: dir.expect("a folder"),
            at: format!("http://127.0.0.1:{port}"),
            port,
            database,
            coordinator: None,
            clients: Vec::new(),
        };
        world.start_coordinator();
        world
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the coordinator listens.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    pub(crate) fn start_coordinator(&mut self) {
        let mut command = Command::new(binaries().join("tributary-coordinator"));
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", self.port)]);
        command.arg("--data-dir").arg(self.dir.path().join("coordinator"));
        command.env("NO_COLOR", "1");
        if let Some(url) = &self.database {
            command.env("TRIBUTARY__DATABASE_URL", url);
        }
        let process = Process::spawn(command).expect("spawn");
        process.wait_for_line("serving", PATIENCE).expect("the coordinator serves");
        self.coordinator = Some(process);
    }

    pub(crate) fn kill_coordinator(&mut self) {
        self.coordinator.take().expect("running").sigkill().expect("killed");
    }

    pub(crate) fn stop_coordinator(&mut self) {
        let mut process = self.coordinator.take().expect("running");
        process.sigterm().expect("asked");
        assert!(process.wait(PATIENCE).expect("ended").success(), "a clean stop");
    }

    /// Sites 1 to `count` train; site 0 evaluates.
    pub(crate) fn add_clients(&mut self, count: usize) {
        self.write_sites(count);
        self.start_clients(count);
    }

    pub(crate) fn write_sites(&self, count: usize) {
        for i in 0..=count {
            site::write(self.dir.path(), i, count, &self.at);
        }
    }

    pub(crate) fn start_clients(&mut self, count: usize) {
        for i in 0..=count {
            self.clients.push(None);
            self.start_client(i);
        }
    }

    pub(crate) fn start_client(&mut self, i: usize) {
        let mut command = Command::new(binaries().join("tributary-client"));
        command.arg("run").arg("--config");
        command.arg(self.dir.path().join(format!("site-{i}/client.toml")));
        command.env("NO_COLOR", "1");
        self.clients[i] = Some(Process::spawn(command).expect("spawn"));
    }

    pub(crate) fn kill_client(&mut self, i: usize) {
        self.clients[i].take().expect("running").sigkill().expect("killed");
    }

    /// Cancels a job that may have ended by itself.
    pub(crate) fn end(&self, job: &str) {
        let _ = self.tributary(&["cancel", job]);
        self.wait_for(job);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        command.args(args).args(["--coordinator", &self.at]).current_dir(self.dir.path());
        command
    }

    fn tributary(&self, args: &[&str]) -> std::process::Output {
        self.command(args).output().expect("the operator's tool")
    }

    /// A command that goes on while other things happen.
    pub(crate) fn spawn(&self, args: &[&str]) -> Process {
        Process::spawn(self.command(args)).expect("the operator's tool")
    }

    /// What a command that was spawned said until it succeeded.
    pub(crate) fn said(&self, mut command: Process) -> String {
        let status = command.wait(PATIENCE).expect("it ended");
        let said = command.lines().join("\n");
        assert!(status.success(), "{said}");
        said
    }

    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.tributary(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tributary {args:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a command that fails says.
    pub(crate) fn fail(&self, args: &[&str]) -> String {
        let output = self.tributary(args);
        assert!(!output.status.success(), "tributary {args:?} should fail");
        String::from_utf8(output.stderr).expect("text")
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.run(&args)).expect("JSON")
    }

    pub(crate) fn submit(&self, spec: &str) -> String {
        let path = self.dir.path().join("job.toml");
        std::fs::write(&path, spec).expect("written");
        let job = self.json(&["submit", &path.display().to_string()]);
        job["job_id"].as_str().expect("an id").to_owned()
    }

    pub(crate) fn status(&self, job: &str) -> Value {
        self.json(&["status", job])
    }

    /// Waits for something to be true of a job.
    pub(crate) fn until(&self, job: &str, reached: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.status(job);
            if reached(&now) {
                return now;
            }
            assert!(Instant::now() < deadline, "never came to it: {now:#}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for words in what an operator sees of a job's first round and history.
    pub(crate) fn until_told(&self, job: &str, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut told = self.json(&["events", job]).to_string();
            let round = self.tributary(&["round", job, "1", "--output", "json"]);
            told += &String::from_utf8_lossy(&round.stdout);
            if told.contains(words) {
                return told;
            }
            assert!(Instant::now() < deadline, "never told {words:?}: {told}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn wait_for(&self, job: &str) -> Value {
        let ended = ["completed", "failed", "cancelled"];
        self.until(job, |job| ended.iter().any(|status| job["status"] == *status))
    }

    pub(crate) fn logs(&self) -> String {
        let processes = self.coordinator.iter().chain(self.clients.iter().flatten());
        processes.map(|p| p.lines().join("\n")).collect::<Vec<_>>().join("\n--\n")
    }

    /// What a client says whose pictures were cut short.
    pub(crate) fn client_with_truncated_images(&self) -> String {
        let config = site::write(self.dir.path(), 1, 3, &self.at);
        let images = self.dir.path().join("site-1/images.idx");
        let bytes = std::fs::read(&images).expect("images");
        std::fs::write(&images, &bytes[..bytes.len() - 1]).expect("written");
        let mut command = Command::new(binaries().join("tributary-client"));
        let output = command.arg("check").arg("--config").arg(config).output().expect("the client");
        assert!(!output.status.success(), "a cut file is refused");
        String::from_utf8(output.stderr).expect("text")
    }
}
