//! Rounds with no training: what a round costs by itself. Coordinator and clients are processes of
//! their own over real gRPC; every update is durable before its receipt; fsync is on.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tributary_client::agent::{Agent, AgentConfig};
use tributary_client::observer::Log;
use tributary_client::rpc::Egress;
use tributary_client::trainer::{Control, Order, Trained, Trainer, TrainerError};
use tributary_coordinator::app::Coordinator;
use tributary_coordinator::config::Config;
use tributary_core::binding::Binding;
use tributary_core::metrics::Statistics;
use tributary_proto::v1;

use super::memory::{peak_rss_mb, rss_mb};
use crate::args::RoundsArgs;
use crate::connect::{federation, jobs, rounds, said};
use crate::jobs::watch::follow;

/// Classes of the bench's model: a linear layer of (features + 1) × 10 parameters.
const CLASSES: u32 = 10;
/// How long the clients may take to appear.
const APPEAR: Duration = Duration::from_secs(30);

/// A process that is killed and reaped when the bench ends, however it ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

pub(crate) async fn run(args: RoundsArgs) -> anyhow::Result<()> {
    ensure!(
        args.params.is_multiple_of(CLASSES) && args.params >= 2 * CLASSES,
        "--params: expected a multiple of {CLASSES} from {}, found {}",
        2 * CLASSES,
        args.params
    );
    let features = args.params / CLASSES - 1;
    let dir = tempfile::Builder::new().prefix("tributary-bench-").tempdir()?;
    let (coordinator, at) = start_coordinator(dir.path(), args.database.as_deref())?;
    let mut clients = Vec::new();
    for i in 1..=args.clients {
        clients.push(start_echo(&at, &format!("echo-{i}"), dir.path(), features)?);
    }
    appear(&at, args.clients as usize).await?;
    let idle_client = clients.first().and_then(|c| rss_mb(&c.pid()));
    let idle_coordinator = rss_mb(&coordinator.pid());
    let request = v1::CreateJobRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        spec: spec(features, args.rounds + 1, args.clients),
        validate_only: false,
    };
    let created = jobs(&at).await?.create_job(request).await.map_err(said)?.into_inner();
    let id = created.job.context("the coordinator made no job")?.job_id;
    let job = follow(&at, &id, |_| {}).await?;
    ensure!(job.status == "completed", "the job is {}: {}", job.status, job.reason);
    let mut times = round_times(&at, &id).await?;
    times.sort_by(f64::total_cmp);
    let percentile = |share: f64| {
        let index = (share * (times.len() - 1) as f64).round() as usize;
        times.get(index).copied().unwrap_or(0.0)
    };
    let database = match args.database {
        Some(_) => "postgres",
        None => "sqlite",
    };
    let line = json!({
        "bench": "rounds",
        "clients": args.clients,
        "params": args.params,
        "database": database,
        "rounds": times.len(),
        "round_ms": {
            "median": percentile(0.5),
            "p95": percentile(0.95),
            "max": percentile(1.0),
        },
        "coordinator_rss_mb": peak_rss_mb(&coordinator.pid()),
        "client_rss_mb": clients.first().and_then(|c| peak_rss_mb(&c.pid())),
        "idle_coordinator_rss_mb": idle_coordinator,
        "idle_client_rss_mb": idle_client,
        "fsync": true,
        "synchronous_commit": true,
    });
    println!("{line}");
    Ok(())
}

fn spec(features: u32, rounds: u32, clients: u32) -> String {
    format!(
        "[job]\nname = \"bench-rounds\"\nrounds = {rounds}\n\
         [data]\nkind = \"image\"\nclasses = {CLASSES}\n\
         [model]\ninput = {{ shape = [{features}] }}\nlayers = [{{ linear = {CLASSES} }}]\n\
         [train]\nlocal_epochs = 1\nbatch_size = 1\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n\
         [cohort]\nmin_available_clients = {clients}\nmin_train_clients = {clients}\n\
         min_updates = {clients}\n"
    )
}

/// From commit to commit, in milliseconds; the first round warms up.
async fn round_times(at: &str, job: &str) -> anyhow::Result<Vec<f64>> {
    let mut client = rounds(at).await?;
    let mut commits = Vec::new();
    let mut after_number = 0;
    loop {
        let request = v1::ListRoundsRequest { job: job.to_owned(), after_number, page_size: 1000 };
        let page = client.list_rounds(request).await.map_err(said)?.into_inner();
        commits.extend(page.rounds.iter().map(|round| round.updated_at_us));
        after_number = page.next_after_number;
        if after_number == 0 {
            break;
        }
    }
    let times: Vec<f64> =
        commits.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1000.0).collect();
    ensure!(!times.is_empty(), "no round was measured");
    Ok(times)
}

async fn appear(at: &str, clients: usize) -> anyhow::Result<()> {
    let deadline = std::time::Instant::now() + APPEAR;
    while std::time::Instant::now() < deadline {
        let listed = federation(at).await?.list_clients(v1::ListClientsRequest {}).await;
        if listed.map_err(said)?.into_inner().clients.len() >= clients {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the clients did not appear within {} s", APPEAR.as_secs())
}

fn start_coordinator(dir: &Path, database: Option<&str>) -> anyhow::Result<(Process, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "serve", "--dir"]).arg(dir.join("coordinator"));
    if let Some(url) = database {
        command.args(["--database", url]);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take();
    let process = Process(child);
    let mut line = String::new();
    BufReader::new(stdout.context("no output")?).read_line(&mut line)?;
    let at = line.trim().to_owned();
    ensure!(at.starts_with("http://"), "the coordinator did not start");
    Ok((process, at))
}

fn start_echo(at: &str, name: &str, dir: &Path, features: u32) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "echo", "--at", at, "--name", name]);
    command.arg("--dir").arg(dir.join(name)).args(["--features", &features.to_string()]);
    Ok(Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
}

/// The coordinator's process: prints its address, and serves until it is killed.
pub(crate) async fn serve(dir: &Path, database: Option<String>) -> anyhow::Result<()> {
    let mut config = Config::embedded(dir);
    if let Some(url) = database {
        config.database_url = url.into();
    }
    let mut coordinator = Coordinator::start(&config).await?;
    println!("http://{}", coordinator.address());
    coordinator.ended().await
}

/// A client's process: a real agent whose trainer only makes an update.
pub(crate) async fn echo(at: &str, name: &str, dir: PathBuf, features: u32) -> anyhow::Result<()> {
    let (coordinator, egress) = (at.to_owned(), Egress::default());
    let config = AgentConfig { coordinator, name: name.parse()?, state_dir: dir, egress };
    let agent = Agent::new(config, Arc::new(Echo { features }), Arc::new(Log));
    Ok(Box::pin(agent.run(CancellationToken::new())).await?)
}

/// Moves every weight a little, by another amount in every round.
struct Echo {
    features: u32,
}

impl Trainer for Echo {
    fn bindings(&self) -> Vec<Binding> {
        vec![Binding {
            name: "echo".to_owned(),
            kind: "image".to_owned(),
            classes: CLASSES,
            targets: 0,
            vocabulary: 0,
            shape: vec![self.features],
            train_examples: 100,
            evaluate_examples: 0,
        }]
    }

    fn train(&self, order: &Order<'_>, control: &dyn Control) -> Result<Trained, TrainerError> {
        let sign = if order.round.is_multiple_of(2) { -1e-3 } else { 1e-3 };
        let values = order.checkpoint.values();
        let update = values.iter().map(|value| value * 1e-3 + sign).collect();
        control.progress(1, 1);
        let statistics = Statistics::new(CLASSES);
        let statistics = statistics.map_err(|error| TrainerError::Unable(error.to_string()))?;
        Ok(Trained { update, examples: 100, statistics })
    }

    fn evaluate(&self, _: &Order<'_>, _: &dyn Control) -> Result<Statistics, TrainerError> {
        Err(TrainerError::Unable("an echo has nothing to evaluate on".to_owned()))
    }
}
