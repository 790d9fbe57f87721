//! Statistics on the wire, and the ratios that operators are shown.

use tributary_core::metrics::{Metrics, Statistics};

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
    }
}

/// Statistics from a peer: sizes and sums must agree, and be for `classes` classes.
///
/// # Errors
/// When they are missing, or do not add up.
pub fn statistics_from_wire(
    wire: Option<v1::Statistics>,
    classes: u32,
) -> Result<Statistics, WireFault> {
    let wire = wire.ok_or_else(|| WireFault::new("statistics", "statistics", "nothing"))?;
    let statistics = Statistics {
        examples: wire.examples,
        loss_sum: wire.loss_sum,
        classes: wire.classes,
        confusion: wire.confusion,
    };
    if statistics.classes != classes {
        let found = statistics.classes.to_string();
        return Err(WireFault::new("statistics.classes", classes.to_string(), found));
    }
    match statistics.check() {
        Ok(()) => Ok(statistics),
        Err(error) => Err(WireFault::new("statistics", "counts that add up", error.to_string())),
    }
}

/// Ratios as the wire has them; none over no examples.
#[must_use]
pub fn metrics_to_wire(statistics: &Statistics) -> Option<v1::Metrics> {
    let Metrics { loss, accuracy, macro_f1, weighted_f1, .. } = Metrics::of(statistics)?;
    let examples = statistics.examples;
    Some(v1::Metrics { loss, accuracy, macro_f1, weighted_f1, examples })
}
