//! Texts as examples: each with a class, or cut in windows to predict each next token.

use std::path::{Path, PathBuf};

use super::clients::{Clients, Whose, distinct_files};
use super::dataset::{Labels, RaggedBuilder};
use super::error::excerpt;
use super::file::{SiteFile, Stamp, malformed};
use super::label::LabelMap;
use super::loaded::{Loaded, Notes, held};
use super::rows::{Cell, Column, RowFormat, RowSink, Spot, read};
use super::store::Room;
use super::token::{Cut, Tokens};
use super::{DataError, Dataset, Place};

/// Most steps of one text: longer than today's models read.
pub const STEPS_MAX: u32 = 1 << 17;
/// Most bytes of running text that are cut as one: all of a file where only its tokeniser knows where
/// it may be cut.
pub(crate) const TEXT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of running text that are cut at once, where words or characters tell where that may be.
const PIECE_BYTES: usize = 1 << 20;

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
    steps: Steps,
    room: &Room,
) -> Result<Loaded, DataError> {
    let map = columns.label.as_ref().map(|(_, map)| map);
    let texts = Texts::new(tokens, steps, columns.client.is_some(), map.is_some(), room);
    let mut sink = TextSink { columns, texts };
    let stamps = read(format, files, &mut sink)?;
    let first = files.first().map_or(Path::new(""), PathBuf::as_path);
    sink.texts.finish(first, stamps, map)
}

/// Reads files of running text, to predict each next token. Where there are several files, each is
/// a client of its file's name.
pub(crate) fn load_files(
    files: &[PathBuf],
    tokens: &Tokens,
    steps: Steps,
    room: &Room,
) -> Result<Loaded, DataError> {
    if files.len() > 1 {
        distinct_files(files, file_name)?;
    }
    let mut texts = Texts::new(tokens, steps, files.len() > 1, false, room);
    let mut stamps = Vec::new();
    for path in files {
        let before = texts.rows.len();
        stamps.push(read_running(path, &mut texts)?);
        let windows = texts.rows.len() - before;
        if let Some(clients) = &mut texts.clients {
            for _ in 0..windows {
                // There are far fewer files than clients may be.
                let _ = clients.push(&file_name(path));
            }
        }
    }
    let first = files.first().map_or(Path::new(""), PathBuf::as_path);
    texts.finish(first, stamps, None)
}

/// Cuts a file of running text piece by piece, as far as its tokens allow.
fn read_running(path: &Path, texts: &mut Texts<'_>) -> Result<Stamp, DataError> {
    let mut file = SiteFile::open(path)?;
    if file.ready()?.is_empty() {
        let advice = "check that the right file is named";
        return Err(malformed(path, Place::Byte(0), "a file with bytes", "none", advice));
    }
    let (mut bytes, mut start, mut enough) = (Vec::new(), 0, PIECE_BYTES);
    loop {
        let each = &mut |some: &[u8]| {
            bytes.extend_from_slice(some);
            Ok(())
        };
        let ended = file.piece(PIECE_BYTES as u64, each)? == 0;
        if !ended && bytes.len() < enough {
            continue;
        }
        let end = if ended { bytes.len() } else { texts.tokens.last_cut(&bytes) };
        if end == 0 && !ended {
            if bytes.len() as u64 > TEXT_BYTES_MAX {
                let expected = format!("a place to cut the text within {TEXT_BYTES_MAX} bytes");
                let advice = "cut the file in several";
                return Err(malformed(path, Place::Byte(start), expected, "none", advice));
            }
            enough = 2 * bytes.len();
            continue;
        }
        let text = std::str::from_utf8(&bytes[..end]).map_err(|error| {
            let place = Place::Byte(start + error.valid_up_to() as u64);
            malformed(path, place, "text in UTF-8", "other bytes", "save the file as UTF-8")
        })?;
        let cut = texts.cut(text).map_err(|found| {
            let expected = "a text that the tokeniser can cut";
            malformed(path, Place::Whole, expected, found, "check the text and the tokeniser")
        })?;
        texts.push_running(&cut.tokens).map_err(held(path))?;
        bytes.drain(..end);
        start += end as u64;
        enough = PIECE_BYTES;
        if ended {
            break;
        }
    }
    texts.end_running().map_err(held(path))?;
    file.finish()
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into())
}

/// How many steps an example has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    /// As many.
    Of(usize),
    /// Nobody knows yet: texts are only counted.
    Open,
}

/// Texts as they come in.
struct Texts<'a> {
    tokens: &'a Tokens,
    steps: usize,
    rows: RaggedBuilder,
    labels: Vec<u32>,
    clients: Option<Clients>,
    /// Tokens of a running text that no whole window has yet.
    pending: Vec<u32>,
    cut_rows: u64,
    unknown: u64,
    /// Tokens to predict, where the windows' length is open.
    predicted: Option<u64>,
}

impl<'a> Texts<'a> {
    fn new(
        tokens: &'a Tokens,
        steps: Steps,
        has_clients: bool,
        has_labels: bool,
        room: &Room,
    ) -> Self {
        let (steps, is_open) = match steps {
            Steps::Of(steps) => (steps, false),
            Steps::Open => (STEPS_MAX as usize, true),
        };
        let lengths = if has_labels { 1..=steps } else { 2..=steps + 1 };
        Self {
            tokens,
            steps,
            rows: RaggedBuilder::new(room, lengths, tokens.vocabulary()),
            labels: Vec::new(),
            clients: has_clients.then(Clients::default),
            pending: Vec::new(),
            cut_rows: 0,
            unknown: 0,
            predicted: (is_open && !has_labels).then_some(0),
        }
    }

    fn cut(&mut self, text: &str) -> Result<Cut, String> {
        let cut = self.tokens.cut(text)?;
        self.unknown += cut.unknown;
        Ok(cut)
    }

    /// Windows of at most `steps` + 1 tokens, each beginning with the last of the one before, so
    /// that every token but the first is predicted once.
    fn push_running(&mut self, tokens: &[u32]) -> Result<(), DataError> {
        self.pending.extend_from_slice(tokens);
        let mut start = 0;
        while start + self.steps < self.pending.len() {
            self.rows.push(&self.pending[start..=start + self.steps])?;
            start += self.steps;
        }
        self.pending.drain(..start);
        if let Some(predicted) = &mut self.predicted {
            *predicted += start as u64;
        }
        Ok(())
    }

    /// The end of a text: what is left is its last window.
    fn end_running(&mut self) -> Result<(), DataError> {
        let last = std::mem::take(&mut self.pending);
        if last.len() < 2 {
            return Ok(());
        }
        if let Some(predicted) = &mut self.predicted {
            *predicted += last.len() as u64 - 1;
        }
        self.rows.push(&last)
    }

    fn push_text(&mut self, mut cut: Cut) -> Result<(), DataError> {
        self.cut_rows += u64::from(cut.shorten(self.steps));
        self.rows.push(&cut.tokens)
    }

    fn finish(
        self,
        file: &Path,
        files: Vec<Stamp>,
        map: Option<&LabelMap>,
    ) -> Result<Loaded, DataError> {
        if self.rows.len() == 0 {
            let expected = "a text of at least two tokens";
            let advice = "check that the right file and column are named";
            return Err(malformed(file, Place::Whole, expected, "none", advice));
        }
        let targets = match map {
            Some(map) => Labels::classes(self.labels, map.classes()),
            None => Ok(Labels::NextToken),
        };
        let texts = self.rows.finish().map_err(held(file))?;
        let data = targets.and_then(|targets| Dataset::of_texts(texts, targets, self.steps));
        let mut stamps = files;
        stamps.extend(self.tokens.stamps.iter().cloned());
        let notes = Notes {
            files: stamps,
            cut_rows: self.cut_rows,
            unknown_tokens: self.unknown,
            rows_most: self.predicted,
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
        let cut = self.texts.cut(text).map_err(|found| {
            let expected = "a text that the tokeniser can cut";
            spot.wrong(&columns.text, expected, found, "check the text and the tokeniser")
        })?;
        let before = self.texts.rows.len();
        match &columns.label {
            Some((column, map)) => {
                if cut.tokens.is_empty() {
                    let advice = "fill the text, or leave the row out";
                    let found = excerpt(text);
                    return Err(spot.wrong(&columns.text, "at least one token", found, advice));
                }
                let class = map.class(spot, column, next(), self.texts.labels.len())?;
                self.texts.labels.push(class);
                self.texts.push_text(cut).map_err(held(spot.file))?;
            }
            None => {
                self.texts.push_running(&cut.tokens).map_err(held(spot.file))?;
                self.texts.end_running().map_err(held(spot.file))?;
            }
        }
        let rows = self.texts.rows.len() - before;
        if let (Some(clients), Some(whose)) = (&mut self.texts.clients, &columns.client) {
            let cell = next();
            for _ in 0..rows {
                clients.push_row(spot, whose, cell)?;
            }
        }
        Ok(())
    }
}
