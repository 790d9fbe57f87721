//! How the learning rate changes over a job: a factor that is a function of the round alone, so every
//! client of a round, and a repeated task, trains at the same rate.

use crate::document::Section;

/// Longest warm-up or period, in rounds.
const ROUNDS_MAX: u32 = 1_000_000;

/// A factor on the learning rate for each round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// In the first so many rounds the factor rises in equal steps: 1 ⁄ n, 2 ⁄ n, … 1.
    pub warmup_rounds: u32,
    /// What it does afterwards.
    pub decay: Decay,
}

/// A factor's way down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// None.
    Constant,
    /// Multiplied by `factor` after every so many rounds.
    Step {
        /// Rounds between two steps.
        every_rounds: u32,
        /// What a step multiplies by.
        factor: f64,
    },
    /// Half a cosine from 1 to `floor` over the job's rounds (Loshchilov and Hutter 2017).
    Cosine {
        /// The factor of the last round.
        floor: f64,
    },
}

#[derive(Clone, Copy)]
enum Kind {
    Constant,
    Step,
    Cosine,
}

impl Schedule {
    pub(super) fn read(section: &mut Section) -> Self {
        let words = [("constant", Kind::Constant), ("step", Kind::Step), ("cosine", Kind::Cosine)];
        let kind = section.choice("kind", &words, Some(Kind::Constant));
        let decay = match kind {
            Some(Kind::Step) => Decay::Step {
                every_rounds: section.count("every_rounds", 1..=ROUNDS_MAX, None),
                factor: section.number("factor", 0.0..=1.0, Some(0.1)),
            },
            Some(Kind::Cosine) => {
                Decay::Cosine { floor: section.number("floor", 0.0..=1.0, Some(0.0)) }
            }
            Some(Kind::Constant) | None => Decay::Constant,
        };
        let warmup_rounds = section.count("warmup_rounds", 0..=ROUNDS_MAX, Some(0));
        Self { warmup_rounds, decay }
    }

    /// The factor for `round` (the first is 1) of a job of `rounds`.
    #[must_use]
    pub fn factor(&self, round: u32, rounds: u32) -> f64 {
        let round = round.max(1);
        if round <= self.warmup_rounds {
            return f64::from(round) / f64::from(self.warmup_rounds);
        }
        let past = round - self.warmup_rounds - 1;
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Step { every_rounds, factor } => {
                // A product, not a power: the same bits everywhere.
                let steps = past / every_rounds.max(1);
                (0..steps.min(STEPS_MAX)).fold(1.0, |product, _| product * factor)
            }
            Decay::Cosine { floor } => {
                let span = rounds.saturating_sub(self.warmup_rounds).saturating_sub(1);
                if span == 0 {
                    return 1.0;
                }
                let share = f64::from(past.min(span)) / f64::from(span);
                let cosine = libm::cos(std::f64::consts::PI * share);
                floor + (1.0 - floor) * 0.5 * (1.0 + cosine)
            }
        }
    }
}

/// After so many steps any factor below 1 has long reached 0.
const STEPS_MAX: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::{Decay, Schedule};

    fn factors(schedule: Schedule, rounds: u32) -> Vec<f64> {
        (1..=rounds).map(|round| schedule.factor(round, rounds)).collect()
    }

    #[test]
    fn factors_are_those_computed_by_hand() {
        let warm = Schedule { warmup_rounds: 2, decay: Decay::Constant };
        assert_eq!(factors(warm, 4), [0.5, 1.0, 1.0, 1.0]);
        let step = Decay::Step { every_rounds: 2, factor: 0.5 };
        let step = Schedule { warmup_rounds: 0, decay: step };
        assert_eq!(factors(step, 5), [1.0, 1.0, 0.5, 0.5, 0.25]);
        let cosine = Schedule { warmup_rounds: 0, decay: Decay::Cosine { floor: 0.0 } };
        let found = factors(cosine, 3);
        assert!((found[1] - 0.5).abs() < 1e-12 && found[0] == 1.0 && found[2].abs() < 1e-12);
        assert_eq!(cosine.factor(1, 1), 1.0);
    }
}
