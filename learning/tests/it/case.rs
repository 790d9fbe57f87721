//! Building models and training sections from text.

use tributary_core::document::read_document;
use tributary_core::fault::Faults;
use tributary_core::model::ModelSpec;
use tributary_core::spec::train::TrainSpec;
use tributary_learning::Control;

/// A model from the lines of a `[model]` section.
pub(crate) fn model(text: &str, classes: u32) -> Result<ModelSpec, Faults> {
    read_document(text, 1 << 20, |root| ModelSpec::read(root, classes))
        .map(|model| model.expect("a model where there are no faults"))
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
