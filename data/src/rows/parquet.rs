//! Parquet files: the columns that are wanted, row by row, the others never decoded.
//!
//! The decoder is not ours and was not written for hostile bytes: sizes that the footer states are
//! bounded before it runs, and a panic of it is an error of this file alone. (A page's own header
//! may still make it allocate what an `i32` can state, 2 GiB.)

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};

use super::{Cell, Column, RowAt, RowSink, Spot, positions};
use crate::error::excerpt;
use crate::file::{FETCH_AGAIN, SiteFile, Stamp, malformed};
use crate::{DataError, Place};

/// First and last bytes of every file.
const MAGIC: [u8; 4] = *b"PAR1";
/// Most bytes of a file that lies compressed with gzip: it is unpacked into memory, as Parquet is
/// read from its end.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;
/// Most bytes that one row group may have when decoded: writers make groups of 128 MiB to 1 GiB.
const GROUP_BYTES_MAX: i64 = 4 << 30;

/// Reads a file into a sink.
pub(crate) fn read(path: &Path, sink: &mut dyn RowSink) -> Result<Stamp, DataError> {
    let mut start = SiteFile::open(path)?;
    if start.compressed() {
        let (bytes, stamp) = SiteFile::read_whole(path, UNPACKED_BYTES_MAX)?;
        check_magic(path, &bytes)?;
        read_chunks(path, Bytes::from(bytes), sink)?;
        return Ok(stamp);
    }
    check_magic(path, start.ready()?)?;
    let file =
        File::open(path).map_err(|source| DataError::Read { file: path.to_owned(), source })?;
    read_chunks(path, file, sink)?;
    start.finish()
}

fn check_magic(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    if bytes.starts_with(&MAGIC) {
        return Ok(());
    }
    let hex: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let found = if hex.is_empty() { "an empty file".to_owned() } else { hex.join(" ") };
    let expected = "a parquet file (50 41 52 31, PAR1)";
    let advice = "check that the right file and format are named";
    Err(malformed(path, Place::Byte(0), expected, found, advice))
}

fn read_chunks(
    path: &Path,
    chunks: impl ChunkReader + 'static,
    sink: &mut dyn RowSink,
) -> Result<(), DataError> {
    // A sink that a panic left half full is dropped with the error.
    let result = catch_unwind(AssertUnwindSafe(|| read_rows(path, chunks, sink)));
    result.unwrap_or_else(|_| {
        let found = "damage that stopped the decoder";
        Err(malformed(path, Place::Whole, "a sound parquet file", found, FETCH_AGAIN))
    })
}

fn read_rows(
    path: &Path,
    chunks: impl ChunkReader + 'static,
    sink: &mut dyn RowSink,
) -> Result<(), DataError> {
    let unsound = |error: ParquetError| {
        malformed(path, Place::Whole, "a sound parquet file", error.to_string(), FETCH_AGAIN)
    };
    let reader = SerializedFileReader::new(chunks).map_err(unsound)?;
    let metadata = reader.metadata();
    for (index, group) in metadata.row_groups().iter().enumerate() {
        if !(0..=GROUP_BYTES_MAX).contains(&group.total_byte_size()) {
            let expected = format!("row groups of at most {GROUP_BYTES_MAX} bytes");
            let found = format!("{} bytes in group {index}", group.total_byte_size());
            let advice = "write the file with smaller row groups";
            return Err(malformed(path, Place::Whole, expected, found, advice));
        }
    }
    let root = metadata.file_metadata().schema();
    let names: Vec<String> = root.get_fields().iter().map(|f| f.name().to_owned()).collect();
    let wanted = sink.columns(path, Some(&names))?;
    let at = positions(path, Place::Whole, &names, &wanted)?;
    let schema = projection(path, root, &at, &wanted)?;
    let rows = reader.get_row_iter(Some(schema)).map_err(unsound)?;
    let mut index = 0_u64;
    for row in rows {
        let row = row.map_err(unsound)?;
        let spot = Spot { file: path, at: RowAt::Row(index) };
        let cell = |(&position, column): (&usize, &Column)| {
            let name = &names[position];
            let field = row.get_column_iter().find(|(known, _)| *known == name);
            field.map_or(Ok(Cell::Missing), |(_, field)| value(spot, column, field))
        };
        let cells: Vec<Cell<'_>> = at.iter().zip(&wanted).map(cell).collect::<Result<_, _>>()?;
        sink.row(spot, &cells)?;
        index += 1;
    }
    if index == 0 {
        let advice = "check that the right file is named";
        return Err(malformed(path, Place::Whole, "at least one row", "none", advice));
    }
    Ok(())
}

/// The schema of the wanted columns alone, each of a type that a cell can hold.
fn projection(
    path: &Path,
    root: &Type,
    at: &[usize],
    wanted: &[Column],
) -> Result<Type, DataError> {
    let fields = root.get_fields();
    for (&position, column) in at.iter().zip(wanted) {
        let field = &fields[position];
        let holds = field.is_primitive()
            && !matches!(
                field.get_physical_type(),
                Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY
            );
        if !holds {
            let expected = "a column of numbers, texts or booleans";
            let found = if field.is_primitive() {
                field.get_physical_type().to_string()
            } else {
                "a nested column".to_owned()
            };
            let place = Place::Cell { row: 0, column: column.to_string() };
            let advice = "convert the column, or name another";
            return Err(malformed(path, place, expected, found, advice));
        }
    }
    let mut kept: Vec<usize> = at.to_vec();
    kept.sort_unstable();
    kept.dedup();
    let kept: Vec<TypePtr> =
        kept.into_iter().map(|position| Arc::clone(&fields[position])).collect();
    Type::group_type_builder(root.name()).with_fields(kept).build().map_err(|error| {
        let advice = "check the columns";
        malformed(path, Place::Whole, "a flat schema", error.to_string(), advice)
    })
}

fn value<'a>(spot: Spot<'_>, column: &Column, field: &'a Field) -> Result<Cell<'a>, DataError> {
    let number = match field {
        Field::Null => return Ok(Cell::Missing),
        Field::Str(text) => return Ok(Cell::Text(text)),
        Field::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes.data()).map_err(|_| {
                let advice = "convert the column to texts";
                spot.wrong(column, "text in UTF-8", "other bytes", advice)
            })?;
            return Ok(Cell::Text(text));
        }
        Field::Bool(flag) => f64::from(u8::from(*flag)),
        Field::Byte(n) => f64::from(*n),
        Field::Short(n) => f64::from(*n),
        Field::Int(n) => f64::from(*n),
        // Beyond 2^53 the nearest number: features are rounded to f32 anyway.
        Field::Long(n) => *n as f64,
        Field::UByte(n) => f64::from(*n),
        Field::UShort(n) => f64::from(*n),
        Field::UInt(n) => f64::from(*n),
        Field::ULong(n) => *n as f64,
        Field::Float(n) => f64::from(*n),
        Field::Double(n) => *n,
        other => {
            let found = excerpt(&other.to_string());
            let expected = "a number, a text or a boolean";
            return Err(spot.wrong(column, expected, found, "convert the column, or name another"));
        }
    };
    Ok(Cell::Number(number))
}
