//! What a client says of a data set, and what a job needs of one: names, types and counts; never
//! paths or rows.

use serde::{Deserialize, Serialize};

use crate::spec::JobSpec;

/// One data set of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The site's name for it.
    pub name: String,
    /// The kind's word (`image`).
    pub kind: String,
    /// How many classes its labels have.
    pub classes: u32,
    /// The sizes of one row.
    pub shape: Vec<u32>,
    /// Rows for training.
    pub train_examples: u64,
    /// Rows held out for evaluation.
    pub evaluate_examples: u64,
}

/// What a job needs of a client's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataNeed {
    /// The name that it must be bound under, where the spec gives one.
    pub name: Option<String>,
    /// The kind's word.
    pub kind: String,
    /// How many classes.
    pub classes: u32,
    /// The sizes of one row: the model's input.
    pub shape: Vec<u32>,
}

impl DataNeed {
    /// What a spec needs.
    #[must_use]
    pub fn of(spec: &JobSpec) -> Self {
        let sizes = spec.model.input().iter();
        Self {
            name: spec.data.name.clone(),
            kind: spec.data.kind.word().to_owned(),
            classes: spec.data.classes,
            // The grammar bounds sizes far below u32.
            shape: sizes.map(|&size| u32::try_from(size).unwrap_or(u32::MAX)).collect(),
        }
    }

    /// Whether a data set serves.
    #[must_use]
    pub fn met_by(&self, binding: &Binding) -> bool {
        self.name.as_ref().is_none_or(|name| *name == binding.name)
            && self.kind == binding.kind
            && self.classes == binding.classes
            && self.shape == binding.shape
    }
}
