//! What a demo leaves behind: the rounds, the score on rows that nobody trained on, the model.

use std::path::PathBuf;

use serde::Serialize;
use tributary_proto::v1;

use super::curve::Point;
use crate::jobs::model::Pulled;

/// The demo's document, on disk beside the model and with `--output json` on the terminal.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) job: String,
    pub(crate) rounds: Vec<RoundLine>,
    /// Of the last checkpoint, on the held-out rows; scored once, at the end.
    pub(crate) test_accuracy: Option<f64>,
    pub(crate) test_macro_f1: Option<f64>,
    pub(crate) test_examples: u64,
    /// All scores of the same.
    pub(crate) test: Option<v1::Metrics>,
    /// Of each round's checkpoint, on the held-out rows; with `--figure` alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) curve: Vec<Point>,
    pub(crate) result_digest: String,
    pub(crate) model_digest: String,
    pub(crate) model_path: PathBuf,
    #[serde(skip)]
    pub(crate) shown: Vec<v1::Round>,
}

/// One round; loss, accuracy and macro-F1 are the clients' own, over their last local epoch.
#[derive(Serialize)]
pub(crate) struct RoundLine {
    round: u32,
    updates: u32,
    loss: Option<f64>,
    accuracy: Option<f64>,
    macro_f1: Option<f64>,
    bytes_up: u64,
    bytes_down: u64,
    seconds: f64,
}

impl Report {
    pub(crate) fn new(
        job: &v1::Job,
        rounds: Vec<v1::Round>,
        curve: Vec<Point>,
        model: Pulled,
    ) -> Self {
        let evaluation = job.evaluation.as_ref();
        // Of numbers neither says anything.
        let classified = evaluation.filter(|metrics| metrics.rmse.is_none());
        Self {
            job: job.job_id.clone(),
            rounds: rounds.iter().map(line).collect(),
            test_accuracy: classified.map(|m| m.accuracy),
            test_macro_f1: classified.map(|m| m.macro_f1),
            test_examples: evaluation.map_or(0, |m| m.examples),
            test: evaluation.cloned(),
            curve,
            result_digest: job.result_digest.clone(),
            model_digest: model.digest,
            model_path: model.path,
            shown: rounds,
        }
    }
}

fn line(round: &v1::Round) -> RoundLine {
    let metrics = round.train_metrics.as_ref();
    RoundLine {
        round: round.number,
        updates: round.updates,
        loss: metrics.map(|m| m.loss),
        accuracy: metrics.map(|m| m.accuracy),
        macro_f1: metrics.map(|m| m.macro_f1),
        bytes_up: round.bytes_up,
        bytes_down: round.bytes_down,
        seconds: round.total_ms as f64 / 1000.0,
    }
}
