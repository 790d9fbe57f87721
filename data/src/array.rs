//! Arrays of NumPy as examples: `.npy`, or an entry of a `.npz`; the first axis counts the rows.
//!
//! Labels stand in another array, or in delimited text beside it, with the rows' clients.

use std::path::{Path, PathBuf};

use super::clients::Clients;
use super::file::{FETCH_AGAIN, SiteFile, Stamp, malformed};
use super::label::{LabelMap, whole};
use super::loaded::{Loaded, Notes, check_room, held};
use super::normalise::Normalise;
use super::rows::{Cell, Column, Dialect, RowFormat, RowSink, Spot, read};
use super::{DataError, Dataset, Place};

pub(crate) mod npy;
mod npz;

use npy::Array;

/// Most bytes of one array: 8 GiB.
const BYTES_MAX: u64 = 1 << 33;

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
) -> Result<Loaded, DataError> {
    let file = config.inputs.file.as_path();
    let (array, stamp) = read_array(&config.inputs)?;
    let (&rows, shape) = array.shape.split_first().ok_or_else(|| {
        let advice = "the first axis counts the rows";
        malformed(file, array.place.clone(), "an array of rows", "a single number", advice)
    })?;
    let mut stamps = vec![stamp];
    let mut shape = if shape.is_empty() { vec![1] } else { shape.to_vec() };
    check_room(file, array.values.len())?;
    let mut inputs = finite(file, &array, array.values.len() / rows.max(1))?;
    match normalise {
        // Pictures have their channels first, series and tables their features last.
        Some(constants) if shape.len() == 3 => constants.apply_first(&mut inputs, &shape)?,
        Some(constants) => constants.apply_last(&mut inputs, &shape)?,
        None => {}
    }
    if config.transpose {
        transpose(file, &mut inputs, &mut shape)?;
    }
    let mut clients = None;
    let data = match &config.target {
        ArrayTarget::Labels(labels, map) => {
            let labels = read_labels(labels, map, config)?;
            stamps.push(labels.stamp);
            clients = labels.clients;
            same_rows(labels.file, labels.classes.len(), file, rows)?;
            Dataset::from_f32(inputs, labels.classes, &shape, map.classes())
        }
        ArrayTarget::Values(other) => {
            let (targets, stamp) = read_array(other)?;
            stamps.push(stamp);
            let found = targets.shape.first().copied().unwrap_or(0);
            same_rows(&other.file, found, file, rows)?;
            let width = targets.values.len() / rows.max(1);
            let values = finite(&other.file, &targets, width)?;
            Dataset::with_values(inputs, values, &shape, width)
        }
    };
    let data = data.map_err(held(file))?;
    if let Some(groups) = &config.groups {
        let read = super::clients::read_groups(groups, config.client.as_ref(), rows, file)?;
        clients = Some(read.0);
        stamps.push(read.1);
    }
    Ok(Loaded { data, clients, notes: Notes { files: stamps, ..Notes::default() } })
}

fn read_array(from: &ArrayFile) -> Result<(Array, Stamp), DataError> {
    match &from.entry {
        None => {
            let (bytes, stamp) = SiteFile::read_whole(&from.file, BYTES_MAX)?;
            Ok((npy::parse(&from.file, None, &bytes)?, stamp))
        }
        Some(entry) => {
            let (name, bytes, stamp) = npz::read_entry(&from.file, entry, BYTES_MAX)?;
            Ok((npy::parse(&from.file, Some(&name), &bytes)?, stamp))
        }
    }
}

fn same_rows(file: &Path, found: usize, other: &Path, expected: usize) -> Result<(), DataError> {
    if found == expected {
        return Ok(());
    }
    let (file, other) = (file.to_owned(), other.to_owned());
    Err(DataError::Counts { file, found, other, expected })
}

fn finite(file: &Path, array: &Array, width: usize) -> Result<Vec<f32>, DataError> {
    let narrow = |(at, &value): (usize, &f64)| {
        let narrow = value as f32;
        narrow.is_finite().then_some(narrow).ok_or_else(|| {
            let place = Place::Cell {
                row: (at / width.max(1)) as u64,
                column: format!("value {}", at % width.max(1)),
            };
            let advice = "mend the value, or leave the row out";
            malformed(file, place, "a finite number", value.to_string(), advice)
        })
    };
    array.values.iter().enumerate().map(narrow).collect()
}

fn transpose(file: &Path, inputs: &mut [f32], shape: &mut [usize]) -> Result<(), DataError> {
    let &mut [first, second] = shape else {
        let advice = "leave `transpose` out";
        let found = format!("{} axes", shape.len());
        return Err(malformed(file, Place::Whole, "rows of two axes", found, advice));
    };
    for row in inputs.chunks_exact_mut((first * second).max(1)) {
        let old = row.to_vec();
        for (at, value) in row.iter_mut().enumerate() {
            *value = old[(at % first) * second + at / first];
        }
    }
    shape.swap(0, 1);
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
) -> Result<LabelColumn<'a>, DataError> {
    match labels {
        ArrayLabels::Array(from) => {
            let (array, stamp) = read_array(from)?;
            let class = |(at, &value): (usize, &f64)| {
                whole(value).and_then(|number| map.class_of_number(number)).ok_or_else(|| {
                    let place = Place::Row(at as u64);
                    let advice = "correct the label, or the classes in the configuration";
                    malformed(&from.file, place, map.expected(), value.to_string(), advice)
                })
            };
            let classes = array.values.iter().enumerate().map(class).collect::<Result<_, _>>()?;
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
        self.classes.push(self.map.class(spot, self.column, cell(0))?);
        if let (Some(clients), Some(column)) = (&mut self.clients, self.client) {
            clients.push_cell(spot, column, cell(1))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
