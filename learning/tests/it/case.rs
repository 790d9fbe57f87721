//! Building models and training sections from text.

use tributary_core::document::read_document;
use tributary_core::fault::Faults;
use tributary_core::model::ModelSpec;
use tributary_core::spec::data::{DataKind, DataSpec, Target};
use tributary_core::spec::train::TrainSpec;
use tributary_learning::Control;

/// A model from the lines of a `[model]` section.
pub(crate) fn model(text: &str, data: &DataSpec) -> Result<ModelSpec, Faults> {
    read_document(text, 1 << 20, |root| ModelSpec::read(root, data))
        .map(|model| model.expect("a model where there are no faults"))
}

/// Data of numbers with so many classes.
pub(crate) fn classes(classes: u32) -> DataSpec {
    let (kind, target) = (DataKind::Image, Target::Classes(classes));
    DataSpec { name: None, kind, target, vocabulary: 0 }
}

/// A training section from its lines.
pub(crate) fn training(text: &str) -> Result<TrainSpec, Faults> {
    read_document(text, 1 << 20, TrainSpec::read)
}

/// Nobody watches and nobody stops.
pub(crate) struct Quiet;

impl Control for Quiet {
    fn progress(&self, _: u64, _: u64) {}
    fn cancelled(&self) -> bool {
        false
    }
}
