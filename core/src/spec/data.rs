//! What every client of a job must be able to bind: names and types, never paths.

use crate::document::Section;

/// The kind of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKind {
    /// Pixels in [0, 1], channels first, and one label a picture.
    Image,
}

impl DataKind {
    /// All kinds with their words in documents and on the wire.
    pub const WORDS: [(&'static str, DataKind); 1] = [("image", DataKind::Image)];

    /// The kind's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            DataKind::Image => "image",
        }
    }
}

/// The `[data]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSpec {
    /// The name that sites bind their data set under; any name where it is not given.
    pub name: Option<String>,
    /// The kind of rows.
    pub kind: DataKind,
    /// How many classes the labels have; labels are 0 to `classes − 1`.
    pub classes: u32,
}

/// Most classes: the confusion matrix of a round stays below 32 MiB.
pub const CLASSES_MAX: u32 = 2048;

impl DataSpec {
    pub(super) fn read(section: &mut Section) -> Self {
        let name = section.optional_text("name");
        let kind = section.choice("kind", &DataKind::WORDS, None).unwrap_or(DataKind::Image);
        let classes = section.count("classes", 2..=CLASSES_MAX, None);
        Self { name, kind, classes }
    }
}
