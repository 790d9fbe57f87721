//! What training makes small.

use crate::document::Section;
use crate::spec::data::{DataSpec, Target};

/// A loss, the mean over a batch. Formulae and conventions are PyTorch's.
#[derive(Debug, Clone, PartialEq)]
pub enum Loss {
    /// −ln softmax(logits) at the label.
    CrossEntropy {
        /// Share of the target that is spread evenly over all classes.
        label_smoothing: f64,
        /// A weight for each class; empty is 1 for all.
        class_weights: Vec<f64>,
    },
    /// −y ln σ(x) − (1 − y) ln(1 − σ(x)), over all outputs.
    BinaryCrossEntropy,
    /// (x − y)², over all outputs.
    Mse,
    /// Cross-entropy of the next token at each step that has one.
    NextTokenCrossEntropy,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    CrossEntropy,
    Binary,
    Mse,
    NextToken,
}

const WORDS: [(&str, Kind); 4] = [
    ("cross_entropy", Kind::CrossEntropy),
    ("binary_cross_entropy", Kind::Binary),
    ("mse", Kind::Mse),
    ("next_token_cross_entropy", Kind::NextToken),
];

impl Loss {
    /// Reads `loss`: a word, or `{ cross_entropy = { label_smoothing = 0.1, class_weights = […] } }`.
    pub(super) fn read(model: &mut Section, data: &DataSpec) -> Option<Loss> {
        let default = match data.target {
            Target::Classes(_) => Kind::CrossEntropy,
            Target::Values(_) => Kind::Mse,
            Target::NextToken => Kind::NextToken,
        };
        let is_table = model.optional_table("loss");
        let loss = match is_table {
            Some(table) => {
                let mut outer = model.below(model.path_of("loss"), table);
                let settings = outer.optional_section("cross_entropy");
                outer.finish();
                let Some(mut settings) = settings else {
                    model.fault("loss", "a word, or { cross_entropy = { … } }", "another table");
                    return None;
                };
                let loss = read_cross_entropy(&mut settings, data);
                settings.finish();
                loss?
            }
            None => match model.choice("loss", &WORDS, Some(default))? {
                Kind::CrossEntropy => {
                    Loss::CrossEntropy { label_smoothing: 0.0, class_weights: Vec::new() }
                }
                Kind::Binary => Loss::BinaryCrossEntropy,
                Kind::Mse => Loss::Mse,
                Kind::NextToken => Loss::NextTokenCrossEntropy,
            },
        };
        let fits = matches!(
            (&loss, data.target),
            (Loss::CrossEntropy { .. }, Target::Classes(_))
                | (Loss::BinaryCrossEntropy, Target::Classes(2) | Target::Values(_))
                | (Loss::Mse, Target::Values(_))
                | (Loss::NextTokenCrossEntropy, Target::NextToken)
        );
        if !fits {
            let expected = "cross_entropy for `classes`, binary_cross_entropy for 2 classes or \
                            `targets`, mse for `targets`, next_token_cross_entropy for text without \
                            either";
            model.fault("loss", expected, format!("{} for {}", loss.word(), data.target.phrase()));
            return None;
        }
        Some(loss)
    }

    /// The loss's word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let kind = match self {
            Loss::CrossEntropy { .. } => Kind::CrossEntropy,
            Loss::BinaryCrossEntropy => Kind::Binary,
            Loss::Mse => Kind::Mse,
            Loss::NextTokenCrossEntropy => Kind::NextToken,
        };
        WORDS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| word)
    }

    /// The shape that the last layer must give, for examples of `steps` steps.
    pub(super) fn output(&self, data: &DataSpec, steps: usize) -> Vec<usize> {
        match (self, data.target) {
            (Loss::BinaryCrossEntropy, Target::Classes(_)) => vec![1],
            (_, Target::Classes(classes)) => vec![classes as usize],
            (_, Target::Values(values)) => vec![values as usize],
            (_, Target::NextToken) => vec![steps, data.vocabulary as usize],
        }
    }
}

/// Largest weight of a class.
const CLASS_WEIGHT_MAX: f64 = 1e6;

fn read_cross_entropy(section: &mut Section, data: &DataSpec) -> Option<Loss> {
    let label_smoothing = section.number("label_smoothing", 0.0..=1.0, Some(0.0));
    let Some(list) = section.optional_list("class_weights") else {
        return Some(Loss::CrossEntropy { label_smoothing, class_weights: Vec::new() });
    };
    let classes = match data.target {
        Target::Classes(classes) => classes as usize,
        _ => 0,
    };
    let read = |value: &toml::Value| {
        let number = value.as_float().or_else(|| value.as_integer().map(|i| i as f64))?;
        (0.0..=CLASS_WEIGHT_MAX).contains(&number).then_some(number)
    };
    let found = list.len();
    let weights: Option<Vec<f64>> = list.iter().map(|(_, value)| read(value)).collect();
    match weights.filter(|w| w.len() == classes && w.iter().sum::<f64>() > 0.0) {
        Some(class_weights) => Some(Loss::CrossEntropy { label_smoothing, class_weights }),
        None => {
            let expected = format!("{classes} numbers from 0 to {CLASS_WEIGHT_MAX}, not all 0");
            section.fault("class_weights", expected, format!("a list of {found}"));
            None
        }
    }
}
