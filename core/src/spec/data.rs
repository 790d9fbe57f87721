//! What every client of a job must be able to bind: names and types, never paths.

use crate::document::Section;
use crate::metrics::Measure;

use super::constants::Constants;

/// The kind of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKind {
    /// Pixels in [0, 1], channels first.
    Image,
    /// A row of a table: numbers.
    Table,
    /// A series of measurements: `[steps, features]` or `[channels, length]`.
    Series,
    /// Tokens of a text.
    Text,
}

impl DataKind {
    /// All kinds with their words in documents and on the wire.
    pub const WORDS: [(&'static str, DataKind); 4] = [
        ("image", DataKind::Image),
        ("table", DataKind::Table),
        ("series", DataKind::Series),
        ("text", DataKind::Text),
    ];

    /// The kind's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            DataKind::Image => "image",
            DataKind::Table => "table",
            DataKind::Series => "series",
            DataKind::Text => "text",
        }
    }
}

/// What is to be predicted of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One of so many classes; labels are 0 to classes − 1.
    Classes(u32),
    /// So many numbers.
    Values(u32),
    /// At each step of a text, the token that follows.
    NextToken,
}

impl Target {
    /// The target in words, for messages.
    #[must_use]
    pub fn phrase(self) -> String {
        match self {
            Target::Classes(classes) => format!("{classes} classes"),
            Target::Values(values) => format!("{values} targets"),
            Target::NextToken => "the next token".to_owned(),
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
    /// What is predicted.
    pub target: Target,
    /// Tokens of a text are below this; 0 for other kinds.
    pub vocabulary: u32,
}

/// Most classes: the confusion matrix of a round stays below 32 MiB.
pub const CLASSES_MAX: u32 = 2048;
/// Most numbers to predict of a row.
pub const VALUES_MAX: u32 = 1024;
/// Largest vocabulary: about four times that of today's largest models.
pub const VOCABULARY_MAX: u32 = 1 << 20;

impl DataSpec {
    pub(super) fn read(section: &mut Section, constants: &Constants) -> Self {
        let name = section.optional_text("name");
        let kind = section.choice("kind", &DataKind::WORDS, None);
        let text = kind == Some(DataKind::Text);
        let given = constants.vocabulary();
        if given.is_some() && !text && kind.is_some() {
            section.fault("words", "a vocabulary only where kind = \"text\"", "one");
        }
        // The list of tokens may be shorter than the model has room for.
        let range = given.unwrap_or(2).min(VOCABULARY_MAX)..=VOCABULARY_MAX;
        let vocabulary = if text { section.count("vocabulary", range, given) } else { 0 };
        let named =
            (section.has("classes") || constants.classes().is_some(), section.has("targets"));
        let range = constants.classes().map_or(2..=CLASSES_MAX, |classes| classes..=classes);
        let mut classes = || section.count("classes", range.clone(), constants.classes());
        let target = match named {
            (true, true) => {
                let classes = classes();
                section.fault("targets", "either `classes` or `targets`", "both");
                let _ = section.take("targets");
                Target::Classes(classes)
            }
            (false, true) => Target::Values(section.count("targets", 1..=VALUES_MAX, None)),
            (false, false) if text => Target::NextToken,
            _ => Target::Classes(classes()),
        };
        Self { name, kind: kind.unwrap_or(DataKind::Image), target, vocabulary }
    }

    /// What a model's statistics count.
    #[must_use]
    pub fn measure(&self) -> Measure {
        match self.target {
            Target::Classes(classes) => Measure::Classes(classes),
            Target::Values(values) => Measure::Values(values),
            Target::NextToken => Measure::Tokens,
        }
    }
}
