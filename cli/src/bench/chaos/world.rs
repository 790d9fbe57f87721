//! A federation of real processes of the built binaries, whose parts can be killed and started again.
//! It serves the bench and the tests; what fails is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tributary_testing::{Postgres, Process, free_port};

/// How long anything may take before it counts as hung: far more than on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at a job.
const LOOK: Duration = Duration::from_millis(10);
/// Sites that train.
pub(crate) const SITES: usize = 3;
/// Rows of a site.
const ROWS: usize = 96;

/// What a world is made of.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The folder of `tributary`, `tributary-coordinator` and `tributary-client`.
    pub(crate) binaries: PathBuf,
    /// Coordinators over one database; SQLite, which serves one process, where it is 0.
    pub(crate) replicas: usize,
    /// How long a silent replica keeps its jobs.
    pub(crate) driver_lease_s: u32,
    /// `until_commit` or `always`.
    pub(crate) keep_updates: &'static str,
    /// Variables of every coordinator, such as where a bucket is.
    pub(crate) env: Vec<(String, String)>,
}

/// One coordinator's place, whether its process runs or not.
struct Replica {
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

/// A running federation; everything is killed and removed when it is dropped.
pub(crate) struct World {
    plan: Plan,
    replicas: Vec<Replica>,
    clients: Vec<Option<Process>>,
    pub(crate) postgres: Option<Postgres>,
    database: Option<String>,
    // The last to go: the others lie in it.
    dir: tempfile::TempDir,
}

/// A job that waits for its whole cohort, whose bytes no kill may change.
pub(crate) fn spec(rounds: u32, epochs: u32) -> String {
    format!(
        "[job]\nname = \"chaos\"\nrounds = {rounds}\nseed = 11\n\
         [data]\nkind = \"image\"\nclasses = 10\n\
         [model]\ninput = {{ shape = [1, 8, 8] }}\n\
         layers = [{{ conv2d = {{ out = 8, kernel = 3, padding = 1 }} }}, \"relu\", \
         {{ max_pool2d = 2 }}, \"flatten\", {{ linear = 256 }}, \"relu\", {{ linear = 10 }}]\n\
         [train]\nlocal_epochs = {epochs}\nbatch_size = 16\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.05 }}\n\
         [cohort]\nexact_replay = true\nmin_available_clients = {SITES}\n\
         min_train_clients = {SITES}\nmin_updates = {SITES}\nlease_s = 2\n\
         [evaluation]\nfinal = false\n"
    )
}

/// The same job with a model of two parts (2.3 million values), so that an upload is cut between them.
#[allow(dead_code)] // the bench alone draws such jobs
pub(crate) fn two_parts(rounds: u32, epochs: u32) -> String {
    spec(rounds, epochs).replace(
        "\"flatten\", { linear = 256 }",
        "\"flatten\", { linear = 1536 }, \"relu\", { linear = 1400 }",
    )
}

impl World {
    /// Starts coordinators and sites, and waits until they serve.
    pub(crate) fn start(plan: Plan) -> anyhow::Result<Self> {
        for name in ["tributary", "tributary-coordinator", "tributary-client"] {
            let built = plan.binaries.join(name).is_file();
            ensure!(built, "{name} is not beside this program: build the whole workspace");
        }
        let postgres = match plan.replicas {
            0 => None,
            _ => Some(Postgres::start_own()?.context("no Postgres programs: install a server")?),
        };
        let database = postgres.as_ref().map(Postgres::database).transpose()?;
        let dir = tempfile::Builder::new().prefix("tributary-chaos-").tempdir()?;
        let mut world =
            Self { plan, replicas: Vec::new(), clients: Vec::new(), postgres, database, dir };
        for i in 0..world.plan.replicas.max(1) {
            let dir = world.dir.path().join(format!("replica-{i}"));
            world.replicas.push(Replica { dir, port: free_port()?, process: None });
        }
        // One after the other: the first one migrates the database.
        for i in 0..world.replicas.len() {
            world.start_replica(i, &[])?;
        }
        for i in 0..SITES {
            world.write_site(i)?;
            world.clients.push(None);
            world.start_client(i, &[])?;
        }
        Ok(world)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    #[allow(dead_code)] // the bench alone
    pub(crate) fn replicas(&self) -> usize {
        self.replicas.len()
    }

    fn urls(&self) -> Vec<String> {
        self.replicas.iter().map(|r| format!("http://127.0.0.1:{}", r.port)).collect()
    }

    /// Starts a coordinator, and waits until it serves.
    pub(crate) fn start_replica(&mut self, i: usize, env: &[(&str, &str)]) -> anyhow::Result<()> {
        let replica = &self.replicas[i];
        let mut command = Command::new(self.plan.binaries.join("tributary-coordinator"));
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", replica.port)]);
        command.arg("--data-dir").arg(&replica.dir).env("NO_COLOR", "1");
        command.env("TRIBUTARY__BLOBS", self.dir.path().join("blobs"));
        command.env("TRIBUTARY__DRIVER_LEASE_S", self.plan.driver_lease_s.to_string());
        command.env("TRIBUTARY__KEEP_UPDATES", self.plan.keep_updates);
        command.envs(self.plan.env.iter().map(|(name, value)| (name, value)));
        command.envs(env.iter().copied());
        if let Some(url) = &self.database {
            command.env("TRIBUTARY__DATABASE_URL", url);
        }
        let process = Process::spawn(command)?;
        process.wait_for_line("serving", PATIENCE)?;
        self.replicas[i].process = Some(process);
        Ok(())
    }

    pub(crate) fn start_client(&mut self, i: usize, env: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut command = Command::new(self.plan.binaries.join("tributary-client"));
        command.arg("run").arg("--config").arg(self.site(i).join("client.toml"));
        command.env("NO_COLOR", "1").envs(env.iter().copied());
        let process = Process::spawn(command)?;
        process.wait_for_line("started", PATIENCE)?;
        self.clients[i] = Some(process);
        Ok(())
    }

    pub(crate) fn replica(&mut self, i: usize) -> anyhow::Result<&mut Process> {
        self.replicas[i].process.as_mut().context("the replica does not run")
    }

    pub(crate) fn client(&mut self, i: usize) -> anyhow::Result<&mut Process> {
        self.clients[i].as_mut().context("the client does not run")
    }

    /// Waits until a process has ended by itself.
    #[allow(dead_code)] // the tests' alone
    pub(crate) fn await_end(process: &mut Process) -> anyhow::Result<()> {
        process.wait(PATIENCE).map(|_| ())
    }

    /// Lets a site's client know this one address alone, from its next start on.
    #[allow(dead_code)] // the tests' alone
    pub(crate) fn route_client(&self, i: usize, port: u16) -> anyhow::Result<()> {
        let path = self.site(i).join("client.toml");
        let text = std::fs::read_to_string(&path)?;
        let (_, rest) = text.split_once('\n').context("a first line")?;
        let text = format!("coordinator = [\"http://127.0.0.1:{port}\"]\n{rest}");
        Ok(std::fs::write(&path, text)?)
    }

    /// The port of a coordinator.
    #[allow(dead_code)] // the tests' alone
    pub(crate) fn port(&self, i: usize) -> u16 {
        self.replicas[i].port
    }

    pub(crate) fn site(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("site-{i}"))
    }

    /// A site's rows, and its client's file; each site asks another replica first.
    fn write_site(&self, i: usize) -> anyhow::Result<()> {
        let dir = self.site(i);
        std::fs::create_dir_all(&dir)?;
        let set = smartcore::dataset::digits::load_dataset();
        let rows = (i..set.target.len()).step_by(SITES).take(ROWS);
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for row in rows {
            let pixels = &set.data[row * 64..(row + 1) * 64];
            images.extend(pixels.iter().map(|&v| (v * 15.0).round() as u8));
            labels.push(set.target[row] as u8);
        }
        let count = u32::try_from(labels.len())?;
        std::fs::write(dir.join("images.idx"), idx(&[count, 8, 8], &images))?;
        std::fs::write(dir.join("labels.idx"), idx(&[count], &labels))?;
        let mut urls = self.urls();
        let first = i % urls.len();
        urls.rotate_left(first);
        // The last site takes jobs of one name alone, and a quarter of each site's rows is held out.
        let policy = if i + 1 == SITES { "[policy]\njobs = [\"chaos\"]\n" } else { "" };
        let text = format!(
            "coordinator = {urls:?}\nname = \"site-{i}\"\nstate_dir = \"state\"\nthreads = 1\n\
             [data]\nname = \"digits\"\nformat = \"idx\"\nclasses = 10\nimages = \"images.idx\"\n\
             labels = \"labels.idx\"\nvalidation_fraction = 0.25\n{policy}"
        );
        Ok(std::fs::write(dir.join("client.toml"), text)?)
    }

    /// Asks whichever replica answers, again and again while none does.
    pub(crate) fn ask(&self, args: &[&str]) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut command = Command::new(self.plan.binaries.join("tributary"));
            command.args(args).args(["--coordinator", &self.urls().join(",")]);
            let output = command.args(["--output", "json"]).current_dir(self.folder()).output()?;
            if output.status.success() {
                return Ok(serde_json::from_slice(&output.stdout)?);
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(Instant::now() < deadline, "tributary {args:?}: {said}\n{}", self.logs());
            std::thread::sleep(LOOK);
        }
    }

    /// Submits a job; asked again under the same key, it is the same job.
    pub(crate) fn submit(&self, spec: &str, key: &str) -> anyhow::Result<String> {
        let path = self.folder().join("job.toml");
        std::fs::write(&path, spec)?;
        let path = path.display().to_string();
        let job = self.ask(&["submit", &path, "--request-id", key])?;
        Ok(job["job_id"].as_str().context("an id")?.to_owned())
    }

    /// Submits a job without waiting for the answer: whoever would answer may be killed first.
    #[allow(dead_code)] // the tests' alone
    pub(crate) fn submit_beside(&self, spec: &str, key: &str) -> anyhow::Result<Process> {
        let path = self.folder().join("job.toml");
        std::fs::write(&path, spec)?;
        let mut command = Command::new(self.plan.binaries.join("tributary"));
        command.arg("submit").arg(&path).args(["--request-id", key]);
        command.args(["--coordinator", &self.urls().join(",")]);
        Process::spawn(command)
    }

    /// Asks something of a job without waiting for the answer.
    #[allow(dead_code)] // the tests' alone
    pub(crate) fn ask_beside(&self, verb: &str, job: &str) -> anyhow::Result<Process> {
        let mut command = Command::new(self.plan.binaries.join("tributary"));
        command.args([verb, job]).args(["--coordinator", &self.urls().join(",")]);
        Process::spawn(command)
    }

    pub(crate) fn status(&self, job: &str) -> anyhow::Result<Value> {
        self.ask(&["status", job])
    }

    /// Waits for something to be true of a job.
    pub(crate) fn until(
        &self,
        job: &str,
        reached: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.status(job)?;
            if reached(&now) {
                return Ok(now);
            }
            ensure!(Instant::now() < deadline, "never came to it: {now:#}\n{}", self.logs());
            std::thread::sleep(LOOK);
        }
    }

    /// Waits for a job's end; each of its receipts counted, or it could not be completed.
    pub(crate) fn finish(&self, job: &str) -> anyhow::Result<Value> {
        let done = self.until(job, ended)?;
        ensure!(done["status"] == "completed", "the job ended: {done:#}\n{}", self.logs());
        for outcome in self.outcomes(job)?.keys() {
            ensure!(["folded", "scored"].contains(&outcome.as_str()), "{outcome}: {done:#}");
        }
        Ok(done)
    }

    /// How many receipts of an ended job's rounds came to which outcome; each of them has one.
    pub(crate) fn outcomes(&self, job: &str) -> anyhow::Result<BTreeMap<String, u32>> {
        let mut outcomes = BTreeMap::new();
        let rounds = self.ask(&["rounds", job])?;
        let numbers: BTreeSet<u64> = rounds
            .as_array()
            .context("a list")?
            .iter()
            .filter_map(|round| round["number"].as_u64())
            .collect();
        for number in numbers {
            let round = self.ask(&["round", job, &number.to_string()])?;
            for task in round["tasks"].as_array().context("tasks")? {
                let text = |key: &str| task[key].as_str().unwrap_or_default();
                let receipt = !text("update_digest").is_empty();
                ensure!(receipt != text("outcome").is_empty(), "no outcome of its own: {task:#}");
                if receipt {
                    *outcomes.entry(text("outcome").to_owned()).or_insert(0) += 1;
                }
            }
        }
        Ok(outcomes)
    }

    /// Every round's result digest, in order.
    pub(crate) fn digests(&self, job: &str) -> anyhow::Result<Vec<String>> {
        let rounds = self.ask(&["rounds", job])?;
        let rounds = rounds.as_array().context("a list")?.iter();
        let committed = rounds.filter(|round| round["phase"] == "committed");
        Ok(committed.map(|r| r["result_digest"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// What an offline replay says of a job. The database must be Postgres: SQLite's is in use.
    #[allow(dead_code)] // the tests' alone
    pub(crate) fn verify(&self, job: &str) -> anyhow::Result<Value> {
        let mut command = Command::new(self.plan.binaries.join("tributary-coordinator"));
        command.args(["verify", job, "--data-dir"]).arg(self.folder().join("verifier"));
        command.env("TRIBUTARY__BLOBS", self.folder().join("blobs"));
        command.envs(self.plan.env.iter().map(|(name, value)| (name, value)));
        if let Some(url) = &self.database {
            command.env("TRIBUTARY__DATABASE_URL", url);
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).with_context(|| format!("no JSON: {said}"))
    }

    /// The first part of an update that a round accepted.
    #[allow(dead_code)] // the tests' alone
    pub(crate) fn accepted_part(&self, job: &str, round: u32) -> anyhow::Result<PathBuf> {
        let told = self.ask(&["round", job, &round.to_string()])?;
        let tasks = told["tasks"].as_array().context("tasks")?;
        let task = tasks.iter().find(|task| task["state"] == "accepted").context("no update")?;
        let text = |key: &str| task[key].as_str().context("a text");
        let digest = text("update_digest")?.trim_start_matches("sha256:");
        let folder = self.folder().join("blobs/updates").join(job).join(format!("{round:06}"));
        Ok(folder.join(text("task_id")?).join(digest).join("00000"))
    }

    /// What all processes said.
    pub(crate) fn logs(&self) -> String {
        let replicas = self.replicas.iter().filter_map(|r| r.process.as_ref());
        let processes = replicas.chain(self.clients.iter().flatten());
        processes.map(|p| p.lines().join("\n")).collect::<Vec<_>>().join("\n--\n")
    }
}

/// Whether a job has ended.
pub(crate) fn ended(job: &Value) -> bool {
    ["completed", "failed", "cancelled"].iter().any(|status| job["status"] == *status)
}

fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    for size in sizes {
        file.extend_from_slice(&size.to_be_bytes());
    }
    file.extend_from_slice(bytes);
    file
}
