//! Statistics on the wire, and the ratios that operators are shown.

use tributary_core::metrics::{ClassScores, Measure, Metrics, Statistics, ValueSums};

use super::WireFault;
use crate::v1;

/// Statistics as the wire has them.
#[must_use]
pub fn statistics_to_wire(statistics: &Statistics) -> v1::Statistics {
    v1::Statistics {
        examples: statistics.examples,
        loss_sum: statistics.loss_sum,
        classes: statistics.classes,
        confusion: statistics.confusion.clone(),
        correct: statistics.correct,
        top_k: statistics.top_k,
        scores: statistics.scores.clone(),
        values: statistics.values.iter().map(|sums| sums.to_bytes().into()).collect(),
        withheld: statistics.withheld > 0,
    }
}

/// Statistics from a peer: sizes and sums must agree, and count what is expected.
///
/// # Errors
/// When they are missing, or do not add up.
pub fn statistics_from_wire(
    wire: Option<v1::Statistics>,
    measure: Measure,
) -> Result<Statistics, WireFault> {
    let wire = wire.ok_or_else(|| WireFault::new("statistics", "statistics", "nothing"))?;
    let values: Option<Vec<ValueSums>> =
        wire.values.iter().map(|bytes| ValueSums::from_bytes(bytes)).collect();
    let short = || WireFault::new("statistics.values", "64 bytes each", "another length");
    let statistics = Statistics {
        examples: wire.examples,
        loss_sum: wire.loss_sum,
        classes: wire.classes,
        confusion: wire.confusion,
        correct: wire.correct,
        top_k: wire.top_k,
        scores: wire.scores,
        values: values.ok_or_else(short)?,
        withheld: u32::from(wire.withheld),
    };
    if statistics.measure() != measure {
        let found = format!("{:?}", statistics.measure());
        return Err(WireFault::new("statistics", format!("{measure:?}"), found));
    }
    match statistics.check().and_then(|()| statistics.check_withheld()) {
        Ok(()) => Ok(statistics),
        Err(error) => Err(WireFault::new("statistics", "counts that add up", error.to_string())),
    }
}

/// Ratios as the wire has them, but for those of each class, which lists have no room for; none over no
/// examples.
#[must_use]
pub fn metrics_to_wire(statistics: &Statistics) -> Option<v1::Metrics> {
    Some(v1::Metrics { classes: Vec::new(), ..all_metrics_to_wire(statistics)? })
}

/// Ratios as the wire has them, with those of each class; none over no examples.
#[must_use]
pub fn all_metrics_to_wire(statistics: &Statistics) -> Option<v1::Metrics> {
    let metrics = Metrics::of(statistics)?;
    Some(v1::Metrics {
        loss: metrics.loss,
        accuracy: metrics.accuracy,
        macro_f1: metrics.macro_f1,
        weighted_f1: metrics.weighted_f1,
        examples: metrics.examples,
        top_k_accuracy: metrics.top_k_accuracy,
        macro_precision: metrics.macro_precision,
        macro_recall: metrics.macro_recall,
        auc: metrics.auc,
        perplexity: metrics.perplexity,
        rmse: metrics.values.map(|values| values.rmse),
        mae: metrics.values.map(|values| values.mae),
        r2: metrics.values.map(|values| values.r2),
        withheld: statistics.withheld,
        weighted_precision: metrics.weighted_precision,
        weighted_recall: metrics.weighted_recall,
        classes: metrics.classes.into_iter().map(class_to_wire).collect(),
    })
}

fn class_to_wire(class: ClassScores) -> v1::ClassMetrics {
    let ClassScores { support, precision, recall, f1 } = class;
    v1::ClassMetrics { support, precision, recall, f1 }
}
