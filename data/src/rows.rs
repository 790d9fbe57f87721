//! Rows with columns, whatever file they come from: a reader hands them one by one to a sink, which
//! keeps what it wants and nothing else.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{excerpt, listed};
use super::file::{Stamp, malformed};
use super::{DataError, Place};

pub(crate) mod delimited;
pub(crate) mod jsonl;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;

/// A column, as a site's configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// By the name in the file's header or schema.
    Name(String),
    /// By position, from 0: a file without a header has nothing else.
    Position(usize),
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Position(position) => write!(f, "{position}"),
        }
    }
}

/// How rows lie in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFormat {
    /// Lines of fields with a delimiter between them.
    Delimited(Dialect),
    /// One JSON object a line.
    JsonLines,
    /// Parquet.
    Parquet,
}

/// How lines of fields are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// Between two fields: a comma, a tab, a semicolon.
    pub delimiter: u8,
    /// Whether a field may stand in double quotes, and then hold delimiters and line ends.
    pub quotes: bool,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Names for the columns of a file without a header; positions where this is empty.
    pub names: Vec<String>,
}

impl Dialect {
    /// Comma-separated, with a header.
    #[must_use]
    pub fn csv() -> Self {
        Self { delimiter: b',', quotes: true, header: true, names: Vec::new() }
    }

    /// Tab-separated, with a header and without quotes.
    #[must_use]
    pub fn tsv() -> Self {
        Self { delimiter: b'\t', quotes: false, ..Self::csv() }
    }
}

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell<'a> {
    /// Nothing stands there.
    Missing,
    /// A number, as typed files have them.
    Number(f64),
    /// A text, which may be that of a number.
    Text(&'a str),
}

impl Cell<'_> {
    /// The cell's number: none where it is a text that is no number.
    pub(crate) fn number(self) -> Option<f64> {
        match self {
            Self::Missing => None,
            Self::Number(number) => Some(number),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }

    /// The cell's text; whole numbers are written without a point, as labels are.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Missing => String::new(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.to_owned(),
        }
    }

    /// The cell in a message.
    pub(crate) fn shown(self) -> String {
        match self {
            Self::Missing => "nothing".to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => excerpt(text),
        }
    }
}

/// Where a row is: a line of a text from 1, or a row of a binary file from 0.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowAt {
    Line(u64),
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "no binary format is built"))]
    Row(u64),
}

/// A row's file and place, for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) file: &'a Path,
    pub(crate) at: RowAt,
}

impl Spot<'_> {
    /// The error of the row's value in a column.
    pub(crate) fn wrong(
        self,
        column: &Column,
        expected: impl Into<String>,
        found: impl Into<String>,
        advice: &'static str,
    ) -> DataError {
        let column = column.to_string();
        let place = match self.at {
            RowAt::Line(line) => Place::Field { line, column },
            RowAt::Row(row) => Place::Cell { row, column },
        };
        malformed(self.file, place, expected, found, advice)
    }
}

/// What takes rows.
pub(crate) trait RowSink {
    /// The columns that this sink wants, given the names of all that there are (`None` where the
    /// format cannot say beforehand).
    fn columns(&mut self, file: &Path, there: Option<&[String]>) -> Result<Vec<Column>, DataError>;

    /// A row: one cell for each column that was asked for, in that order.
    fn row(&mut self, spot: Spot<'_>, cells: &[Cell<'_>]) -> Result<(), DataError>;
}

/// Reads files of one format, one after the other, into a sink.
pub(crate) fn read(
    format: &RowFormat,
    files: &[PathBuf],
    sink: &mut dyn RowSink,
) -> Result<Vec<Stamp>, DataError> {
    let read_one = |file: &PathBuf| match format {
        RowFormat::Delimited(dialect) => delimited::read(file, dialect, sink),
        RowFormat::JsonLines => jsonl::read(file, sink),
        #[cfg(feature = "parquet")]
        RowFormat::Parquet => parquet::read(file, sink),
        #[cfg(not(feature = "parquet"))]
        RowFormat::Parquet => {
            let _ = file;
            Err(DataError::NotBuilt { format: "parquet", feature: "parquet" })
        }
    };
    files.iter().map(read_one).collect()
}

/// The positions of columns among the names of a file, which `place` is where they stand.
pub(crate) fn positions(
    file: &Path,
    place: Place,
    there: &[String],
    wanted: &[Column],
) -> Result<Vec<usize>, DataError> {
    let position = |column: &Column| {
        let (first, again) = match column {
            Column::Position(at) => (Some(*at).filter(|&at| at < there.len()), None),
            Column::Name(name) => {
                let mut all = there.iter().enumerate().filter(|(_, known)| *known == name);
                (all.next().map(|(at, _)| at), all.next())
            }
        };
        if again.is_some() {
            let expected = format!("one column `{column}`");
            let advice = "rename one of them, or give its position";
            return Err(malformed(file, place.clone(), expected, "several", advice));
        }
        first.ok_or_else(|| {
            let expected = format!("a column `{column}`");
            let found = match column {
                Column::Name(_) => format!("the columns {}", listed(there)),
                Column::Position(_) => format!("{} columns", there.len()),
            };
            let advice = "name the column as the file does, or name the right file";
            malformed(file, place.clone(), expected, found, advice)
        })
    };
    wanted.iter().map(position).collect()
}

#[cfg(test)]
mod tests;
