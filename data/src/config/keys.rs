//! Keys that several formats share: paths, columns, lists, classes.

use std::path::{Path, PathBuf};

use toml::Value;
use tributary_core::document::{Section, show};
use tributary_core::spec::constants::{NUMBER_MAX, distinct};
use tributary_core::spec::data::CLASSES_MAX;

use crate::config::Parts;
use crate::label::LabelMap;
use crate::rows::Column;

/// Most files of one part.
const FILES_MAX: usize = 1 << 16;
/// Largest number of class 0: labels are small numbers.
const FIRST_LABEL_MAX: u64 = 1 << 31;

/// `file` or `files`, and the same for the rows to evaluate on.
pub(super) fn files(section: &mut Section, base: &Path) -> Parts<Vec<PathBuf>> {
    Parts { train: part(section, base, ""), evaluate: part(section, base, "evaluate_") }
}

fn part(section: &mut Section, base: &Path, prefix: &str) -> Option<Vec<PathBuf>> {
    let (one, many) = (format!("{prefix}file"), format!("{prefix}files"));
    let single = section.optional_text(&one);
    let list = strings(section, &many);
    match (single, list) {
        (Some(_), Some(_)) => {
            section.fault(&one, format!("either `{one}` or `{many}`"), "both");
            None
        }
        (Some(path), None) => Some(vec![base.join(path)]),
        (None, Some(list)) if list.is_empty() || list.len() > FILES_MAX => {
            let found = format!("a list of {}", list.len());
            section.fault(&many, format!("a list of 1 to {FILES_MAX} paths"), found);
            None
        }
        (None, Some(list)) => Some(list.iter().map(|path| base.join(path)).collect()),
        (None, None) => None,
    }
}

/// A list of texts.
pub(super) fn strings(section: &mut Section, key: &str) -> Option<Vec<String>> {
    let list = section.optional_list(key)?;
    let mut texts = Vec::with_capacity(list.len());
    for (path, value) in list {
        match value {
            Value::String(text) => texts.push(text),
            other => section.fault_at(path, "a text in quotes", show(&other)),
        }
    }
    Some(texts)
}

/// A finite number, or a list of them.
pub(super) fn numbers(section: &mut Section, key: &str) -> Option<Vec<f64>> {
    let path = section.path_of(key);
    let list = match section.take(key)? {
        Value::Array(list) => list,
        one => vec![one],
    };
    let mut found = Vec::with_capacity(list.len());
    for value in list {
        let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        match number.filter(|number| number.is_finite()) {
            Some(number) => found.push(number),
            None => section.fault_at(path.clone(), "finite numbers", show(&value)),
        }
    }
    Some(found)
}

/// A column by name (a text) or by position (an integer from 0).
pub(super) fn column(section: &mut Section, key: &str) -> Option<Column> {
    let value = section.take(key)?;
    let path = section.path_of(key);
    one_column(section, path, &value)
}

/// A list of columns.
pub(super) fn columns(section: &mut Section, key: &str) -> Option<Vec<Column>> {
    let list = section.optional_list(key)?;
    Some(list.into_iter().filter_map(|(path, v)| one_column(section, path, &v)).collect())
}

/// The column that a value names.
pub(super) fn one_column(section: &Section, path: String, value: &Value) -> Option<Column> {
    let column = match value {
        Value::String(name) => Some(Column::Name(name.clone())),
        Value::Integer(at) => usize::try_from(*at).ok().map(Column::Position),
        _ => None,
    };
    if column.is_none() {
        section.fault_at(path, "a column: a name in quotes, or a position from 0", show(value));
    }
    column
}

/// A required column.
pub(super) fn required_column(section: &mut Section, key: &str) -> Option<Column> {
    if !section.has(key) {
        section.fault(key, "a column: a name in quotes, or a position from 0", "nothing");
    }
    column(section, key)
}

/// How labels become classes: `classes` (with `first_label`), `class_names`, `label_above`, or as
/// the job says.
pub(super) fn label_map(section: &mut Section) -> LabelMap {
    let classes = section.has("classes").then(|| section.count("classes", 2..=CLASSES_MAX, None));
    let first = section.integer("first_label", 0..=FIRST_LABEL_MAX, Some(0));
    let names = strings(section, "class_names");
    let above = section
        .has("label_above")
        .then(|| section.number("label_above", -NUMBER_MAX..=NUMBER_MAX, None));
    if let Some(names) = &names
        && (!(2..=CLASSES_MAX as usize).contains(&names.len()) || !distinct(names))
    {
        let expected = format!("2 to {CLASSES_MAX} different names");
        section.fault("class_names", expected, format!("a list of {}", names.len()));
    }
    match (classes, names, above) {
        (classes, Some(names), None) => {
            if classes.is_some_and(|classes| classes as usize != names.len()) {
                let expected = format!("{} classes, as `class_names` has", names.len());
                let found = classes.map_or_else(String::new, |classes| classes.to_string());
                section.fault("classes", expected, found);
            }
            LabelMap::Names(names)
        }
        (None | Some(2), None, Some(threshold)) => LabelMap::Above(threshold),
        (_, _, Some(_)) => {
            section.fault("label_above", "no `class_names`, and 2 classes", "others");
            LabelMap::Job
        }
        // The bound above is far below i64's.
        (Some(classes), None, None) => LabelMap::Numbers { classes, first: first as i64 },
        (None, None, None) => LabelMap::Job,
    }
}
