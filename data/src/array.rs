//! Arrays of NumPy as examples: `.npy`, or an entry of a `.npz`; the first axis counts the rows.
//!
//! Labels stand in another array, or in delimited text beside it, with the rows' clients.

use std::path::{Path, PathBuf};

use tributary_core::spec::data::VALUES_MAX;

use super::clients::Clients;
use super::dataset::{Labels, check_finite};
use super::file::{FETCH_AGAIN, SiteFile, Stamp, malformed};
use super::label::{LabelMap, whole};
use super::loaded::{Loaded, Notes, held};
use super::normalise::Normalise;
use super::rows::{Cell, Column, Dialect, RowFormat, RowSink, Spot, read};
use super::store::{Builder, Room, Store};
use super::{DataError, Dataset, Place};

pub(crate) mod npy;
mod npz;

use npy::{Header, Source};

/// One array in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayFile {
    /// The file.
    pub file: PathBuf,
    /// The entry of a `.npz`, with or without `.npy` at its end; none for a `.npy`.
    pub entry: Option<String>,
}

/// Where the labels of an array's rows stand.
#[derive(Debug, Clone, PartialEq)]
pub enum ArrayLabels {
    /// In an array of whole numbers.
    Array(ArrayFile),
    /// In delimited text with a header.
    Column(PathBuf, Column),
}

/// What is predicted of an array's row.
#[derive(Debug, Clone, PartialEq)]
pub enum ArrayTarget {
    /// Its class.
    Labels(ArrayLabels, LabelMap),
    /// The numbers of another array's row.
    Values(ArrayFile),
}

/// An array of examples with what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayConfig {
    /// The examples.
    pub inputs: ArrayFile,
    /// What is predicted.
    pub target: ArrayTarget,
    /// Whose row each is: a column of the file of labels, or of a group file.
    pub client: Option<Column>,
    /// A file with one client a row.
    pub groups: Option<PathBuf>,
    /// Whether the two axes of a row change places: `[steps, channels]` to `[channels, steps]`.
    pub transpose: bool,
}

/// Reads an array as examples of its other axes.
pub(crate) fn load(
    config: &ArrayConfig,
    normalise: Option<&Normalise>,
    room: &Room,
) -> Result<Loaded, DataError> {
    let file = config.inputs.file.as_path();
    let (read, stamp) = read_array(&config.inputs, room, |header, source| {
        read_inputs(file, config.transpose, normalise, room, header, source)
    })?;
    let (inputs, rows, shape) = read;
    let mut stamps = vec![stamp];
    let mut clients = None;
    let targets = match &config.target {
        ArrayTarget::Labels(labels, map) => {
            let labels = read_labels(labels, map, config, room)?;
            stamps.push(labels.stamp);
            clients = labels.clients;
            same_rows(labels.file, labels.classes.len(), file, rows)?;
            Labels::classes(labels.classes, map.classes())
        }
        ArrayTarget::Values(other) => {
            let (targets, stamp) = read_array(other, room, |header, source| {
                same_rows(&other.file, header.shape.first().copied().unwrap_or(0), file, rows)?;
                read_targets(&other.file, room, header, source)
            })?;
            stamps.push(stamp);
            Labels::values(targets.0, targets.1)
        }
    };
    let data = targets.and_then(|targets| Dataset::of_numbers(inputs, targets, &shape));
    let data = data.map_err(held(file))?;
    if let Some(groups) = &config.groups {
        let read = super::clients::read_groups(groups, config.client.as_ref(), rows, file)?;
        clients = Some(read.0);
        stamps.push(read.1);
    }
    Ok(Loaded { data, clients, notes: Notes { files: stamps, ..Notes::default() } })
}

fn read_array<T>(
    from: &ArrayFile,
    room: &Room,
    work: impl FnOnce(&Header, &mut dyn Source) -> Result<T, DataError>,
) -> Result<(T, Stamp), DataError> {
    match &from.entry {
        None => {
            let mut file = SiteFile::open(&from.file)?;
            let header = Header::read(&from.file, None, &mut file)?;
            let value = work(&header, &mut file)?;
            Ok((value, file.finish()?))
        }
        Some(entry) => npz::with_entry(&from.file, entry, room, |name, source| {
            work(&Header::read(&from.file, Some(name), source)?, source)
        }),
    }
}

/// The values row by row, how many rows there are, and the shape of one.
fn read_inputs(
    file: &Path,
    turned: bool,
    normalise: Option<&Normalise>,
    room: &Room,
    header: &Header,
    source: &mut dyn Source,
) -> Result<(Store<f32>, usize, Vec<usize>), DataError> {
    let (&rows, shape) = header.shape.split_first().ok_or_else(|| {
        let advice = "the first axis counts the rows";
        malformed(file, header.place(), "an array of rows", "a single number", advice)
    })?;
    let mut shape = if shape.is_empty() { vec![1] } else { shape.to_vec() };
    let by_first = shape.len() == 3;
    let mut inputs = Builder::new(room);
    let mut at = 0_u64;
    header.rows(source, room.memory_bytes, &mut |values| {
        let mut row = finite(file, at, values)?;
        match normalise {
            // Pictures have their channels first, series and tables their features last.
            Some(constants) if by_first => constants.apply_first(&mut row, &shape)?,
            Some(constants) => constants.apply_last(&mut row, &shape)?,
            None => {}
        }
        if turned {
            transpose(file, &mut row, &shape)?;
        }
        check_finite(inputs.len(), &row).map_err(held(file))?;
        at += 1;
        inputs.push(&row).map_err(held(file))
    })?;
    if let (true, [first, second]) = (turned, shape.as_mut_slice()) {
        std::mem::swap(first, second);
    }
    Ok((inputs.finish().map_err(held(file))?, rows, shape))
}

/// Numbers to predict, and how many a row has.
fn read_targets(
    file: &Path,
    room: &Room,
    header: &Header,
    source: &mut dyn Source,
) -> Result<(Vec<f32>, usize), DataError> {
    let width: usize = header.shape.iter().skip(1).product();
    if width > VALUES_MAX as usize {
        let expected = format!("at most {VALUES_MAX} numbers to predict of a row");
        let advice = "name the array of the targets";
        return Err(malformed(file, header.place(), expected, width.to_string(), advice));
    }
    let mut targets = Vec::new();
    let mut at = 0_u64;
    header.rows(source, room.memory_bytes, &mut |values| {
        targets.extend(finite(file, at, values)?);
        at += 1;
        Ok(())
    })?;
    Ok((targets, width))
}

fn same_rows(file: &Path, found: usize, other: &Path, expected: usize) -> Result<(), DataError> {
    if found == expected {
        return Ok(());
    }
    let (file, other) = (file.to_owned(), other.to_owned());
    Err(DataError::Counts { file, found, other, expected })
}

/// The numbers of a row, which must be finite as f32.
fn finite(file: &Path, row: u64, values: &[f64]) -> Result<Vec<f32>, DataError> {
    let narrow = |(at, &value): (usize, &f64)| {
        let narrow = value as f32;
        narrow.is_finite().then_some(narrow).ok_or_else(|| {
            let place = Place::Cell { row, column: format!("value {at}") };
            let advice = "mend the value, or leave the row out";
            malformed(file, place, "a finite number", value.to_string(), advice)
        })
    };
    values.iter().enumerate().map(narrow).collect()
}

/// Lets the two axes of a row change places.
fn transpose(file: &Path, row: &mut [f32], shape: &[usize]) -> Result<(), DataError> {
    let &[first, second] = shape else {
        let advice = "leave `transpose` out";
        let found = format!("{} axes", shape.len());
        return Err(malformed(file, Place::Whole, "rows of two axes", found, advice));
    };
    let old = row.to_vec();
    for (at, value) in row.iter_mut().enumerate() {
        *value = old[(at % first) * second + at / first];
    }
    Ok(())
}

struct LabelColumn<'a> {
    file: &'a Path,
    classes: Vec<u32>,
    clients: Option<Clients>,
    stamp: Stamp,
}

fn read_labels<'a>(
    labels: &'a ArrayLabels,
    map: &LabelMap,
    config: &ArrayConfig,
    room: &Room,
) -> Result<LabelColumn<'a>, DataError> {
    match labels {
        ArrayLabels::Array(from) => {
            let mut classes = Vec::new();
            let each = &mut |values: &[f64]| {
                for &value in values {
                    let class = whole(value).and_then(|number| map.class_of_number(number));
                    classes.push(class.ok_or_else(|| {
                        let place = Place::Row(classes.len() as u64);
                        let advice = "correct the label, or the classes in the configuration";
                        malformed(&from.file, place, map.expected(), value.to_string(), advice)
                    })?);
                }
                Ok(())
            };
            let ((), stamp) = read_array(from, room, |header, source| {
                header.rows(source, room.memory_bytes, each)
            })?;
            Ok(LabelColumn { file: &from.file, classes, clients: None, stamp })
        }
        ArrayLabels::Column(file, column) => {
            // A client column without a group file stands beside the labels.
            let client = config.client.as_ref().filter(|_| config.groups.is_none());
            let clients = client.map(|_| Clients::default());
            let mut sink = LabelSink { column, map, client, classes: Vec::new(), clients };
            let format = RowFormat::Delimited(Dialect::csv());
            let stamp = read(&format, std::slice::from_ref(file), &mut sink)?.pop();
            let stamp = stamp.ok_or_else(|| {
                malformed(file, Place::Whole, "a file of labels", "none", FETCH_AGAIN)
            })?;
            Ok(LabelColumn { file, classes: sink.classes, clients: sink.clients, stamp })
        }
    }
}

struct LabelSink<'a> {
    column: &'a Column,
    map: &'a LabelMap,
    client: Option<&'a Column>,
    classes: Vec<u32>,
    clients: Option<Clients>,
}

impl RowSink for LabelSink<'_> {
    fn columns(&mut self, _: &Path, _: Option<&[String]>) -> Result<Vec<Column>, DataError> {
        Ok([Some(self.column), self.client].into_iter().flatten().cloned().collect())
    }

    fn row(&mut self, spot: Spot<'_>, cells: &[Cell<'_>]) -> Result<(), DataError> {
        let cell = |at: usize| cells.get(at).copied().unwrap_or(Cell::Missing);
        let class = self.map.class(spot, self.column, cell(0), self.classes.len())?;
        self.classes.push(class);
        if let (Some(clients), Some(column)) = (&mut self.clients, self.client) {
            clients.push_cell(spot, column, cell(1))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
