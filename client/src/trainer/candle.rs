//! The trainer on candle: the site's rows in memory, kernels and optimiser from `learning`.

use tributary_core::binding::Binding;
use tributary_core::metrics::Statistics;
use tributary_core::spec::data::DataKind;
use tributary_learning::data::idx::read_dataset;
use tributary_learning::data::{DataError, Dataset};
use tributary_learning::{LearningError, TrainTask};

use super::{Control, Order, Trained, Trainer, TrainerError};
use crate::config::{DataConfig, IdxFiles};

/// Trains a spec's model with candle on data that was read once.
pub struct CandleTrainer {
    name: String,
    train: Option<Dataset>,
    evaluate: Option<Dataset>,
    threads: usize,
}

impl CandleTrainer {
    /// Reads a site's files.
    ///
    /// # Errors
    /// When a file is not what it must be: its name, the place, what was expected, what came.
    pub fn open(config: &DataConfig, threads: usize) -> Result<Self, DataError> {
        let read = |files: &Option<IdxFiles>| match files {
            Some(files) => read_dataset(&files.images, &files.labels, config.classes).map(Some),
            None => Ok(None),
        };
        let (train, evaluate) = (read(&config.train)?, read(&config.evaluate)?);
        Ok(Self::new(config.name.clone(), train, evaluate, threads))
    }

    /// A trainer on rows that are in memory already.
    #[must_use]
    pub fn new(
        name: String,
        train: Option<Dataset>,
        evaluate: Option<Dataset>,
        threads: usize,
    ) -> Self {
        Self { name, train, evaluate, threads }
    }

    fn rows<'a>(&self, rows: &'a Option<Dataset>, what: &str) -> Result<&'a Dataset, TrainerError> {
        let none = || TrainerError::Unable(format!("this site has no rows to {what}"));
        rows.as_ref().ok_or_else(none)
    }
}

impl Trainer for CandleTrainer {
    fn bindings(&self) -> Vec<Binding> {
        let Some(any) = self.train.as_ref().or(self.evaluate.as_ref()) else { return Vec::new() };
        let size = |&size: &usize| u32::try_from(size).unwrap_or(u32::MAX);
        let count = |rows: &Option<Dataset>| rows.as_ref().map_or(0, |rows| rows.len() as u64);
        vec![Binding {
            name: self.name.clone(),
            kind: DataKind::Image.word().to_owned(),
            classes: any.classes(),
            shape: any.shape().iter().map(size).collect(),
            train_examples: count(&self.train),
            evaluate_examples: count(&self.evaluate),
        }]
    }

    fn train(&self, order: &Order<'_>, control: &dyn Control) -> Result<Trained, TrainerError> {
        let rows = self.rows(&self.train, "train on")?;
        let task = TrainTask {
            model: &order.spec.model,
            train: &order.spec.train,
            job_seed: order.spec.seed,
            round: order.round,
            client: order.client,
            checkpoint: order.checkpoint,
            threads: self.threads,
        };
        let outcome =
            tributary_learning::train(&task, rows, &Following(control)).map_err(unable)?;
        Ok(Trained {
            update: outcome.update,
            examples: outcome.examples,
            statistics: outcome.statistics,
        })
    }

    fn evaluate(
        &self,
        order: &Order<'_>,
        control: &dyn Control,
    ) -> Result<Statistics, TrainerError> {
        let rows = self.rows(&self.evaluate, "evaluate on")?;
        let (model, checkpoint) = (&order.spec.model, order.checkpoint);
        tributary_learning::evaluate(model, checkpoint, rows, self.threads, &Following(control))
            .map_err(unable)
    }
}

fn unable(error: LearningError) -> TrainerError {
    match error {
        LearningError::Cancelled => TrainerError::Cancelled,
        error => TrainerError::Unable(error.to_string()),
    }
}

/// The agent's control in `learning`'s words.
struct Following<'a>(&'a dyn Control);

impl tributary_learning::Control for Following<'_> {
    fn progress(&self, done_batches: u64, total_batches: u64) {
        self.0.progress(done_batches, total_batches);
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
