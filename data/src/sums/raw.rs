//! What stands in a site's files before it is encoded: how often each word, character or label
//! comes and what the numbers sum to, so that all sites can agree on one vocabulary, one list of
//! classes and one set of constants.

use std::path::{Path, PathBuf};

use super::{NumericSums, TokenCounts};
use crate::config::{Format, SourceConfig};
use crate::file::{SiteFile, malformed};
use crate::rows::{Cell, Column, RowFormat, RowSink, Spot, read};
use crate::table::{Encoding, TableColumns, TableTarget, finite};
use crate::text::TEXT_BYTES_MAX;
use crate::token::TokenConfig;
use crate::{DataError, Place};

/// Counts the words or characters of the texts to train on, as `[data.tokens]` cuts them; no
/// vocabulary is needed for it.
///
/// # Errors
/// When the format has no texts, when a `tokenizer.json` has its own vocabulary, and on files that
/// cannot be read.
pub fn token_counts(config: &SourceConfig) -> Result<TokenCounts, DataError> {
    let mut sink = CountSink { counts: TokenCounts::default(), column: None, count: count_label };
    match &config.format {
        Format::TextRows(rows) => {
            sink.column = Some(rows.columns.text.clone());
            sink.count = counter(&rows.tokens)?;
            count_rows(&rows.rows, rows.parts.train.as_deref(), &mut sink)?;
        }
        Format::Text { parts, tokens, .. } => {
            let count = counter(tokens)?;
            for path in parts.train.iter().flatten() {
                let (bytes, _) = SiteFile::read_whole(path, TEXT_BYTES_MAX)?;
                let text = String::from_utf8(bytes).map_err(|error| {
                    let place = Place::Byte(error.utf8_error().valid_up_to() as u64);
                    let advice = "save the file as UTF-8";
                    malformed(path, place, "text in UTF-8", "other bytes", advice)
                })?;
                count(&mut sink.counts, &text);
            }
        }
        _ => return Err(nothing("texts to count", "name a format of texts")),
    }
    Ok(sink.counts)
}

/// Counts the labels of the rows to train on as they are written; no list of classes is needed.
///
/// # Errors
/// When the format has no column of labels, and on files that cannot be read.
pub fn label_counts(config: &SourceConfig) -> Result<TokenCounts, DataError> {
    let mut sink = CountSink { counts: TokenCounts::default(), column: None, count: count_label };
    let (rows, files, label) = match &config.format {
        Format::Table { parts, rows, columns } => {
            let label = match &columns.target {
                TableTarget::Label(column, _) => Some(column),
                TableTarget::Values(_) => None,
            };
            (rows, parts.train.as_deref(), label)
        }
        Format::TextRows(config) => {
            let label = config.columns.label.as_ref().map(|(column, _)| column);
            (&config.rows, config.parts.train.as_deref(), label)
        }
        _ => return Err(nothing("labels in a column", "name the classes in [data]")),
    };
    sink.column = label.cloned();
    if sink.column.is_none() {
        return Err(nothing("labels in a column", "name a `label_column` in [data]"));
    }
    count_rows(rows, files, &mut sink)?;
    Ok(sink.counts)
}

/// Sums the numeric features of the rows to train on as they are written, before `mean`,
/// `deviation` and whatever stands for a missing value; missing values are left out. In the order
/// of the features.
///
/// # Errors
/// When the format is no table, on a value that is no number, and on files that cannot be read.
pub fn column_sums(
    config: &SourceConfig,
    with_extremes: bool,
) -> Result<Vec<(Column, NumericSums)>, DataError> {
    let Format::Table { parts, rows, columns } = &config.format else {
        return Err(nothing("a table", "sum the features of the opened data instead"));
    };
    let mut sink = SumSink { columns, sums: Vec::new(), with_extremes };
    read(rows, parts.train.as_deref().unwrap_or_default(), &mut sink)?;
    Ok(sink.sums)
}

fn nothing(expected: &str, advice: &'static str) -> DataError {
    let (expected, found) = (expected.to_owned(), "none".to_owned());
    DataError::Unfit { what: "format", expected, found, advice: advice.into() }
}

type Count = fn(&mut TokenCounts, &str);

fn count_label(counts: &mut TokenCounts, text: &str) {
    counts.add(text.trim(), 1);
}

fn counter(tokens: &TokenConfig) -> Result<Count, DataError> {
    match tokens {
        TokenConfig::Characters(_) => Ok(TokenCounts::add_characters),
        TokenConfig::Words { lowercase: true, .. } => {
            Ok(|counts, text| counts.add_words(text, true))
        }
        TokenConfig::Words { .. } => Ok(|counts, text| counts.add_words(text, false)),
        TokenConfig::Tokenizer(_) => {
            Err(nothing("words or characters", "use the tokenizer.json's own vocabulary"))
        }
    }
}

fn count_rows(
    rows: &RowFormat,
    files: Option<&[PathBuf]>,
    sink: &mut CountSink,
) -> Result<(), DataError> {
    read(rows, files.unwrap_or_default(), sink).map(|_| ())
}

struct CountSink {
    counts: TokenCounts,
    column: Option<Column>,
    count: Count,
}

impl RowSink for CountSink {
    fn columns(&mut self, _: &Path, _: Option<&[String]>) -> Result<Vec<Column>, DataError> {
        Ok(self.column.iter().cloned().collect())
    }

    fn row(&mut self, _: Spot<'_>, cells: &[Cell<'_>]) -> Result<(), DataError> {
        if let Some(cell) = cells.first().filter(|cell| **cell != Cell::Missing) {
            (self.count)(&mut self.counts, &cell.text());
        }
        Ok(())
    }
}

struct SumSink<'a> {
    columns: &'a TableColumns,
    sums: Vec<(Column, NumericSums)>,
    with_extremes: bool,
}

impl RowSink for SumSink<'_> {
    fn columns(&mut self, file: &Path, there: Option<&[String]>) -> Result<Vec<Column>, DataError> {
        // The first file decides which columns there are.
        if self.sums.is_empty() {
            let features = match &self.columns.features {
                Some(features) => features.clone(),
                None => self.columns.others(file, there)?,
            };
            let numeric = |encoding: &Encoding| matches!(encoding, Encoding::Number { .. });
            let kept = features.into_iter().filter(|feature| numeric(&feature.encoding));
            self.sums = kept.map(|feature| (feature.column, NumericSums::default())).collect();
        }
        Ok(self.sums.iter().map(|(column, _)| column.clone()).collect())
    }

    fn row(&mut self, spot: Spot<'_>, cells: &[Cell<'_>]) -> Result<(), DataError> {
        for ((column, sums), &cell) in self.sums.iter_mut().zip(cells) {
            if self.columns.is_missing(cell) {
                sums.left_out += 1;
            } else {
                sums.add(finite(spot, column, cell)?, self.with_extremes);
            }
        }
        Ok(())
    }
}
