//! The trainer of the house: the site's rows, kernels and optimiser from `learning`.

use std::sync::Arc;

use tributary_core::binding::{Binding, DataNeed};
use tributary_core::metrics::Statistics;
use tributary_core::spec::JobSpec;
use tributary_core::spec::data::DataKind;
use tributary_core::statistics::SiteSums;
use tributary_data::config::Parts;
use tributary_data::{DataError, Dataset, Opened};
use tributary_learning::{Compute, EvaluateTask, LearningError, TrainTask};

use super::bases::Bases;
use super::rows::Rows;
use super::{Control, Order, Trained, Trainer, TrainerError};
use crate::config::DataConfig;

/// Trains a spec's model on the site's data.
pub struct LocalTrainer {
    /// Each data set as it may be known, and its rows.
    sets: Vec<(Vec<Binding>, Rows)>,
    compute: Compute,
    bases: Arc<Bases>,
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
        let has_rows = train.is_some() || evaluate.is_some();
        let notes = Parts { train: None, evaluate: None };
        let opened = Opened { kind, train, evaluate, clients: Vec::new(), notes };
        let binding = has_rows.then(|| opened.binding(&name));
        let rows = Rows::Held(Arc::new(opened));
        Self::of(
            binding.into_iter().map(|binding| (vec![binding], rows.clone())).collect(),
            compute,
        )
    }

    fn of(sets: Vec<(Vec<Binding>, Rows)>, compute: Compute) -> Self {
        Self { sets, compute, bases: Arc::default() }
    }

    /// With pretrained models that jobs may build upon.
    #[must_use]
    pub fn with_bases(mut self, bases: Arc<Bases>) -> Self {
        self.bases = bases;
        self
    }

    /// The data set that a job is for: the one that is named, or else the first that serves it.
    fn set(&self, spec: &JobSpec, data: Option<&str>) -> Result<&Rows, TrainerError> {
        let wanted = data.or(spec.data.name.as_deref());
        let any = |is: &dyn Fn(&Binding) -> bool| {
            self.sets.iter().find(|(bindings, _)| bindings.iter().any(is))
        };
        let found = match wanted {
            Some(name) => any(&|binding| binding.name == name),
            None => {
                let need = DataNeed::of(spec);
                any(&|binding| need.met_by(binding)).or(self.sets.first())
            }
        };
        let none = || match wanted {
            Some(name) => TrainerError::Unfit(format!("this site binds no data set {name:?}")),
            None => TrainerError::Unable("this site has no rows".to_owned()),
        };
        Ok(&found.ok_or_else(none)?.1)
    }

    /// The rows that an order is for.
    fn rows(&self, order: &Order<'_>) -> Result<Arc<Opened>, TrainerError> {
        self.set(order.spec, order.data)?.of(order.spec)
    }
}

fn some<'a>(rows: &'a Option<Dataset>, what: &str) -> Result<&'a Dataset, TrainerError> {
    let none = || TrainerError::Unable(format!("this site has no rows to {what}"));
    rows.as_ref().ok_or_else(none)
}

impl Trainer for LocalTrainer {
    fn bindings(&self) -> Vec<Binding> {
        self.sets.iter().flat_map(|(bindings, _)| bindings.iter().cloned()).collect()
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

    fn statistics(
        &self,
        spec: &JobSpec,
        data: Option<&str>,
        control: &dyn Control,
    ) -> Result<SiteSums, TrainerError> {
        let sums = self.set(spec, data)?.sums(spec)?;
        control.progress(1, 1);
        Ok(sums)
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
        error @ LearningError::Diverged { .. } => TrainerError::Diverged(error.to_string()),
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
