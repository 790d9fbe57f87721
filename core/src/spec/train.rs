//! How a client trains: epochs, batches, optimiser, and what else shapes a step.

mod optimizer;
mod schedule;

use crate::document::Section;

pub use optimizer::Optimizer;
pub use schedule::{Decay, Schedule};

/// Most passes over a client's data in one round.
pub const LOCAL_EPOCHS_MAX: u32 = 1000;
/// Largest batch; a trainer may refuse less where the model is large.
pub const BATCH_SIZE_MAX: u32 = 1 << 16;
/// Largest norm to clip to, and largest weight of the proximal term.
const COEFFICIENT_MAX: f64 = 1e6;

/// The `[train]` section.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSpec {
    /// Passes over the client's data in a round.
    pub local_epochs: u32,
    /// Examples in a step; the last step of a pass takes what is left.
    pub batch_size: u32,
    /// How a gradient changes the parameters.
    pub optimizer: Optimizer,
    /// How the learning rate changes from round to round.
    pub schedule: Schedule,
    /// Gradients with a larger Euclidean norm over all parameters are scaled down to it (Pascanu,
    /// Mikolov and Bengio 2013).
    pub clip_norm: Option<f64>,
    /// µ of FedProx's term µ⁄2 · ‖w − w₀‖², with the round's checkpoint as w₀ (Li et al. 2020,
    /// equation 2); 0 is FedAvg.
    pub proximal_mu: f64,
}

impl TrainSpec {
    /// Reads the `[train]` section; faults are recorded in it.
    pub fn read(section: &mut Section) -> Self {
        let local_epochs = section.count("local_epochs", 1..=LOCAL_EPOCHS_MAX, Some(1));
        let batch_size = section.count("batch_size", 1..=BATCH_SIZE_MAX, None);
        let optimizer = Optimizer::read(&mut section.section("optimizer"));
        let mut table = section.section("schedule");
        let schedule = Schedule::read(&mut table);
        table.finish();
        let clip_norm = section
            .has("clip_norm")
            .then(|| section.number("clip_norm", 1e-9..=COEFFICIENT_MAX, None));
        if clip_norm.is_none() {
            // Asked for, so that a misspelt key is told about it.
            let _ = section.take("clip_norm");
        }
        let proximal_mu = section.number("proximal_mu", 0.0..=COEFFICIENT_MAX, Some(0.0));
        Self { local_epochs, batch_size, optimizer, schedule, clip_norm, proximal_mu }
    }
}

#[cfg(test)]
mod tests;
