//! What each round's checkpoint scores on rows that nobody trains on: a measure beside the
//! federation, which sees them once, at the end.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use tributary_core::params::ParameterSet;
use tributary_core::spec::JobSpec;
use tributary_data::Dataset;
use tributary_learning::{Compute, EvaluateTask};
use tributary_proto::convert::metrics_to_wire;
use tributary_proto::v1;

use crate::jobs::model::fetch;
use crate::scores::headline;

/// One round's score.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Point {
    pub(crate) round: u32,
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
    /// What one looks at first, by what is predicted, and its value.
    pub(crate) measure: &'static str,
    pub(crate) score: f64,
}

/// Nothing to follow, nothing to stop.
struct Quiet;

impl tributary_learning::Control for Quiet {
    fn progress(&self, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// Scores checkpoints of one job on the same rows.
pub(crate) struct Scorer {
    spec: Arc<JobSpec>,
    rows: Arc<Dataset>,
    frozen: Option<Arc<ParameterSet>>,
}

impl Scorer {
    /// On rows that nobody trains on; `frozen` is the body of a model that is trained by adapters.
    pub(crate) fn new(spec: &JobSpec, rows: Dataset, frozen: Option<Arc<ParameterSet>>) -> Self {
        Self { spec: Arc::new(spec.clone()), rows: Arc::new(rows), frozen }
    }

    /// Scores the checkpoint that a round made.
    pub(crate) async fn score(
        &self,
        (at, job, round): (&str, &str, u32),
        dir: &Path,
    ) -> anyhow::Result<Point> {
        let path = dir.join(format!("round-{round}.safetensors"));
        let pulled = fetch(at, job, Some(round), Some(&path)).await?;
        let bytes = std::fs::read(&pulled.path)?;
        std::fs::remove_file(&pulled.path)?;
        let parameters = tributary_core::checkpoint::decode(&bytes)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (spec, rows, frozen) = (self.spec.clone(), self.rows.clone(), self.frozen.clone());
        let scored = tokio::task::spawn_blocking(move || {
            let task = EvaluateTask {
                model: &spec.model,
                checkpoint: &parameters,
                frozen: frozen.as_deref(),
                own_rows: None,
                compute: Compute::cpu(cores),
            };
            tributary_learning::evaluate(&task, &rows, &Quiet)
        });
        let metrics = metrics_to_wire(&scored.await??).context("no rows to score")?;
        let [(measure, score), _] = headline(&metrics);
        let v1::Metrics { loss, accuracy, .. } = metrics;
        Ok(Point { round, loss, accuracy, measure, score })
    }
}
