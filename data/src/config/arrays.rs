//! Arrays of NumPy: a file each, or entries of an archive.
//!
//! ```toml
//! format = "npy"
//! inputs = "train_x.npy.gz"
//! labels = "train_labels.csv"       # an array, or delimited text with a label_column;
//! label_column = "activity"         # or targets = "train_y.npy"
//! client_column = "subject"         # beside the labels, or in a group_file
//! first_label = 1                   # with classes; or class_names
//! kind = "series"                   # "table" | "image"; by the number of axes where not given
//! transpose = true                  # [steps, channels] to [channels, steps]
//! [data.normalise]                  # any format of numbers: one pair, or one for each feature
//! mean = [0.0, 0.1]
//! deviation = [1.0, 0.9]
//!
//! format = "npz"                    # the same words name arrays in `file` and `evaluate_file`
//! file = "train.npz"
//! inputs = "x"
//! labels = "y"
//! ```

use std::path::{Path, PathBuf};

use tributary_core::document::Section;
use tributary_core::spec::data::DataKind;

use super::{Format, Parts, keys};
use crate::array::{ArrayConfig, ArrayFile, ArrayLabels, ArrayTarget};
use crate::label::LabelMap;
use crate::rows::Column;

/// What all arrays of a data set share.
struct Shared {
    labels: LabelMap,
    column: Option<Column>,
    client: Option<Column>,
    kind: Option<DataKind>,
    transpose: bool,
}

impl Shared {
    fn read(section: &mut Section) -> Self {
        let words = [
            ("table", Some(DataKind::Table)),
            ("series", Some(DataKind::Series)),
            ("image", Some(DataKind::Image)),
        ];
        Self {
            labels: keys::label_map(section),
            column: keys::column(section, "label_column"),
            client: keys::column(section, "client_column"),
            kind: section.choice("kind", &words, Some(None)).flatten(),
            transpose: section.boolean("transpose", Some(false)),
        }
    }

    fn config(
        &self,
        inputs: ArrayFile,
        labels: Option<ArrayFile>,
        targets: Option<ArrayFile>,
        groups: Option<PathBuf>,
    ) -> Option<ArrayConfig> {
        let target = match (labels, targets) {
            (Some(labels), None) => {
                let labels = match &self.column {
                    Some(column) => ArrayLabels::Column(labels.file, column.clone()),
                    None => ArrayLabels::Array(labels),
                };
                ArrayTarget::Labels(labels, self.labels.clone())
            }
            (None, Some(targets)) => ArrayTarget::Values(targets),
            _ => return None,
        };
        let (client, transpose) = (self.client.clone(), self.transpose);
        Some(ArrayConfig { inputs, target, client, groups, transpose })
    }
}

/// `inputs`, and `labels` or `targets`: each a file.
pub(super) fn read_npy(section: &mut Section, base: &Path) -> Option<Format> {
    let shared = Shared::read(section);
    let mut part = |prefix: &str| {
        let mut file = |key: &str| {
            let file = section.optional_text(&format!("{prefix}{key}"));
            file.map(|file| ArrayFile { file: base.join(file), entry: None })
        };
        let (inputs, labels) = (file("inputs"), file("labels"));
        let (targets, groups) = (file("targets"), file("group_file").map(|group| group.file));
        complete(section, prefix, &inputs, &labels, &targets)?;
        shared.config(inputs?, labels, targets, groups)
    };
    let parts = Parts { train: part(""), evaluate: part("evaluate_") };
    Some(Format::Arrays { parts, kind: shared.kind })
}

/// `file`, and in it the entries `inputs`, and `labels` or `targets`; the entries to evaluate on
/// have the same names in `evaluate_file`, or other names.
pub(super) fn read_npz(section: &mut Section, base: &Path) -> Option<Format> {
    let shared = Shared::read(section);
    let file = section.optional_text("file").map(|file| base.join(file));
    let other = section.optional_text("evaluate_file").map(|file| base.join(file));
    let mut entry = |prefix: &str, key: &str| section.optional_text(&format!("{prefix}{key}"));
    let mut names = |prefix: &str| ["inputs", "labels", "targets"].map(|key| entry(prefix, key));
    let (train, mut evaluate) = (names(""), names("evaluate_"));
    let groups = entry("", "group_file").map(|path| base.join(path));
    let other_groups = entry("evaluate_", "group_file").map(|path| base.join(path));
    if other.is_some() && evaluate.iter().all(Option::is_none) {
        evaluate.clone_from(&train);
    }
    let part = |prefix: &str, file: Option<&PathBuf>, names: [Option<String>; 3], groups| {
        let in_file = |entry: Option<String>| {
            let (file, entry) = (file?.clone(), Some(entry?));
            Some(ArrayFile { file, entry })
        };
        if file.is_none() && names.iter().any(Option::is_some) {
            section.fault("file", "the .npz that holds the arrays", "nothing");
        }
        let [inputs, labels, targets] = names.map(in_file);
        complete(section, prefix, &inputs, &labels, &targets)?;
        shared.config(inputs?, labels, targets, groups)
    };
    let train = part("", file.as_ref(), train, groups);
    let evaluate = part("evaluate_", other.as_ref().or(file.as_ref()), evaluate, other_groups);
    Some(Format::Arrays { parts: Parts { train, evaluate }, kind: shared.kind })
}

/// Either nothing, or inputs with exactly one of labels and targets.
fn complete(
    section: &Section,
    prefix: &str,
    inputs: &Option<ArrayFile>,
    labels: &Option<ArrayFile>,
    targets: &Option<ArrayFile>,
) -> Option<()> {
    let (given, predicted) = (inputs.is_some(), [labels, targets]);
    let predicted = predicted.into_iter().flatten().count();
    match (given, predicted) {
        (false, 0) | (true, 1) => return Some(()),
        (true, 0) => {
            let key = format!("{prefix}labels");
            section.fault(&key, format!("`{prefix}labels` or `{prefix}targets`"), "nothing");
        }
        (true, _) => {
            let key = format!("{prefix}targets");
            section.fault(&key, format!("either `{prefix}labels` or `{prefix}targets`"), "both");
        }
        (false, _) => {
            let key = format!("{prefix}inputs");
            section.fault(&key, "the array of the examples", "nothing");
        }
    }
    None
}
