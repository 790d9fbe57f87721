//! What a client says of a data set, and what a job needs of one: names, types and counts; never
//! paths or rows.

use serde::{Deserialize, Serialize};

use crate::spec::JobSpec;
use crate::spec::data::Target;

/// One data set of a client. Where a job says how the site reads its rows (their vocabulary, their
/// length), the shape has no sizes, and what is 0 beside it is as the job says; the site judges by
/// itself when a task comes, and refuses what does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The site's name for it.
    pub name: String,
    /// The kind's word (`image`).
    pub kind: String,
    /// How many classes its labels have; 0 where rows have none.
    pub classes: u32,
    /// How many numbers its rows have as targets; 0 where they have none.
    #[serde(default)]
    pub targets: u32,
    /// Tokens are below this; 0 where there are none.
    #[serde(default)]
    pub vocabulary: u32,
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
    /// How many numbers to predict.
    #[serde(default)]
    pub targets: u32,
    /// Tokens are below this.
    #[serde(default)]
    pub vocabulary: u32,
    /// The sizes of one row: the model's input.
    pub shape: Vec<u32>,
    /// The oldest protocol whose clients understand the job; 0 for any.
    #[serde(default)]
    pub protocol: u32,
}

/// The first protocol that has statistics tasks, and constants beside a spec.
pub const STATISTICS_PROTOCOL: u32 = 2;

impl DataNeed {
    /// What a spec needs.
    #[must_use]
    pub fn of(spec: &JobSpec) -> Self {
        let sizes = spec.model.input().iter();
        let (classes, targets) = match spec.data.target {
            Target::Classes(classes) => (classes, 0),
            Target::Values(values) => (0, values),
            Target::NextToken => (0, 0),
        };
        Self {
            name: spec.data.name.clone(),
            kind: spec.data.kind.word().to_owned(),
            classes,
            targets,
            vocabulary: spec.data.vocabulary,
            // The grammar bounds sizes far below u32.
            shape: sizes.map(|&size| u32::try_from(size).unwrap_or(u32::MAX)).collect(),
            protocol: if spec.statistics.is_some() { STATISTICS_PROTOCOL } else { 0 },
        }
    }

    /// Whether a data set serves.
    #[must_use]
    pub fn met_by(&self, binding: &Binding) -> bool {
        let named = self.name.as_ref().is_none_or(|name| *name == binding.name);
        // A job with a larger vocabulary has room to spare.
        let tokens = (binding.vocabulary > 0) == (self.vocabulary > 0)
            && binding.vocabulary <= self.vocabulary;
        let same = self.classes == binding.classes
            && self.targets == binding.targets
            && tokens
            && self.shape == binding.shape;
        let by_job =
            binding.shape.is_empty() && (binding.classes == 0 || binding.classes == self.classes);
        named && self.kind == binding.kind && (same || by_job)
    }
}

#[cfg(test)]
mod tests {
    use super::{Binding, DataNeed};

    fn need() -> DataNeed {
        DataNeed {
            name: None,
            kind: "text".to_owned(),
            classes: 2,
            targets: 0,
            vocabulary: 500,
            shape: vec![64],
            protocol: 0,
        }
    }

    fn binding() -> Binding {
        Binding {
            name: "reviews".to_owned(),
            kind: "text".to_owned(),
            classes: 2,
            targets: 0,
            vocabulary: 500,
            shape: vec![64],
            train_examples: 10,
            evaluate_examples: 0,
        }
    }

    #[test]
    fn data_serve_where_they_are_what_the_job_needs_or_leave_it_to_the_job() {
        assert!(need().met_by(&binding()));
        assert!(need().met_by(&Binding { vocabulary: 400, ..binding() }));
        assert!(!need().met_by(&Binding { vocabulary: 501, ..binding() }));
        assert!(!need().met_by(&Binding { vocabulary: 0, ..binding() }));
        let numbers = DataNeed { vocabulary: 0, ..need() };
        assert!(!numbers.met_by(&binding()));
        let open = Binding { vocabulary: 0, shape: Vec::new(), ..binding() };
        assert!(need().met_by(&open));
        assert!(need().met_by(&Binding { classes: 0, ..open.clone() }));
        assert!(!need().met_by(&Binding { classes: 3, ..open.clone() }));
        assert!(!need().met_by(&Binding { kind: "table".to_owned(), ..open }));
    }
}
