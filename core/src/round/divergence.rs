//! When a job has diverged: a rule over committed rounds and the round at hand, so over accepted updates
//! alone. A replay comes to the same answer, and no clock or arrival order has a say in it.
//!
//! | sign | stops where |
//! |---|---|
//! | the norm of the mean update | above `norm_factor` × the median of the last [`NORMS`] rounds, once [`NORMS_LEAST`] are committed, and above every norm so far |
//! | the loss of the median client | above `loss_factor` × the best so far (which counts as 1 at least), or all at the clamp where it was below half of it |
//!
//! The norm must be a new maximum, too: a job that has all but converged may meet new data, and its
//! updates then grow by any factor without being larger than they were at the start. The loss is
//! the median client's, so that no single site's word ends a job.

use serde::{Deserialize, Serialize};

use super::event::FoldFacts;
use crate::metrics::{LOSS_MAX, LOSS_ONE, Statistics};

/// Rounds whose median norm a norm is compared with.
pub const NORMS: usize = 5;
/// Committed rounds before a norm is judged: the first rounds are the largest.
pub const NORMS_LEAST: usize = 3;
/// A norm of 1 in [`FoldFacts::update_norm`]: 32 binary places.
pub const NORM_ONE: u64 = 1 << 32;

/// The factors of `[strategy]`; 0 switches a sign off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Of the norm.
    pub norm_factor: f64,
    /// Of the loss.
    pub loss_factor: f64,
}

/// How a job went so far, as far as the rule needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Course {
    /// The norms of the last rounds, the newest last; at most [`NORMS`].
    norms: Vec<u64>,
    /// The largest norm so far.
    norm_max: u64,
    /// The least loss so far, in units of 1 ⁄ [`LOSS_ONE`].
    loss_best: Option<i64>,
}

impl Course {
    /// Why the job has diverged with a round of this norm and this loss; `None` where it has not.
    #[must_use]
    pub fn judge(&self, limits: Limits, norm: u64, median_loss: Option<i64>) -> Option<String> {
        self.judge_norm(limits.norm_factor, norm)
            .or_else(|| self.judge_loss(limits.loss_factor, median_loss))
    }

    /// The course after a round of these facts was committed.
    #[must_use]
    pub fn after(&self, facts: &FoldFacts) -> Self {
        let mut norms = self.norms.clone();
        norms.push(facts.update_norm);
        norms.drain(..norms.len().saturating_sub(NORMS));
        let best = |loss: i64| self.loss_best.map_or(loss, |best| best.min(loss));
        Self {
            norms,
            norm_max: self.norm_max.max(facts.update_norm),
            loss_best: facts.median_loss.map(best).or(self.loss_best),
        }
    }

    fn judge_norm(&self, factor: f64, norm: u64) -> Option<String> {
        if factor <= 0.0 || self.norms.len() < NORMS_LEAST || norm <= self.norm_max {
            return None;
        }
        let mut sorted = self.norms.clone();
        sorted.sort_unstable();
        let median = sorted[sorted.len() / 2];
        (norm as f64 > factor * median as f64).then(|| {
            format!(
                "the mean update's norm is {:.4}, {} the median of the last {} rounds ({:.4}); \
                 strategy.norm_factor is {factor}",
                norm_of(norm),
                times(norm as f64, median as f64),
                sorted.len(),
                norm_of(median)
            )
        })
    }

    fn judge_loss(&self, factor: f64, loss: Option<i64>) -> Option<String> {
        let (loss, best) = (loss?, self.loss_best?);
        let clamp = (LOSS_MAX * LOSS_ONE as f64) as i64;
        if factor <= 0.0 {
            return None;
        }
        if loss >= clamp && best < clamp / 2 {
            return Some(format!("the median client's loss is at or above {LOSS_MAX}"));
        }
        // A loss near 0 grows by any factor without being large.
        let base = best.max(LOSS_ONE);
        (loss as f64 > factor * base as f64).then(|| {
            let shown = |loss: i64| loss as f64 / LOSS_ONE as f64;
            format!(
                "the median client's loss is {:.4}, the best so far was {:.4}; strategy.loss_factor \
                 is {factor}",
                shown(loss),
                shown(best)
            )
        })
    }
}

/// A norm for people.
#[must_use]
pub fn norm_of(units: u64) -> f64 {
    units as f64 / NORM_ONE as f64
}

fn times(a: f64, b: f64) -> String {
    if b > 0.0 { format!("{:.0} times", a / b) } else { "more than".to_owned() }
}

/// The loss of the median client (the lower one of two in the middle), in units of 1 ⁄ [`LOSS_ONE`];
/// `None` where nobody scored an example.
#[must_use]
pub fn median_loss<'a>(clients: impl Iterator<Item = &'a Statistics>) -> Option<i64> {
    let mean = |s: &Statistics| {
        let examples = i64::try_from(s.examples).ok().filter(|&n| n > 0)?;
        Some(s.loss_sum.div_euclid(examples))
    };
    let mut losses: Vec<i64> = clients.filter_map(mean).collect();
    losses.sort_unstable();
    let middle = losses.len().checked_sub(1)? / 2;
    losses.get(middle).copied()
}
