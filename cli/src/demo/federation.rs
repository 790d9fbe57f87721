//! A whole federation in this process: the real coordinator, real agents over real gRPC on
//! loopback, one for every share of the rows.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tributary_client::agent::{Agent, AgentConfig};
use tributary_client::config::DataConfig;
use tributary_client::observer::Observer;
use tributary_client::rpc::Egress;
use tributary_client::trainer::{Bases, LocalTrainer, Trainer};
use tributary_coordinator::app::Coordinator;
use tributary_coordinator::config::Config;
use tributary_learning::Compute;
use tributary_proto::v1;

use super::data::Shares;
use crate::connect::{jobs, said};

/// The site of the rows that nobody trains on.
pub(crate) const HELD_OUT: &str = "held-out";

/// A coordinator and its clients.
pub(crate) struct Federation {
    coordinator: Coordinator,
    agents: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
    at: String,
}

impl Federation {
    /// Starts the coordinator.
    pub(crate) async fn start(config: &Config) -> anyhow::Result<Self> {
        let coordinator = Coordinator::start(config).await?;
        let at = format!("http://{}", coordinator.address());
        let stop = CancellationToken::new();
        Ok(Self { coordinator, agents: JoinSet::new(), stop, at })
    }

    /// Where the coordinator listens.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// Starts one agent for every share (all of this machine, so they share their bases), and one that holds the rows that nobody trains on.
    pub(crate) fn join(
        &mut self,
        dir: &Path,
        shares: Shares,
        bases: &Arc<Bases>,
        observer: impl Fn(&str) -> Arc<dyn Observer>,
    ) -> anyhow::Result<()> {
        self.join_with(dir, shares, observer, |trainer| Arc::new(trainer.with_bases(bases.clone())))
    }

    /// As [`Federation::join`], with what each agent makes of the trainer on its rows.
    pub(crate) fn join_with(
        &mut self,
        dir: &Path,
        shares: Shares,
        observer: impl Fn(&str) -> Arc<dyn Observer>,
        trainer: impl Fn(LocalTrainer) -> Arc<dyn Trainer>,
    ) -> anyhow::Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // The sites share this machine: one thread each, unless there are cores to spare.
        let threads = (cores / shares.train.len().max(1)).max(1);
        let train = shares.train.into_iter().map(|share| (share.site, Some(share.rows), None));
        let held_out = shares.held_out.map(|rows| (HELD_OUT.to_owned(), None, Some(rows)));
        for (site, train, evaluate) in train.chain(held_out) {
            let observer = observer(&site);
            let (name, kind) = (shares.name.clone(), shares.kind);
            let compute = Compute::cpu(threads);
            let own = match &shares.files {
                Some(DataConfig { source, .. }) => {
                    let source = source.only(train.as_ref(), evaluate.as_ref());
                    LocalTrainer::open(&[DataConfig { name, source }], compute)?
                }
                None => LocalTrainer::new(name, kind, train, evaluate, compute),
            };
            let config = AgentConfig {
                coordinator: self.at.clone(),
                name: site.parse()?,
                state_dir: dir.join("clients").join(&site),
                egress: Egress::default(),
            };
            let agent = Agent::new(config, trainer(own), observer);
            let stop = self.stop.clone();
            self.agents.spawn(async move { Box::pin(agent.run(stop)).await.context(site) });
        }
        Ok(())
    }

    /// The first agent's failure; pending while all go well.
    pub(crate) async fn failure(&mut self) -> anyhow::Error {
        while let Some(ended) = self.agents.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(error) => return error.into(),
            }
        }
        anyhow::anyhow!("all agents ended before the job did")
    }

    /// Stops everybody.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.agents.join_next().await {
            ended.context("an agent's task failed")??;
        }
        self.coordinator.stop().await?;
        Ok(())
    }
}

/// Submits a job; its id.
pub(crate) async fn submit(at: &str, spec: &str) -> anyhow::Result<String> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let request = v1::CreateJobRequest { request_id, spec: spec.to_owned(), validate_only: false };
    let created = jobs(at).await?.create_job(request).await.map_err(said)?.into_inner();
    match created.job {
        Some(job) => Ok(job.job_id),
        None => bail!("the coordinator made no job"),
    }
}
