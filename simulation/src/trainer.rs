//! A trainer that needs no time and no rows: from the same order comes the same update, unless it ails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tributary_client::trainer::{Control, Order, Trained, Trainer, TrainerError};
use tributary_core::binding::Binding;
use tributary_core::digest::Digest;
use tributary_core::metrics::{Scored, Statistics, StatisticsError};
use tributary_core::prg::Prg;
use tributary_core::spec::JobSpec;
use tributary_core::statistics::{NumericSums, SiteSums};

use crate::chance::Chance;

/// Numbers in a row of the simulated sites.
pub(crate) const FEATURES: u32 = 6;
/// Classes of their rows.
const CLASSES: u32 = 2;

/// The stand-in at one site.
pub(crate) struct StandIn {
    /// n: what each of its updates counts for.
    pub(crate) examples: u64,
    pub(crate) chance: Arc<Chance>,
    /// Tasks of a hundred that are more than it can do.
    pub(crate) ails: Arc<AtomicU64>,
}

impl StandIn {
    fn begin(&self, control: &dyn Control) -> Result<(), TrainerError> {
        if control.cancelled() {
            return Err(TrainerError::Cancelled);
        }
        if self.chance.percent(self.ails.load(Ordering::Relaxed)) {
            return Err(TrainerError::Unable("it is not well".to_owned()));
        }
        Ok(())
    }

    /// Statistics of rows that are all of class 0, and all known.
    fn scores(&self) -> Result<Statistics, TrainerError> {
        let known = Scored { label: 0, predicted: 0, in_top_k: true, score: 0.0, loss: 0.5 };
        let mut statistics = Statistics::new(CLASSES).map_err(unable)?;
        for _ in 0..self.examples {
            statistics.record(known).map_err(unable)?;
        }
        Ok(statistics)
    }
}

impl Trainer for StandIn {
    fn bindings(&self) -> Vec<Binding> {
        let of = |kind: &str| Binding {
            name: kind.to_owned(),
            kind: kind.to_owned(),
            classes: CLASSES,
            targets: 0,
            vocabulary: 0,
            shape: vec![FEATURES],
            train_examples: self.examples,
            evaluate_examples: self.examples,
        };
        vec![of("image"), of("table")]
    }

    fn statistics(
        &self,
        _spec: &JobSpec,
        _data: Option<&str>,
        control: &dyn Control,
    ) -> Result<SiteSums, TrainerError> {
        self.begin(control)?;
        let mut feature = NumericSums::default();
        (0..self.examples).for_each(|row| feature.add(row as f64));
        control.progress(1, 1);
        let features = vec![feature; FEATURES as usize];
        Ok(SiteSums { rows: self.examples, features, ..SiteSums::default() })
    }

    fn train(&self, order: &Order<'_>, control: &dyn Control) -> Result<Trained, TrainerError> {
        self.begin(control)?;
        let values = order.checkpoint.values();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let from = Digest::of(&bytes).to_string();
        let mut prg = Prg::for_client(order.spec.seed, order.round, order.client, &from);
        let update = values.iter().map(|_| (prg.unit_f32() - 0.5) * 0.01).collect();
        control.progress(1, 1);
        Ok(Trained { update, examples: self.examples, statistics: self.scores()? })
    }

    fn evaluate(
        &self,
        _order: &Order<'_>,
        control: &dyn Control,
    ) -> Result<Statistics, TrainerError> {
        self.begin(control)?;
        control.progress(1, 1);
        self.scores()
    }
}

fn unable(error: StatisticsError) -> TrainerError {
    TrainerError::Unable(error.to_string())
}
