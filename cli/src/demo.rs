//! `tributary demo`: a whole federation on this machine. The coordinator is the real one, the
//! clients are real agents over real gRPC on loopback, and what is learnt is real.

mod data;
mod report;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tributary_client::agent::{Agent, AgentConfig};
use tributary_client::trainer::LocalTrainer;
use tributary_coordinator::app::Coordinator;
use tributary_coordinator::config::Config;
use tributary_core::spec::JobSpec;
use tributary_learning::Compute;
use tributary_proto::v1;

use crate::args::{DemoArgs, Output};
use crate::connect::{jobs, said};
use crate::jobs::model::fetch;
use crate::jobs::watch::follow;
use data::{Shares, load};
use report::Report;
use view::View;

const DIGITS: &str = include_str!("demo/digits.toml");
const MNIST: &str = include_str!("demo/mnist.toml");

pub(crate) async fn run(args: DemoArgs, out: Output) -> anyhow::Result<()> {
    let text = spec_text(&args)?;
    let spec = JobSpec::parse(&text).map_err(|faults| anyhow::anyhow!("the spec: {faults}"))?;
    let dir = demo_dir(args.dir.as_deref())?;
    let shares = load(args.data.as_deref(), &args.partition, args.clients, spec.seed)?;
    std::fs::write(dir.join("job.toml"), &text).context("cannot write the spec")?;

    let mut config = Config::embedded(&dir.join("coordinator"));
    if let Some(url) = args.database.clone() {
        config.database_url = url;
    }
    let coordinator = Coordinator::start(&config).await?;
    let at = format!("http://{}", coordinator.address());
    let view = View::new(out, &shares, &spec, &at, &dir);
    let stop = CancellationToken::new();
    let mut agents = start_agents(&at, &dir, shares, &view, &stop)?;
    let finished = tokio::select! {
        finished = federate(&at, &text, &view, &dir) => finished,
        failed = first_failure(&mut agents) => Err(failed),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    stop.cancel();
    while let Some(ended) = agents.join_next().await {
        ended.context("an agent's task failed")??;
    }
    coordinator.stop().await?;
    view.finish(&finished?, &dir, &config)
}

/// The demo's own spec with the number of rounds and clients that were asked for, or the user's.
fn spec_text(args: &DemoArgs) -> anyhow::Result<String> {
    if let Some(path) = &args.spec {
        return std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()));
    }
    let text = if args.data.is_some() { MNIST } else { DIGITS };
    let clients = format!("min_available_clients = {}", args.clients);
    let mut text = text.replace("min_available_clients = 4", &clients);
    if let Some(rounds) = args.rounds {
        let line = text.lines().find(|line| line.starts_with("rounds = ")).unwrap_or_default();
        text = text.replace(&line.to_owned(), &format!("rounds = {rounds}"));
    }
    Ok(text)
}

fn demo_dir(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = match given {
        Some(dir) => dir.to_owned(),
        // It stays: the model is what the user came for.
        None => tempfile::Builder::new().prefix("tributary-demo-").tempdir()?.keep(),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    dir.canonicalize().with_context(|| format!("cannot use {}", dir.display()))
}

type Agents = JoinSet<anyhow::Result<()>>;

/// One agent for every share, and one that holds the rows that nobody trains on.
fn start_agents(
    at: &str,
    dir: &Path,
    shares: Shares,
    view: &View,
    stop: &CancellationToken,
) -> anyhow::Result<Agents> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // The sites share this machine: one thread each, unless there are cores to spare.
    let threads = (cores / shares.train.len()).max(1);
    let mut agents = JoinSet::new();
    let train = shares.train.into_iter().enumerate();
    let train = train.map(|(i, rows)| (format!("site-{}", i + 1), Some(rows), None));
    let held_out = std::iter::once(("held-out".to_owned(), None, Some(shares.held_out)));
    for (name, train, evaluate) in train.chain(held_out) {
        let observer = view.observer(&name);
        let trainer =
            LocalTrainer::new("digits".to_owned(), train, evaluate, Compute::cpu(threads));
        let config = AgentConfig {
            coordinator: at.to_owned(),
            name: name.parse()?,
            state_dir: dir.join("clients").join(&name),
        };
        let agent = Agent::new(config, Arc::new(trainer), observer);
        let stop = stop.clone();
        agents.spawn(async move { Box::pin(agent.run(stop)).await.context(name) });
    }
    Ok(agents)
}

async fn first_failure(agents: &mut Agents) -> anyhow::Error {
    while let Some(ended) = agents.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(error) => return error.into(),
        }
    }
    anyhow::anyhow!("all agents ended before the job did")
}

/// Submits the job, follows it, and fetches the model.
async fn federate(at: &str, spec: &str, view: &View, dir: &Path) -> anyhow::Result<Report> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let request = v1::CreateJobRequest { request_id, spec: spec.to_owned(), validate_only: false };
    let created = jobs(at).await?.create_job(request).await.map_err(said)?.into_inner();
    let id = created.job.context("the coordinator made no job")?.job_id;
    let mut rounds = Vec::new();
    let job = follow(at, &id, |snapshot| {
        rounds.extend(snapshot.committed.iter().cloned());
        view.show(snapshot);
    })
    .await?;
    if job.status != "completed" {
        bail!("the job is {}: {}", job.status, job.reason);
    }
    let model = fetch(at, &id, None, Some(&dir.join("model.safetensors"))).await?;
    Ok(Report::new(&job, rounds, model))
}
