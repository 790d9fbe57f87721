//! One run of a headline: a federation of its clients over gRPC, each of whose checkpoints is scored on
//! rows that nobody trains on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use tributary_client::observer::Log;
use tributary_client::trainer::{LocalTrainer, Trainer};
use tributary_coordinator::config::Config;
use tributary_core::spec::JobSpec;

use super::eprint_line;
use crate::demo::curve::{Point, Scorer};
use crate::demo::data::Shares;
use crate::demo::federation::{Federation, submit};
use crate::jobs::watch::{Snapshots, is_over};

/// One seed's run.
#[derive(Serialize)]
pub(super) struct Run {
    pub(super) seed: u64,
    /// The first round whose checkpoint reached the target; none where no round did.
    pub(super) rounds_to_target: Option<u32>,
    pub(super) rounds: u32,
    pub(super) best_accuracy: f64,
    pub(super) seconds: f64,
    pub(super) stopped_by: &'static str,
    pub(super) curve: Vec<Point>,
}

/// Checkpoints at a run's end whose scores are averaged: one alone is noisy.
pub(super) const LAST: usize = 3;

/// The mean scores of each run's last checkpoints.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Late {
    pub(super) accuracy: f64,
    pub(super) loss: f64,
}

impl Late {
    pub(super) fn of(runs: &[Run]) -> Self {
        let points = || runs.iter().flat_map(|run| run.curve.iter().rev().take(LAST));
        let count = points().count() as f64;
        Self {
            accuracy: points().map(|point| point.accuracy).sum::<f64>() / count,
            loss: points().map(|point| point.loss).sum::<f64>() / count,
        }
    }
}

/// What is run.
pub(super) struct Trial {
    /// The job's spec.
    pub(super) spec: String,
    pub(super) seed: u64,
    /// It stops at the first checkpoint of this accuracy.
    pub(super) target: Option<f64>,
    /// It stops after so long.
    pub(super) limit: Option<Duration>,
}

impl Trial {
    /// Runs it on these shares, and scores on what they hold out.
    pub(super) async fn run(&self, shares: Shares) -> anyhow::Result<Run> {
        self.run_with(shares, |trainer| Arc::new(trainer)).await
    }

    /// As [`Trial::run`], with what each participant makes of the trainer on its rows.
    pub(super) async fn run_with(
        &self,
        mut shares: Shares,
        trainer: impl Fn(LocalTrainer) -> Arc<dyn Trainer>,
    ) -> anyhow::Result<Run> {
        let spec =
            JobSpec::parse(&self.spec).map_err(|faults| anyhow::anyhow!("the spec: {faults}"))?;
        let held_out = shares.held_out.take().context("no rows to score on")?;
        let dir = tempfile::Builder::new().prefix("tributary-paper-").tempdir()?;
        let config = Config::embedded(&dir.path().join("coordinator"));
        let mut federation = Federation::start(&config).await?;
        let at = federation.at().to_owned();
        federation.join_with(dir.path(), shares, |_| Arc::new(Log), trainer)?;
        let scorer = Scorer::new(&spec, held_out, None);
        let following = self.follow(&at, dir.path(), scorer);
        let finished = tokio::select! {
            finished = following => finished,
            failed = federation.failure() => Err(failed),
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        federation.stop().await?;
        finished
    }

    /// Scores each checkpoint as it is committed, until one reaches the target.
    async fn follow(&self, at: &str, dir: &Path, scorer: Scorer) -> anyhow::Result<Run> {
        let begin = Instant::now();
        let job = submit(at, &self.spec).await?;
        let mut snapshots = Snapshots::of(at, &job).await?;
        let mut run = Run::of(self.seed);
        loop {
            let snapshot = snapshots.next().await?;
            for round in snapshot.committed {
                let point = scorer.score((at, &job, round.number), dir).await?;
                if run.push(point, begin.elapsed(), (self.target, self.limit)) {
                    return Ok(run);
                }
            }
            match snapshot.job.filter(is_over) {
                Some(job) if job.status == "failed" => bail!("the job failed: {}", job.reason),
                Some(_) => return Ok(run),
                None => {}
            }
        }
    }
}

impl Run {
    fn of(seed: u64) -> Self {
        Self {
            seed,
            rounds_to_target: None,
            rounds: 0,
            best_accuracy: 0.0,
            seconds: 0.0,
            stopped_by: "rounds",
            curve: Vec::new(),
        }
    }

    /// Takes a round's score; whether the run ends with it.
    fn push(
        &mut self,
        point: Point,
        elapsed: Duration,
        (target, limit): (Option<f64>, Option<Duration>),
    ) -> bool {
        let Point { round, accuracy, loss, .. } = point;
        self.seconds = elapsed.as_secs_f64();
        self.rounds = round;
        self.best_accuracy = self.best_accuracy.max(accuracy);
        eprint_line(&format!(
            "round {round:>4}  accuracy {accuracy:.4}  loss {loss:.4}  {:.0} s",
            self.seconds
        ));
        self.curve.push(point);
        if target.is_some_and(|target| accuracy >= target) {
            (self.rounds_to_target, self.stopped_by) = (Some(round), "target");
            return true;
        }
        let late = limit.is_some_and(|limit| elapsed >= limit);
        if late {
            self.stopped_by = "minutes";
        }
        late
    }
}
