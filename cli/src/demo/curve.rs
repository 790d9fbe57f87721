//! What each round's checkpoint scores on rows that nobody trains on: a measure beside the
//! federation, which sees them once, at the end.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use tributary_core::metrics::Metrics;
use tributary_core::spec::JobSpec;
use tributary_data::Dataset;
use tributary_learning::{Compute, EvaluateTask};

use crate::jobs::model::fetch;

/// One round's score.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Point {
    pub(crate) round: u32,
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
}

/// Nothing to follow, nothing to stop.
struct Quiet;

impl tributary_learning::Control for Quiet {
    fn progress(&self, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// Scores the checkpoint that a round made. `data` comes back for the next one.
pub(crate) async fn score(
    (at, job, round): (&str, &str, u32),
    spec: &JobSpec,
    data: Dataset,
    dir: &Path,
) -> anyhow::Result<(Point, Dataset)> {
    let path = dir.join(format!("round-{round}.safetensors"));
    let pulled = fetch(at, job, Some(round), Some(&path)).await?;
    let bytes = std::fs::read(&pulled.path)?;
    std::fs::remove_file(&pulled.path)?;
    let parameters = tributary_core::checkpoint::decode(&bytes)?;
    let model = spec.model.clone();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let scored = tokio::task::spawn_blocking(move || {
        let task = EvaluateTask {
            model: &model,
            checkpoint: &parameters,
            frozen: None,
            own_rows: None,
            compute: Compute::cpu(cores),
        };
        tributary_learning::evaluate(&task, &data, &Quiet).map(|statistics| (statistics, data))
    });
    let (statistics, data) = scored.await??;
    let Metrics { loss, accuracy, .. } = statistics.metrics().context("no rows to score")?;
    Ok((Point { round, loss, accuracy }, data))
}
