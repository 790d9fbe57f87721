//! How a client trains: epochs, batches, optimiser.

use crate::document::Section;

/// Most passes over a client's data in one round.
pub const LOCAL_EPOCHS_MAX: u32 = 1000;
/// Largest batch; a trainer may refuse less where the model is large.
pub const BATCH_SIZE_MAX: u32 = 1 << 16;
/// Largest learning rate that is a rate and no slip of the pen.
const LEARNING_RATE_MAX: f64 = 1000.0;
/// Momentum and Adam's betas stay below 1, where the average would never forget.
const DECAY_MAX: f64 = 0.999_999;

/// The `[train]` section.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSpec {
    /// Passes over the client's data in a round.
    pub local_epochs: u32,
    /// Examples in a step; the last step of a pass takes what is left.
    pub batch_size: u32,
    /// How a gradient changes the parameters.
    pub optimizer: Optimizer,
}

/// A client's optimiser, in PyTorch's formulae; its state begins anew in every round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd {
        /// The step's size.
        learning_rate: f64,
        /// How much of the last step's direction stays; 0 is none.
        momentum: f64,
        /// Whether momentum looks ahead (Nesterov).
        nesterov: bool,
        /// This share of a parameter is added to its gradient.
        weight_decay: f64,
    },
    /// Adam with bias correction (Kingma and Ba 2015).
    Adam {
        /// The step's size.
        learning_rate: f64,
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squared gradients.
        beta2: f64,
        /// Added to the root, against division by nothing.
        epsilon: f64,
    },
}

#[derive(Clone, Copy)]
enum Kind {
    Sgd,
    Adam,
}

impl TrainSpec {
    /// Reads the `[train]` section; faults are recorded in it.
    pub fn read(section: &mut Section) -> Self {
        let local_epochs = section.count("local_epochs", 1..=LOCAL_EPOCHS_MAX, Some(1));
        let batch_size = section.count("batch_size", 1..=BATCH_SIZE_MAX, None);
        let mut table = section.section("optimizer");
        let optimizer = read_optimizer(&mut table);
        Self { local_epochs, batch_size, optimizer }
    }
}

fn read_optimizer(section: &mut Section) -> Optimizer {
    let kinds = [("sgd", Kind::Sgd), ("adam", Kind::Adam)];
    let kind = section.choice("kind", &kinds, None);
    let learning_rate = section.number("learning_rate", 0.0..=LEARNING_RATE_MAX, None);
    let optimizer = match kind {
        Some(Kind::Sgd) => {
            let momentum = section.number("momentum", 0.0..=DECAY_MAX, Some(0.0));
            let nesterov = section.boolean("nesterov", Some(false));
            let weight_decay = section.number("weight_decay", 0.0..=1.0, Some(0.0));
            if nesterov && momentum == 0.0 {
                section.fault("nesterov", "false, or a momentum above 0", "true");
            }
            Optimizer::Sgd { learning_rate, momentum, nesterov, weight_decay }
        }
        Some(Kind::Adam) => Optimizer::Adam {
            learning_rate,
            beta1: section.number("beta1", 0.0..=DECAY_MAX, Some(0.9)),
            beta2: section.number("beta2", 0.0..=DECAY_MAX, Some(0.999)),
            epsilon: section.number("epsilon", 0.0..=1.0, Some(1e-8)),
        },
        None => {
            // What else stands here belongs to a kind that is not known: say only that.
            let sgd =
                Optimizer::Sgd { learning_rate, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
            return sgd;
        }
    };
    section.finish();
    optimizer
}

#[cfg(test)]
mod tests {
    use super::{Optimizer, TrainSpec};
    use crate::document::read_document;
    use crate::fault::Faults;

    fn read(text: &str) -> Result<TrainSpec, Faults> {
        read_document(text, 1000, TrainSpec::read)
    }

    #[test]
    fn optimizers_read_with_their_defaults() {
        let text = "batch_size = 10\noptimizer = { kind = \"sgd\", learning_rate = 0.1 }";
        let train = read(text).expect("sgd");
        assert_eq!((train.local_epochs, train.batch_size), (1, 10));
        let (momentum, weight_decay) = (0.0, 0.0);
        let sgd = Optimizer::Sgd { learning_rate: 0.1, momentum, nesterov: false, weight_decay };
        assert_eq!(train.optimizer, sgd);
        let text = "batch_size = 1\nlocal_epochs = 5\n[optimizer]\nkind = \"adam\"\n\
                    learning_rate = 1\nbeta2 = 0.99";
        let (beta1, beta2, epsilon) = (0.9, 0.99, 1e-8);
        let adam = Optimizer::Adam { learning_rate: 1.0, beta1, beta2, epsilon };
        assert_eq!(read(text).expect("adam").optimizer, adam);
    }

    #[test]
    fn faults_come_together() {
        let text = "batch_size = 0\n[optimizer]\nkind = \"sgd\"\nlearning_rate = -1\n\
                    nesterov = true\nmomentum = 1\nbeta1 = 0.9";
        let faults = read(text).expect_err("faults").to_string();
        for part in [
            "batch_size: expected an integer from 1 to 65536, found 0",
            "optimizer.learning_rate: expected a number from 0 to 1000, found -1",
            "optimizer.momentum: expected a number from 0 to 0.999999, found 1",
            "optimizer.nesterov: expected false, or a momentum above 0",
            "optimizer.beta1: expected one of the keys kind, learning_rate, momentum",
        ] {
            assert!(faults.contains(part), "{part} is missing in {faults}");
        }
        let faults = read("batch_size = 1").expect_err("no optimizer").to_string();
        assert!(
            faults.contains("optimizer.kind: expected one of \"sgd\", \"adam\", found nothing")
        );
        let faults = read("batch_size = 1\n[optimizer]\nkind = \"sdg\"\nlearning_rate = 0.1");
        assert_eq!(faults.expect_err("kind").0.len(), 1);
    }
}
