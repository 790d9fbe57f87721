//! A client's optimiser, in PyTorch's formulae; its state begins anew in every round.

use crate::document::Section;

/// Largest learning rate that is a rate and no slip of the pen.
const LEARNING_RATE_MAX: f64 = 1000.0;
/// Momentum and betas stay below 1, where the average would never forget.
const DECAY_MAX: f64 = 0.999_999;

/// How a gradient changes the parameters.
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
    /// Adam with bias correction (Kingma and Ba 2015), and AdamW (Loshchilov and Hutter 2019).
    Adam {
        /// The step's size.
        learning_rate: f64,
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squared gradients.
        beta2: f64,
        /// Added to the root, against division by nothing.
        epsilon: f64,
        /// Decay of the parameters.
        weight_decay: f64,
        /// Whether decay shrinks the parameters themselves (AdamW), or is added to their gradient.
        decoupled: bool,
    },
    /// Adagrad (Duchi, Hazan and Singer 2011).
    Adagrad {
        /// The step's size.
        learning_rate: f64,
        /// Added to the root.
        epsilon: f64,
        /// This share of a parameter is added to its gradient.
        weight_decay: f64,
    },
    /// RMSprop (Tieleman and Hinton 2012).
    RmsProp {
        /// The step's size.
        learning_rate: f64,
        /// Decay of the mean of squared gradients.
        alpha: f64,
        /// Added to the root.
        epsilon: f64,
        /// How much of the last step's direction stays; 0 is none.
        momentum: f64,
        /// This share of a parameter is added to its gradient.
        weight_decay: f64,
    },
}

#[derive(Clone, Copy)]
enum Kind {
    Sgd,
    Adam,
    AdamW,
    Adagrad,
    RmsProp,
}

const WORDS: [(&str, Kind); 5] = [
    ("sgd", Kind::Sgd),
    ("adam", Kind::Adam),
    ("adamw", Kind::AdamW),
    ("adagrad", Kind::Adagrad),
    ("rmsprop", Kind::RmsProp),
];

impl Optimizer {
    /// Plain stochastic gradient descent.
    #[must_use]
    pub fn sgd(learning_rate: f64) -> Self {
        Optimizer::Sgd { learning_rate, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    pub(super) fn read(section: &mut Section) -> Self {
        let kind = section.choice("kind", &WORDS, None);
        let learning_rate = section.number("learning_rate", 0.0..=LEARNING_RATE_MAX, None);
        let Some(kind) = kind else {
            // What else stands here belongs to a kind that is not known: say only that.
            return Self::sgd(learning_rate);
        };
        let decay = |section: &mut Section, key: &str, default| {
            section.number(key, 0.0..=DECAY_MAX, Some(default))
        };
        let epsilon =
            |section: &mut Section, default| section.number("epsilon", 0.0..=1.0, Some(default));
        let weight_decay = |section: &mut Section, default| {
            section.number("weight_decay", 0.0..=1.0, Some(default))
        };
        let optimizer = match kind {
            Kind::Sgd => {
                let momentum = decay(section, "momentum", 0.0);
                let nesterov = section.boolean("nesterov", Some(false));
                if nesterov && momentum == 0.0 {
                    section.fault("nesterov", "false, or a momentum above 0", "true");
                }
                let weight_decay = weight_decay(section, 0.0);
                Optimizer::Sgd { learning_rate, momentum, nesterov, weight_decay }
            }
            Kind::Adam | Kind::AdamW => {
                let decoupled = matches!(kind, Kind::AdamW);
                Optimizer::Adam {
                    learning_rate,
                    beta1: decay(section, "beta1", 0.9),
                    beta2: decay(section, "beta2", 0.999),
                    epsilon: epsilon(section, 1e-8),
                    weight_decay: weight_decay(section, if decoupled { 0.01 } else { 0.0 }),
                    decoupled,
                }
            }
            Kind::Adagrad => Optimizer::Adagrad {
                learning_rate,
                epsilon: epsilon(section, 1e-10),
                weight_decay: weight_decay(section, 0.0),
            },
            Kind::RmsProp => Optimizer::RmsProp {
                learning_rate,
                alpha: decay(section, "alpha", 0.99),
                epsilon: epsilon(section, 1e-8),
                momentum: decay(section, "momentum", 0.0),
                weight_decay: weight_decay(section, 0.0),
            },
        };
        section.finish();
        optimizer
    }
}
