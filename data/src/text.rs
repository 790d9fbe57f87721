//! Texts as examples: each with a class, or cut in windows to predict each next token.

use std::path::{Path, PathBuf};

use super::clients::{Clients, Whose};
use super::error::excerpt;
use super::file::{SiteFile, Stamp, malformed};
use super::label::LabelMap;
use super::loaded::{Loaded, Notes, check_room, held};
use super::rows::{Cell, Column, RowFormat, RowSink, Spot, read};
use super::token::Tokens;
use super::{DataError, Dataset, Place};

/// Most steps of one text: longer than today's models read.
pub const STEPS_MAX: u32 = 1 << 17;
/// Largest file of running text: a library fits.
pub(crate) const TEXT_BYTES_MAX: u64 = 1 << 30;

/// Which columns of a file of texts are what.
#[derive(Debug, Clone, PartialEq)]
pub struct TextColumns {
    /// The text.
    pub text: Column,
    /// Its class; without one each next token is predicted.
    pub label: Option<(Column, LabelMap)>,
    /// Whose text it is.
    pub client: Option<Whose>,
}

/// Reads files of rows that hold texts; examples have shape `[steps]`.
pub(crate) fn load_rows(
    format: &RowFormat,
    files: &[PathBuf],
    columns: &TextColumns,
    tokens: &Tokens,
    steps: usize,
) -> Result<Loaded, DataError> {
    let mut sink = TextSink { columns, texts: Texts::new(tokens, steps, columns.client.is_some()) };
    let stamps = read(format, files, &mut sink)?;
    let first = files.first().map_or(Path::new(""), PathBuf::as_path);
    let map = columns.label.as_ref().map(|(_, map)| map);
    sink.texts.finish(first, stamps, map)
}

/// Reads files of running text, to predict each next token. Where there are several files, each is
/// a client of its file's name.
pub(crate) fn load_files(
    files: &[PathBuf],
    tokens: &Tokens,
    steps: usize,
) -> Result<Loaded, DataError> {
    let mut texts = Texts::new(tokens, steps, files.len() > 1);
    let mut stamps = Vec::new();
    for path in files {
        let (bytes, stamp) = SiteFile::read_whole(path, TEXT_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let place = Place::Byte(error.utf8_error().valid_up_to() as u64);
            malformed(path, place, "text in UTF-8", "other bytes", "save the file as UTF-8")
        })?;
        let cut = texts.cut(&text).map_err(|found| unreadable(path, Place::Whole, found))?;
        let windows = texts.push_windows(&cut);
        if let Some(clients) = &mut texts.clients {
            let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into());
            for _ in 0..windows {
                // There are far fewer files than clients may be.
                let _ = clients.push(&name);
            }
        }
        check_room(path, texts.total)?;
        stamps.push(stamp);
    }
    let first = files.first().map_or(Path::new(""), PathBuf::as_path);
    texts.finish(first, stamps, None)
}

fn unreadable(path: &Path, place: Place, found: String) -> DataError {
    let advice = "check the text and the tokeniser";
    malformed(path, place, "a text that the tokeniser can cut", found, advice)
}

/// Texts as they come in.
struct Texts<'a> {
    tokens: &'a Tokens,
    steps: usize,
    texts: Vec<Vec<u32>>,
    labels: Vec<u32>,
    clients: Option<Clients>,
    total: usize,
    cut_rows: u64,
    unknown: u64,
}

impl<'a> Texts<'a> {
    fn new(tokens: &'a Tokens, steps: usize, has_clients: bool) -> Self {
        Self {
            tokens,
            steps,
            texts: Vec::new(),
            labels: Vec::new(),
            clients: has_clients.then(Clients::default),
            total: 0,
            cut_rows: 0,
            unknown: 0,
        }
    }

    fn cut(&mut self, text: &str) -> Result<Vec<u32>, String> {
        let (tokens, unknown) = self.tokens.cut(text)?;
        self.unknown += unknown;
        Ok(tokens)
    }

    /// Windows of at most `steps` + 1 tokens, each beginning with the last of the one before, so
    /// that every token but the first is predicted once. How many there are.
    fn push_windows(&mut self, tokens: &[u32]) -> usize {
        let before = self.texts.len();
        let mut start = 0;
        while start + 1 < tokens.len() {
            let end = tokens.len().min(start + self.steps + 1);
            self.total += end - start;
            self.texts.push(tokens[start..end].to_vec());
            start += self.steps;
        }
        self.texts.len() - before
    }

    fn push_text(&mut self, mut tokens: Vec<u32>) {
        if tokens.len() > self.steps {
            tokens.truncate(self.steps);
            self.cut_rows += 1;
        }
        self.total += tokens.len();
        self.texts.push(tokens);
    }

    fn finish(
        self,
        file: &Path,
        files: Vec<Stamp>,
        map: Option<&LabelMap>,
    ) -> Result<Loaded, DataError> {
        if self.texts.is_empty() {
            let expected = "a text of at least two tokens";
            let advice = "check that the right file and column are named";
            return Err(malformed(file, Place::Whole, expected, "none", advice));
        }
        let vocabulary = self.tokens.vocabulary();
        let data = match map {
            Some(map) => {
                Dataset::from_texts(&self.texts, self.labels, self.steps, vocabulary, map.classes())
            }
            None => Dataset::for_next_token(&self.texts, self.steps, vocabulary),
        };
        let mut stamps = files;
        stamps.extend(self.tokens.stamps.iter().cloned());
        let notes = Notes {
            files: stamps,
            cut_rows: self.cut_rows,
            unknown_tokens: self.unknown,
            ..Notes::default()
        };
        Ok(Loaded { data: data.map_err(held(file))?, clients: self.clients, notes })
    }
}

struct TextSink<'a> {
    columns: &'a TextColumns,
    texts: Texts<'a>,
}

impl RowSink for TextSink<'_> {
    fn columns(&mut self, _: &Path, _: Option<&[String]>) -> Result<Vec<Column>, DataError> {
        let columns = self.columns;
        let label = columns.label.as_ref().map(|(column, _)| column.clone());
        let client = columns.client.as_ref().and_then(Whose::column).cloned();
        Ok([Some(columns.text.clone()), label, client].into_iter().flatten().collect())
    }

    fn row(&mut self, spot: Spot<'_>, cells: &[Cell<'_>]) -> Result<(), DataError> {
        let columns = self.columns;
        let mut cells = cells.iter().copied();
        let mut next = || cells.next().unwrap_or(Cell::Missing);
        let first = next();
        let Cell::Text(text) = first else {
            let advice = "fill the text, or name the right column";
            return Err(spot.wrong(&columns.text, "a text", first.shown(), advice));
        };
        let tokens = self.texts.cut(text).map_err(|found| {
            let expected = "a text that the tokeniser can cut";
            spot.wrong(&columns.text, expected, found, "check the text and the tokeniser")
        })?;
        let rows = match &columns.label {
            Some((column, map)) => {
                if tokens.is_empty() {
                    let advice = "fill the text, or leave the row out";
                    let found = excerpt(text);
                    return Err(spot.wrong(&columns.text, "at least one token", found, advice));
                }
                let class = map.class(spot, column, next())?;
                self.texts.labels.push(class);
                self.texts.push_text(tokens);
                1
            }
            None => self.texts.push_windows(&tokens),
        };
        if let (Some(clients), Some(whose)) = (&mut self.texts.clients, &columns.client) {
            let cell = next();
            for _ in 0..rows {
                clients.push_row(spot, whose, cell)?;
            }
        }
        check_room(spot.file, self.texts.total)
    }
}
