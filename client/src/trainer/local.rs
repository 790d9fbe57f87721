//! The trainer of the house: the site's rows in memory, kernels and optimiser from `learning`.

use std::sync::{Arc, Mutex, PoisonError};

use tributary_core::binding::Binding;
use tributary_core::digest::Digest;
use tributary_core::metrics::Statistics;
use tributary_core::model::ModelSpec;
use tributary_core::params::ParameterSet;
use tributary_core::spec::data::DataKind;
use tributary_data::{DataError, Dataset};
use tributary_learning::{Compute, EvaluateTask, LearningError, Pretrained, TrainTask};

use super::rows::{Parts, Rows};
use super::{Control, Order, Trained, Trainer, TrainerError};
use crate::config::DataConfig;

/// Trains a spec's model on the site's data.
pub struct LocalTrainer {
    binding: Option<Binding>,
    rows: Rows,
    compute: Compute,
    bases: Vec<Pretrained>,
    /// The base in use: the same from round to round.
    loaded: Mutex<Option<(Digest, Arc<ParameterSet>)>>,
}

impl LocalTrainer {
    /// Reads a site's files.
    ///
    /// # Errors
    /// When a file is not what it must be: its name, the place, what was expected, what came.
    pub fn open(config: &DataConfig, compute: Compute) -> Result<Self, DataError> {
        let (binding, rows) = Rows::open(config)?;
        Ok(Self::of(Some(binding), rows, compute))
    }

    /// A trainer on rows of a kind that are in memory already.
    #[must_use]
    pub fn new(
        name: String,
        kind: DataKind,
        train: Option<Dataset>,
        evaluate: Option<Dataset>,
        compute: Compute,
    ) -> Self {
        let narrow = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let count = |rows: &Option<Dataset>| rows.as_ref().map_or(0, |rows| rows.len() as u64);
        let binding = train.as_ref().or(evaluate.as_ref()).map(|any| Binding {
            name,
            kind: kind.word().to_owned(),
            classes: any.classes(),
            targets: narrow(any.width()),
            vocabulary: any.vocabulary(),
            shape: any.shape().iter().copied().map(narrow).collect(),
            train_examples: count(&train),
            evaluate_examples: count(&evaluate),
        });
        Self::of(binding, Rows::Held(Arc::new(Parts { train, evaluate })), compute)
    }

    fn of(binding: Option<Binding>, rows: Rows, compute: Compute) -> Self {
        Self { binding, rows, compute, bases: Vec::new(), loaded: Mutex::default() }
    }

    /// With pretrained models that jobs may build upon.
    #[must_use]
    pub fn with_bases(mut self, bases: Vec<Pretrained>) -> Self {
        self.bases = bases;
        self
    }

    /// The frozen parameters of a model, read when first asked for.
    fn frozen(&self, model: &ModelSpec) -> Result<Option<Arc<ParameterSet>>, TrainerError> {
        let (Some(digest), Some(schema)) = (model.base(), model.frozen_schema()) else {
            return Ok(None);
        };
        let Some(base) = self.bases.iter().find(|base| base.digest() == digest) else {
            return Ok(None);
        };
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, set)) = loaded.as_ref()
            && *of == digest
            && set.schema() == schema
        {
            return Ok(Some(set.clone()));
        }
        let set = Arc::new(base.parameters(schema).map_err(unable)?);
        *loaded = Some((digest, set.clone()));
        Ok(Some(set))
    }
}

fn some<'a>(rows: &'a Option<Dataset>, what: &str) -> Result<&'a Dataset, TrainerError> {
    let none = || TrainerError::Unable(format!("this site has no rows to {what}"));
    rows.as_ref().ok_or_else(none)
}

impl Trainer for LocalTrainer {
    fn bindings(&self) -> Vec<Binding> {
        self.binding.iter().cloned().collect()
    }

    fn train(&self, order: &Order<'_>, control: &dyn Control) -> Result<Trained, TrainerError> {
        let parts = self.rows.of(order.spec)?;
        let rows = some(&parts.train, "train on")?;
        let frozen = self.frozen(&order.spec.model)?;
        let task = TrainTask {
            model: &order.spec.model,
            train: &order.spec.train,
            job_seed: order.spec.seed,
            round: order.round,
            rounds: order.spec.rounds,
            frozen: frozen.as_deref(),
            client: order.client,
            checkpoint: order.checkpoint,
            compute: self.compute,
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
        let parts = self.rows.of(order.spec)?;
        let rows = some(&parts.evaluate, "evaluate on")?;
        let frozen = self.frozen(&order.spec.model)?;
        let task = EvaluateTask {
            model: &order.spec.model,
            checkpoint: order.checkpoint,
            frozen: frozen.as_deref(),
            own_rows: parts.train.as_ref(),
            compute: self.compute,
        };
        tributary_learning::evaluate(&task, rows, &Following(control)).map_err(unable)
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
