//! Why a data set cannot be read or dealt out.

use std::path::PathBuf;

/// What is wrong with data, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read at all.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be. Offsets count the uncompressed bytes.
    #[error("{} at byte {offset}: expected {expected}, found {found}; {advice}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
        /// What a person can do.
        advice: &'static str,
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
    #[error("expected {examples} examples of shape {shape:?}, found {found} values")]
    Sizes {
        /// One label each.
        examples: usize,
        /// The shape of each.
        shape: Vec<usize>,
        /// The values that came.
        found: usize,
    },
    /// A label that is no class.
    #[error("expected labels below {classes}, found {label} at example {index}")]
    Label {
        /// The example.
        index: usize,
        /// Its label.
        label: u32,
        /// How many classes there are.
        classes: u32,
    },
    /// An input that is not a finite number.
    #[error("expected finite numbers, found another at value {index}")]
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
