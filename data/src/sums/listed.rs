//! Which words, characters or labels stand in a site's files, and how often: the lists that texts and
//! labels are read with while no job's list is known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{Format, SourceConfig};
use crate::file::{SiteFile, malformed};
use crate::listing::{Listing, folder_names};
use crate::rows::{Cell, Column, Dialect, RowFormat, RowSink, Spot, read};
use crate::table::TableTarget;
use crate::text::TEXT_BYTES_MAX;
use crate::token::TokenConfig;
use crate::{DataError, Place};

/// Most different tokens that one site counts: a vocabulary of every language fits.
const TOKENS_MAX: usize = 1 << 22;

/// How often each token (a word, a character, a class name) comes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenCounts(BTreeMap<String, u64>);

impl TokenCounts {
    /// Counts the words of a text.
    pub fn add_words(&mut self, text: &str, lowercase: bool) {
        let lowered;
        let text = if lowercase {
            lowered = text.to_lowercase();
            &lowered
        } else {
            text
        };
        crate::token::words_of(text).for_each(|word| self.add(word, 1));
    }

    /// Counts the characters of a text.
    pub fn add_characters(&mut self, text: &str) {
        let mut buffer = [0; 4];
        text.chars().for_each(|character| self.add(character.encode_utf8(&mut buffer), 1));
    }

    /// Adds to a token's count. New ones beyond `TOKENS_MAX` find no room: they are unknown to the
    /// site's own list, and not told.
    pub fn add(&mut self, token: &str, count: u64) {
        if let Some(known) = self.0.get_mut(token) {
            *known = known.saturating_add(count);
        } else if self.0.len() < TOKENS_MAX {
            self.0.insert(token.to_owned(), count);
        }
    }

    /// The tokens with their counts, in the tokens' order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(token, &count)| (token.as_str(), count))
    }

    /// The tokens in their order.
    #[must_use]
    pub fn into_tokens(self) -> Vec<String> {
        self.0.into_keys().collect()
    }
}

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
/// When the format has no labels that are names, and on files that cannot be read.
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
        Format::Images { parts, .. } => return listing_counts(parts.train.as_ref()),
        Format::Wav(config) => return listing_counts(config.parts.train.as_ref()),
        _ => return Err(nothing("labels in a column", "name the classes in [data]")),
    };
    sink.column = label.cloned();
    if sink.column.is_none() {
        return Err(nothing("labels in a column", "name a `label_column` in [data]"));
    }
    count_rows(rows, files, &mut sink)?;
    Ok(sink.counts)
}

/// The folders' names, or the labels of an index, of files of their own.
fn listing_counts(listing: Option<&Listing>) -> Result<TokenCounts, DataError> {
    let mut sink = CountSink { counts: TokenCounts::default(), column: None, count: count_label };
    match listing {
        None => {}
        Some(Listing::Folder(folder)) => {
            folder_names(folder)?.iter().for_each(|name| sink.counts.add(name.trim(), 1));
        }
        Some(Listing::Index { file, label, .. }) => {
            sink.column = Some(label.clone());
            let files = std::slice::from_ref(file);
            count_rows(&RowFormat::Delimited(Dialect::csv()), Some(files), &mut sink)?;
        }
    }
    Ok(sink.counts)
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
