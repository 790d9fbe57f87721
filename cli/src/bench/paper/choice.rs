//! The choice of a learning rate: a stated grid, each tried for a stated number of rounds on nine tenths
//! of the training rows, scored on the tenth. The test set is not opened.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::trial::{Late, Trial};
use super::{CLIENTS, Case, eprint_line};
use crate::demo::data::mnist_without_test;

/// Rates to try, a factor of 10^(1⁄6) apart as in the paper's finest grids, around what is usual for
/// plain SGD on MNIST.
const GRID: [f64; 6] = [0.0464, 0.0681, 0.1, 0.147, 0.215, 0.316];
/// Draws the held-out tenth, the deal, the checkpoint and the cohorts: no seed of the runs that follow.
const SEED: u64 = 1000;

/// What was tried, and what it came to.
#[derive(Debug, Serialize)]
pub(super) struct Choice {
    pub(super) learning_rate: f64,
    rounds: u32,
    seed: u64,
    /// Each rate with the mean accuracy of its last checkpoints on the held-out training rows.
    tried: Vec<(f64, f64)>,
}

/// Tries each rate, and takes the best.
pub(super) async fn choose(case: &Case, rounds: u32, data: &Path) -> anyhow::Result<Choice> {
    let mut tried = Vec::with_capacity(GRID.len());
    for learning_rate in GRID {
        eprint_line(&format!("{}: trying the rate {learning_rate} on held-out rows", case.name));
        let shares = mnist_without_test(data, case.partition, CLIENTS, SEED)?;
        let spec = case.spec_text(SEED, learning_rate, rounds);
        let trial = Trial { spec, seed: SEED, target: None, limit: None };
        tried.push((learning_rate, Late::of(&[trial.run(shares).await?]).accuracy));
    }
    let learning_rate = best(&tried).context("nothing was tried")?;
    eprint_line(&format!("{}: chose the rate {learning_rate} of {tried:?}", case.name));
    Ok(Choice { learning_rate, rounds, seed: SEED, tried })
}

/// The rate of the best score; of equal ones the smaller.
fn best(tried: &[(f64, f64)]) -> Option<f64> {
    let better = |best: Option<(f64, f64)>, next: &(f64, f64)| match best {
        Some(best) if best.1 >= next.1 => Some(best),
        _ => Some(*next),
    };
    tried.iter().fold(None, better).map(|(rate, _)| rate)
}

#[cfg(test)]
mod tests {
    use super::{GRID, best};

    #[test]
    fn the_best_rate_is_taken_and_of_equal_ones_the_smaller() {
        assert_eq!(best(&[(0.1, 0.5), (0.2, 0.9), (0.3, 0.9), (0.4, 0.7)]), Some(0.2));
        assert_eq!(best(&[]), None);
        let step = |pair: &[f64]| pair[1] / pair[0];
        let sixth = 10_f64.powf(1.0 / 6.0);
        assert!(GRID.windows(2).all(|pair| (step(pair) / sixth - 1.0).abs() < 0.01));
    }
}
