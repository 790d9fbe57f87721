//! One JSON object a line, its keys the columns.

use std::path::Path;

use serde_json::Value;

use super::delimited::RECORD_BYTES_MAX;
use super::{Cell, Column, RowAt, RowSink, Spot};
use crate::error::excerpt;
use crate::file::{SiteFile, Stamp, malformed};
use crate::{DataError, Place};

/// Reads a file into a sink. A key that an object does not have is a missing value.
pub(crate) fn read(path: &Path, sink: &mut dyn RowSink) -> Result<Stamp, DataError> {
    let mut lines = Lines::open(path)?;
    let wanted = sink.columns(path, None)?;
    if let Some(position) = wanted.iter().find(|column| matches!(column, Column::Position(_))) {
        let expected = "columns by name, as JSON objects have no order";
        let found = format!("the position {position}");
        let advice = "write the key's name in the configuration";
        return Err(malformed(path, Place::Whole, expected, found, advice));
    }
    let mut rows = 0_u64;
    while let Some((line, text)) = lines.next_line()? {
        if text.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            let expected = "one JSON object";
            let advice = "write each object on a line of its own";
            malformed(path, Place::Line(line), expected, error.to_string(), advice)
        })?;
        let Value::Object(object) = value else {
            let advice = "write each row as an object, its columns as keys";
            let found = excerpt(&text);
            return Err(malformed(path, Place::Line(line), "a JSON object", found, advice));
        };
        let spot = Spot { file: path, at: RowAt::Line(line) };
        let cell = |column: &Column| {
            let Column::Name(name) = column else { return Ok(Cell::Missing) };
            match object.get(name) {
                None | Some(Value::Null) => Ok(Cell::Missing),
                Some(Value::Bool(flag)) => Ok(Cell::Number(f64::from(u8::from(*flag)))),
                Some(Value::Number(number)) => {
                    Ok(number.as_f64().map_or(Cell::Missing, Cell::Number))
                }
                Some(Value::String(text)) => Ok(Cell::Text(text)),
                Some(Value::Array(_) | Value::Object(_)) => {
                    let expected = "a number, a text, true or false";
                    let advice = "flatten the object, or name another column";
                    Err(spot.wrong(column, expected, "a list or an object", advice))
                }
            }
        };
        let cells: Vec<Cell<'_>> = wanted.iter().map(cell).collect::<Result<_, _>>()?;
        sink.row(spot, &cells)?;
        rows += 1;
    }
    if rows == 0 {
        let advice = "check that the right file is named";
        return Err(malformed(path, Place::Line(1), "a JSON object", "an empty file", advice));
    }
    lines.finish()
}

/// A text file's lines, each of a bounded length.
pub(crate) struct Lines {
    file: SiteFile,
    line: u64,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        Ok(Self { file: SiteFile::open(path)?, line: 0 })
    }

    /// The next line with its number, without its end; none at the end of the file.
    pub(crate) fn next_line(&mut self) -> Result<Option<(u64, String)>, DataError> {
        let mut bytes = Vec::new();
        self.line += 1;
        loop {
            let ready = self.file.ready()?;
            if ready.is_empty() {
                break;
            }
            let end = ready.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(ready.len(), |end| end + 1);
            bytes.extend_from_slice(&ready[..taken]);
            self.file.consume(taken);
            if bytes.len() > RECORD_BYTES_MAX {
                let expected = format!("the end of the line within {RECORD_BYTES_MAX} bytes");
                let advice = "break the file in lines";
                let place = Place::Line(self.line);
                return Err(malformed(self.file.path(), place, expected, "more", advice));
            }
            if end.is_some() {
                break;
            }
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let found = format!("other bytes after {at} bytes of the line");
            let advice = "save the file as UTF-8";
            let place = Place::Line(self.line);
            malformed(self.file.path(), place, "text in UTF-8", found, advice)
        })?;
        Ok(Some((self.line, text)))
    }

    pub(crate) fn finish(self) -> Result<Stamp, DataError> {
        self.file.finish()
    }
}
