//! How updates become the next checkpoint.

use crate::document::Section;
use crate::round::divergence::Limits;

/// The rule that combines updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrategyKind {
    /// The mean of the updates, weighted by examples (McMahan et al. 2017, algorithm 1).
    FedAvg,
}

/// The `[strategy]` section.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StrategySpec {
    /// The rule.
    pub kind: StrategyKind,
    /// X: no value of an update is larger than 2^X in magnitude; larger ones are rejected. It
    /// fixes the resolution of the sum at 2^-(50 − X) of the largest weight.
    pub max_abs_update_exponent: u8,
    /// When the job counts as diverged, and stops with its last good checkpoint.
    pub divergence: Limits,
}

/// The default of `norm_factor`: healthy updates differ from round to round by a factor of ten at most.
const NORM_FACTOR: f64 = 100.0;
/// The default of `loss_factor`: a loss above 10 is worse than guessing among 20 000 classes.
const LOSS_FACTOR: f64 = 10.0;
/// The largest factors; more would be off, which is said by 0.
const FACTOR_MAX: f64 = 1e9;

/// The default bound: no coordinate of a healthy update comes near 64.
const MAX_ABS_UPDATE: u64 = 64;
/// The largest bound; the sum keeps 2^-34 of the largest weight even then.
const MAX_ABS_UPDATE_MAX: u64 = 1 << 16;

impl StrategySpec {
    pub(super) fn read(section: &mut Section) -> Self {
        let kinds = [("fedavg", StrategyKind::FedAvg)];
        let kind = section.choice("kind", &kinds, Some(StrategyKind::FedAvg));
        let key = "max_abs_update";
        let bound = section.integer(key, 1..=MAX_ABS_UPDATE_MAX, Some(MAX_ABS_UPDATE));
        if !bound.is_power_of_two() {
            section.fault(key, "a power of two", bound.to_string());
        }
        let divergence = Limits {
            norm_factor: factor(section, "norm_factor", NORM_FACTOR),
            loss_factor: factor(section, "loss_factor", LOSS_FACTOR),
        };
        Self {
            divergence,
            kind: kind.unwrap_or(StrategyKind::FedAvg),
            max_abs_update_exponent: bound.trailing_zeros() as u8,
        }
    }

    /// 2^X, the largest magnitude of an accepted update's values.
    #[must_use]
    pub fn max_abs_update(&self) -> f32 {
        (1_u32 << self.max_abs_update_exponent) as f32
    }
}

/// A factor above 1, or 0 for none.
fn factor(section: &mut Section, key: &'static str, default: f64) -> f64 {
    let factor = section.number(key, 0.0..=FACTOR_MAX, Some(default));
    if factor > 0.0 && factor <= 1.0 {
        section.fault(key, "0 (off), or more than 1", factor.to_string());
    }
    factor
}
