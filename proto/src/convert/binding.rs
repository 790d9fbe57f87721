//! A client's data sets on the wire.

use tributary_core::binding::Binding;
use tributary_core::spec::cohort::EXAMPLES_MAX;
use tributary_core::spec::data::{CLASSES_MAX, DataKind, VALUES_MAX, VOCABULARY_MAX};

use super::WireFault;
use crate::v1;

/// Most dimensions of one row.
const DIMENSIONS_MAX: usize = 8;
/// Longest name of a data set.
const NAME_CHARS_MAX: usize = 64;

/// A binding as the wire has it.
#[must_use]
pub fn binding_to_wire(binding: &Binding) -> v1::Binding {
    v1::Binding {
        name: binding.name.clone(),
        kind: binding.kind.clone(),
        classes: binding.classes,
        shape: binding.shape.clone(),
        train_examples: binding.train_examples,
        evaluate_examples: binding.evaluate_examples,
        targets: binding.targets,
        vocabulary: binding.vocabulary,
    }
}

/// A binding from a peer.
///
/// # Errors
/// When a field is malformed or out of bounds.
pub fn binding_from_wire(wire: v1::Binding) -> Result<Binding, WireFault> {
    let name_ok = !wire.name.is_empty()
        && wire.name.len() <= NAME_CHARS_MAX
        && !wire.name.chars().any(char::is_control);
    if !name_ok {
        return Err(WireFault::new("binding.name", "1 to 64 printable characters", wire.name));
    }
    if !DataKind::WORDS.iter().any(|(word, _)| *word == wire.kind) {
        return Err(WireFault::new("binding.kind", "a known kind such as `image`", wire.kind));
    }
    for (field, size, max) in [
        ("binding.classes", wire.classes, CLASSES_MAX),
        ("binding.targets", wire.targets, VALUES_MAX),
        ("binding.vocabulary", wire.vocabulary, VOCABULARY_MAX),
    ] {
        if size > max {
            return Err(WireFault::new(field, format!("at most {max}"), size.to_string()));
        }
    }
    if wire.shape.len() > DIMENSIONS_MAX || wire.shape.contains(&0) {
        let expected = "at most 8 sizes above 0";
        return Err(WireFault::new("binding.shape", expected, format!("{:?}", wire.shape)));
    }
    for (field, count) in [
        ("binding.train_examples", wire.train_examples),
        ("binding.evaluate_examples", wire.evaluate_examples),
    ] {
        if count > EXAMPLES_MAX {
            return Err(WireFault::new(field, "at most 2^29", count.to_string()));
        }
    }
    Ok(Binding {
        name: wire.name,
        kind: wire.kind,
        classes: wire.classes,
        shape: wire.shape,
        train_examples: wire.train_examples,
        evaluate_examples: wire.evaluate_examples,
        targets: wire.targets,
        vocabulary: wire.vocabulary,
    })
}
