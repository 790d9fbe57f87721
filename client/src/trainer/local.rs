//! The trainer of the house: the site's rows in memory, kernels and optimiser from `learning`.

use std::sync::Arc;

use tributary_core::binding::{Binding, DataNeed};
use tributary_core::metrics::Statistics;
use tributary_core::spec::data::DataKind;
use tributary_data::{DataError, Dataset};
use tributary_learning::{Compute, EvaluateTask, LearningError, Pretrained, TrainTask};

use super::bases::Bases;
use super::rows::{Parts, Rows};
use super::{Control, Order, Trained, Trainer, TrainerError};
use crate::config::DataConfig;

/// Trains a spec's model on the site's data.
pub struct LocalTrainer {
    sets: Vec<(Binding, Rows)>,
    compute: Compute,
    bases: Bases,
}

impl LocalTrainer {
    /// Reads a site's files.
    ///
    /// # Errors
    /// When a file is not what it must be: its name, the place, what was expected, what came.
    pub fn open(sets: &[DataConfig], compute: Compute) -> Result<Self, DataError> {
        let sets = sets.iter().map(Rows::open).collect::<Result<_, _>>()?;
        Ok(Self::of(sets, compute))
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
        let rows = Rows::Held(Arc::new(Parts { train, evaluate }));
        Self::of(binding.into_iter().map(|binding| (binding, rows.clone())).collect(), compute)
    }

    fn of(sets: Vec<(Binding, Rows)>, compute: Compute) -> Self {
        Self { sets, compute, bases: Bases::default() }
    }

    /// With pretrained models that jobs may build upon.
    #[must_use]
    pub fn with_bases(mut self, bases: Vec<Pretrained>) -> Self {
        self.bases = Bases::new(bases);
        self
    }

    /// The rows that an order is for.
    fn rows(&self, order: &Order<'_>) -> Result<Arc<Parts>, TrainerError> {
        let wanted = order.data.or(order.spec.data.name.as_deref());
        let found = match wanted {
            Some(name) => self.sets.iter().find(|(binding, _)| binding.name == name),
            None => {
                let need = DataNeed::of(order.spec);
                let fit = self.sets.iter().find(|(binding, _)| need.met_by(binding));
                fit.or(self.sets.first())
            }
        };
        let none = || match wanted {
            Some(name) => TrainerError::Unfit(format!("this site binds no data set {name:?}")),
            None => TrainerError::Unable("this site has no rows".to_owned()),
        };
        found.ok_or_else(none)?.1.of(order.spec)
    }
}

fn some<'a>(rows: &'a Option<Dataset>, what: &str) -> Result<&'a Dataset, TrainerError> {
    let none = || TrainerError::Unable(format!("this site has no rows to {what}"));
    rows.as_ref().ok_or_else(none)
}

impl Trainer for LocalTrainer {
    fn bindings(&self) -> Vec<Binding> {
        self.sets.iter().map(|(binding, _)| binding.clone()).collect()
    }

    fn train(&self, order: &Order<'_>, control: &dyn Control) -> Result<Trained, TrainerError> {
        let parts = self.rows(order)?;
        let rows = some(&parts.train, "train on")?;
        let frozen = self.bases.frozen(&order.spec.model).map_err(unable)?;
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
        let parts = self.rows(order)?;
        let rows = some(&parts.evaluate, "evaluate on")?;
        let frozen = self.bases.frozen(&order.spec.model).map_err(unable)?;
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

/// What the coordinator hears of an error: a base that is missing or another one is missing in the next
/// round too, and a file's path is the site's own.
fn unable(error: LearningError) -> TrainerError {
    match error {
        LearningError::Cancelled => TrainerError::Cancelled,
        error @ (LearningError::NoBase { .. } | LearningError::Base { .. }) => {
            TrainerError::Unfit(error.to_string())
        }
        LearningError::Pretrained { file, reason } => {
            tracing::warn!(file = %file.display(), %reason, "a pretrained model cannot be used");
            TrainerError::Unable(format!("this site's pretrained model cannot be used: {reason}"))
        }
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
