//! A trainer that needs no time and no rows: from the same order comes the same update.

use tributary_client::trainer::{Control, Order, Trained, Trainer, TrainerError};
use tributary_core::binding::Binding;
use tributary_core::digest::Digest;
use tributary_core::metrics::{Scored, Statistics, StatisticsError};
use tributary_core::prg::Prg;

/// Numbers in a row of the simulated sites.
pub(crate) const FEATURES: u32 = 6;
/// Classes of their rows.
const CLASSES: u32 = 2;

/// The stand-in at one site.
pub(crate) struct StandIn {
    /// n: what each of its updates counts for.
    pub(crate) examples: u64,
}

impl StandIn {
    /// Statistics of rows that are all of class 0, and all known.
    fn statistics(&self) -> Result<Statistics, TrainerError> {
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
        vec![Binding {
            name: "rows".to_owned(),
            kind: "image".to_owned(),
            classes: CLASSES,
            targets: 0,
            vocabulary: 0,
            shape: vec![FEATURES],
            train_examples: self.examples,
            evaluate_examples: self.examples,
        }]
    }

    fn train(&self, order: &Order<'_>, control: &dyn Control) -> Result<Trained, TrainerError> {
        if control.cancelled() {
            return Err(TrainerError::Cancelled);
        }
        let values = order.checkpoint.values();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let from = Digest::of(&bytes).to_string();
        let mut prg = Prg::for_client(order.spec.seed, order.round, order.client, &from);
        let update = values.iter().map(|_| (prg.unit_f32() - 0.5) * 0.01).collect();
        control.progress(1, 1);
        Ok(Trained { update, examples: self.examples, statistics: self.statistics()? })
    }

    fn evaluate(
        &self,
        _order: &Order<'_>,
        control: &dyn Control,
    ) -> Result<Statistics, TrainerError> {
        control.progress(1, 1);
        self.statistics()
    }
}

fn unable(error: StatisticsError) -> TrainerError {
    TrainerError::Unable(error.to_string())
}
