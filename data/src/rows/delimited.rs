//! Lines of fields: CSV, TSV and their kin, with a header or without, with quotes or without.
//!
//! A record is read into memory of a bounded size: a line of a gigabyte is refused after the first
//! few megabytes of it.

use std::path::Path;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::{Cell, Dialect, RowAt, RowSink, Spot, positions};
use crate::file::{SiteFile, Stamp, malformed};
use crate::{DataError, Place};

/// Most bytes of one record: a long document in a field fits; a file without line ends does not.
pub(crate) const RECORD_BYTES_MAX: usize = 4 << 20;
/// Most fields of one record: wider than any table of a hospital, far below a memory's worth.
const FIELDS_MAX: usize = 1 << 16;
/// What both grow from.
const RECORD_BYTES_START: usize = 1 << 10;
const FIELDS_START: usize = 32;
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Reads a file into a sink.
pub(crate) fn read(
    path: &Path,
    dialect: &Dialect,
    sink: &mut dyn RowSink,
) -> Result<Stamp, DataError> {
    let mut records = Records::open(path, dialect)?;
    let Some(first) = records.next_record()? else {
        let expected = if dialect.header { "a line that names the columns" } else { "a row" };
        let advice = "check that the right file is named";
        return Err(malformed(path, Place::Line(1), expected, "an empty file", advice));
    };
    let mut names: Vec<String> = if dialect.header {
        (0..first.len()).map(|at| first.field(at).trim().to_owned()).collect()
    } else {
        (0..first.len()).map(|at| at.to_string()).collect()
    };
    let width = names.len();
    if !dialect.names.is_empty() {
        if dialect.names.len() != width {
            let expected = format!("{} fields, as `names` has", dialect.names.len());
            let advice = "give one name for each field of the file";
            let place = Place::Line(first.line);
            return Err(malformed(path, place, expected, width.to_string(), advice));
        }
        names.clone_from(&dialect.names);
    }
    let place = Place::Line(first.line);
    let wanted = sink.columns(path, Some(&names))?;
    let wanted = positions(path, place, &names, &wanted)?;
    let mut row = |record: &Record<'_>| {
        if record.len() != width {
            let expected = format!("{width} fields, as in the first line");
            let advice = "mend the line; a field that holds the delimiter needs quotes";
            let place = Place::Line(record.line);
            return Err(malformed(path, place, expected, record.len().to_string(), advice));
        }
        let cells: Vec<Cell<'_>> = wanted.iter().map(|&at| Cell::Text(record.field(at))).collect();
        sink.row(Spot { file: path, at: RowAt::Line(record.line) }, &cells)
    };
    if !dialect.header {
        row(&first)?;
    }
    while let Some(record) = records.next_record()? {
        row(&record)?;
    }
    records.file.finish()
}

/// A file's records.
struct Records {
    file: SiteFile,
    parser: Box<Reader>,
    fields: Vec<u8>,
    ends: Vec<usize>,
}

/// One record, with unquoted fields.
struct Record<'a> {
    line: u64,
    text: &'a str,
    ends: &'a [usize],
}

impl Record<'_> {
    fn len(&self) -> usize {
        self.ends.len()
    }

    /// A field; empty where there is none.
    fn field(&self, at: usize) -> &str {
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let end = self.ends.get(at).copied().unwrap_or_default();
        self.text.get(start.unwrap_or(0)..end).unwrap_or_default()
    }
}

impl Records {
    fn open(path: &Path, dialect: &Dialect) -> Result<Self, DataError> {
        let mut file = SiteFile::open(path)?;
        if file.ready()?.starts_with(&BYTE_ORDER_MARK) {
            file.consume(BYTE_ORDER_MARK.len());
        }
        let parser =
            ReaderBuilder::new().delimiter(dialect.delimiter).quoting(dialect.quotes).build();
        Ok(Self {
            file,
            parser: Box::new(parser),
            fields: vec![0; RECORD_BYTES_START],
            ends: vec![0; FIELDS_START],
        })
    }

    fn next_record(&mut self) -> Result<Option<Record<'_>>, DataError> {
        let line = self.parser.line();
        let (mut bytes, mut count) = (0, 0);
        loop {
            let input = self.file.ready()?;
            let (result, read, written, ended) =
                self.parser.read_record(input, &mut self.fields[bytes..], &mut self.ends[count..]);
            self.file.consume(read);
            bytes += written;
            count += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => {
                    grow(&mut self.fields, RECORD_BYTES_MAX)
                        .ok_or_else(|| self.too_long(line, RECORD_BYTES_MAX, "bytes"))?;
                }
                ReadRecordResult::OutputEndsFull => {
                    grow(&mut self.ends, FIELDS_MAX)
                        .ok_or_else(|| self.too_long(line, FIELDS_MAX, "fields"))?;
                }
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::Record => break,
            }
        }
        let text = std::str::from_utf8(&self.fields[..bytes]).map_err(|error| {
            let expected = "text in UTF-8";
            let found = format!("other bytes after {} bytes of the line", error.valid_up_to());
            let advice = "save the file as UTF-8, or name the right file and format";
            malformed(self.file.path(), Place::Line(line), expected, found, advice)
        })?;
        Ok(Some(Record { line, text, ends: &self.ends[..count] }))
    }

    fn too_long(&self, line: u64, most: usize, unit: &str) -> DataError {
        let expected = format!("the end of the line within {most} {unit}");
        let advice = "check the delimiter, the quotes and the line ends of the file";
        malformed(self.file.path(), Place::Line(line), expected, "more", advice)
    }
}

/// Doubles a buffer up to its limit; none where it is at it already.
fn grow<T: Clone + Default>(buffer: &mut Vec<T>, most: usize) -> Option<()> {
    if buffer.len() >= most {
        return None;
    }
    buffer.resize((2 * buffer.len()).min(most), T::default());
    Some(())
}
