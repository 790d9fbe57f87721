//! Why a data set cannot be read or dealt out.

use std::borrow::Cow;
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Longest excerpt of a site's file that a message repeats, in characters.
const EXCERPT_CHARS_MAX: usize = 60;

/// Where in a file. Offsets and lines count what is uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    Whole,
    /// A byte, from 0.
    Byte(u64),
    /// A line, from 1.
    Line(u64),
    /// A row of a binary table, from 0.
    Row(u64),
    /// A field of a line.
    Field {
        /// The line, from 1.
        line: u64,
        /// The column, as the file or the site's configuration names it.
        column: String,
    },
    /// A field of a row of a binary table.
    Cell {
        /// The row, from 0.
        row: u64,
        /// The column.
        column: String,
    },
    /// An entry of an archive.
    Entry(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Byte(offset) => write!(f, " at byte {offset}"),
            Self::Line(line) => write!(f, " at line {line}"),
            Self::Row(row) => write!(f, " at row {row}"),
            Self::Field { line, column } => write!(f, " at line {line}, column `{column}`"),
            Self::Cell { row, column } => write!(f, " at row {row}, column `{column}`"),
            Self::Entry(name) => write!(f, " in `{name}`"),
        }
    }
}

/// What is wrong with data, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read at all.
    #[error("cannot read {}: {source}; {}", file.display(), remedy(source))]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that was to be made cannot be written.
    #[error("cannot write {}: {source}; free space there, or name another folder", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The scratch file of a data set that is larger than memory cannot be used.
    #[error(
        "cannot use a scratch file in {}: {source}; free space there, or name another `scratch_dir` \
         in [data]", folder.display()
    )]
    Scratch {
        /// The folder that it has no name in.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A data set is larger than its scratch file may be.
    #[error(
        "expected at most {most_mb} MiB of values, found more; raise `scratch_mb` in [data], or bind \
         fewer rows or columns"
    )]
    Full {
        /// Most MiB of a scratch file.
        most_mb: u64,
    },
    /// The file was written to while it was read, so that nobody can say what was read.
    #[error(
        "{} changed while it was read: expected {expected}, found {found}; let nobody write to it \
         and start again", file.display()
    )]
    Changed {
        /// The file.
        file: PathBuf,
        /// Its size and time at first.
        expected: String,
        /// Its size and time at last.
        found: String,
    },
    /// The file is not what it should be.
    #[error("{}{place}: expected {expected}, found {found}; {advice}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where in it; boxed, so that results stay small.
        place: Box<Place>,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
        /// What a person can do.
        advice: Cow<'static, str>,
    },
    /// What a file holds does not make a data set.
    #[error("{}: {source}", file.display())]
    Held {
        /// The file, or the first of several.
        file: PathBuf,
        /// Why not.
        source: Box<DataError>,
    },
    /// The data are sound, but not what the job or the configuration wants.
    #[error("the data have another {what}: expected {expected}, found {found}; {advice}")]
    Unfit {
        /// What differs (`shape`, `number of classes`).
        what: &'static str,
        /// What is wanted.
        expected: String,
        /// What the data have.
        found: String,
        /// What a person can do.
        advice: Cow<'static, str>,
    },
    /// A format that this build cannot read.
    #[error("this build cannot read {format}: build it with the cargo feature `{feature}`")]
    NotBuilt {
        /// The format.
        format: &'static str,
        /// The feature that reads it.
        feature: &'static str,
    },
    /// Two files that belong together disagree.
    #[error("{} has {found} rows, but {} has {expected}; name two files of the same set", file.display(), other.display())]
    Counts {
        /// One file.
        file: PathBuf,
        /// Its rows.
        found: usize,
        /// The other file.
        other: PathBuf,
        /// Its rows.
        expected: usize,
    },
    /// Inputs whose number is not examples × shape.
    #[error(
        "expected {examples} examples of shape {shape:?}, found {found} values; check that all \
         rows are whole and that one label belongs to each"
    )]
    Sizes {
        /// One label each.
        examples: usize,
        /// The shape of each.
        shape: Vec<usize>,
        /// The values that came.
        found: usize,
    },
    /// A label that is no class.
    #[error(
        "expected labels below {classes}, found {label} at example {index}; correct the label, or \
         the number of classes"
    )]
    Label {
        /// The example.
        index: usize,
        /// Its label.
        label: u32,
        /// How many classes there are.
        classes: u32,
    },
    /// A text or series of another length than it may have.
    #[error(
        "expected {least} to {most} steps, found {found} at example {index}; cut or \
         leave out the row, or correct `steps`"
    )]
    Length {
        /// The example.
        index: usize,
        /// The shortest.
        least: usize,
        /// The longest.
        most: usize,
        /// Its length.
        found: usize,
    },
    /// A token beyond the vocabulary.
    #[error(
        "expected tokens below {vocabulary}, found {token} at example {index}; give \
         the vocabulary that the tokens are of"
    )]
    Token {
        /// The example.
        index: usize,
        /// The token.
        token: u32,
        /// How many tokens there are.
        vocabulary: u32,
    },
    /// An input that is not a finite number.
    #[error(
        "expected finite numbers, found another at value {index}; mend the value, or the \
         constants to normalise by"
    )]
    NotFinite {
        /// Which of the values.
        index: usize,
    },
    /// An example that does not exist.
    #[error("expected an example below {examples}, found {index}")]
    Index {
        /// What was asked for.
        index: usize,
        /// How many there are.
        examples: usize,
    },
    /// Writers that do not belong to the examples.
    #[error("expected one writer for each of {expected} examples, found {found}")]
    Writers {
        /// How many examples there are.
        expected: usize,
        /// How many writers came.
        found: usize,
    },
    /// A data set that cannot be dealt out that way.
    #[error("cannot deal {examples} examples to {clients} clients as {partition}: {reason}")]
    Deal {
        /// How many examples there are.
        examples: usize,
        /// How many clients there are.
        clients: usize,
        /// The way.
        partition: String,
        /// Why not.
        reason: &'static str,
    },
}

impl DataError {
    /// Whether sound data are not what is wanted, and never will be.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        self.difference().is_some()
    }

    /// The difference between data and what is wanted, without the file's name; none where the files
    /// themselves are at fault.
    #[must_use]
    pub fn difference(&self) -> Option<&Self> {
        match self {
            Self::Unfit { .. } => Some(self),
            Self::Held { source, .. } => source.difference(),
            _ => None,
        }
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => {
            "check the path; a relative one starts at the configuration's folder"
        }
        ErrorKind::PermissionDenied => "let the user that runs the client read it",
        ErrorKind::IsADirectory => "name a file, not a folder",
        _ => "check the disk, and copy the file again",
    }
}

/// A piece of a site's file as a message repeats it: in quotes, and shortened.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Names in a message: the first few, and how many more there are.
pub(crate) fn listed<T: fmt::Display>(names: &[T]) -> String {
    const SHOWN: usize = 12;
    let mut text = names.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    if names.is_empty() { "none".to_owned() } else { text }
}
