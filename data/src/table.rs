//! Rows of a table as examples: numbers, categories as one-hot, missing values by a stated policy,
//! normalised by given constants, and a label or numbers to predict.
//!
//! Nothing here is computed from the rows: categories, constants and classes are given, so that
//! every site encodes the same way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tributary_core::spec::features::{Encoding, FeatureSpec, Missing, Reading};

use super::clients::{Clients, Whose};
use super::dataset::{Labels, check_finite};
use super::file::{Stamp, malformed};
use super::label::LabelMap;
use super::loaded::{Loaded, Notes, held};
use super::normalise::Normalise;
use super::rows::{Cell, Column, RowFormat, RowSink, Spot, read};
use super::store::{Builder, Room};
use super::{DataError, Dataset, Place};

/// Cells that mean "not known" where the configuration says nothing else.
pub const MISSING_WORDS: [&str; 5] = ["", "?", "NA", "NaN", "nan"];

/// One feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// Where it stands.
    pub column: Column,
    /// How it is read.
    pub reading: Reading,
}

/// What is predicted of a row of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum TableTarget {
    /// A class.
    Label(Column, LabelMap),
    /// Numbers.
    Values(Vec<Column>),
}

/// Which columns of a table are what.
#[derive(Debug, Clone, PartialEq)]
pub struct TableColumns {
    /// The features in order; none for all columns that are nothing else, as plain numbers.
    pub features: Option<Vec<Feature>>,
    /// Whether a job must list them: without one, no column is a feature.
    pub by_job: bool,
    /// Columns that a job calls otherwise: by its name, where they stand here.
    pub rename: BTreeMap<String, Column>,
    /// The job's names of the features, where they are the job's; empty where they are not.
    pub named: Vec<String>,
    /// What happens to missing values where `features` is not given.
    pub missing: Missing,
    /// Cells that mean "not known".
    pub missing_words: Vec<String>,
    /// What is predicted.
    pub target: TableTarget,
    /// Whose row it is.
    pub client: Option<Whose>,
}

impl TableColumns {
    /// All columns that are neither target nor client, as plain numbers.
    pub(crate) fn others(
        &self,
        file: &Path,
        there: Option<&[String]>,
    ) -> Result<Vec<Feature>, DataError> {
        let Some(there) = there else {
            let advice = "list `features` in the configuration";
            let found = "a format whose rows may each have others";
            return Err(malformed(file, Place::Whole, "columns in a fixed order", found, advice));
        };
        let client = self.client.as_ref().and_then(Whose::column).cloned();
        let taken: Vec<Column> = self.targets().into_iter().chain(client).collect();
        let is_free = |at: usize, name: &String| {
            !taken.iter().any(|column| match column {
                Column::Name(known) => known == name,
                Column::Position(known) => *known == at,
            })
        };
        let free = there.iter().enumerate().filter(|(at, name)| is_free(*at, name));
        let feature = |name: &String| Feature {
            column: Column::Name(name.clone()),
            reading: Reading::plain(self.missing),
        };
        Ok(free.map(|(_, name)| feature(name)).collect())
    }

    /// These columns as a job lists them; as they are where it lists none.
    ///
    /// # Errors
    /// Where the site lists others, or leaves the list to a job that has none.
    pub(crate) fn listed(&self, job: Option<&[FeatureSpec]>) -> Result<Self, DataError> {
        let unfit = |expected: String, found: &str, advice: &'static str| {
            let found = found.to_owned();
            DataError::Unfit { what: "list of features", expected, found, advice: advice.into() }
        };
        let Some(job) = job else {
            if !self.by_job {
                return Ok(self.clone());
            }
            let advice = "list `features` in [data] of the site, or in [data] of the job";
            let expected = "the columns that the job reads";
            return Err(unfit(expected.to_owned(), "no `features` in the job", advice));
        };
        let place = |spec: &FeatureSpec| {
            let own = self.rename.get(&spec.column).cloned();
            own.unwrap_or_else(|| Column::Name(spec.column.clone()))
        };
        let feature = |s: &FeatureSpec| Feature { column: place(s), reading: s.reading.clone() };
        let features: Vec<Feature> = job.iter().map(feature).collect();
        if let Some(own) = self.features.as_ref().filter(|own| **own != features) {
            let same = own.iter().zip(&features).take_while(|(own, job)| own == job).count();
            let expected = job.get(same).map_or_else(
                || format!("{} features, as the job lists", job.len()),
                |feature| format!("the job's feature {same}, {:?}", feature.column),
            );
            // The site's own words stay with the site.
            let found = match (own.get(same), features.get(same)) {
                (Some(own), Some(job)) if own.column == job.column => "that column read otherwise",
                (Some(_), Some(_)) => "another column",
                (None, _) => "the end of the site's list",
                (Some(_), None) => "more of them",
            };
            let advice = "take `features` out of [data], so that the job's are read, and `rename` \
                          columns that have other names here";
            return Err(unfit(expected, found, advice));
        }
        let named = job.iter().map(|spec| spec.column.clone()).collect();
        Ok(Self { features: Some(features), by_job: false, named, ..self.clone() })
    }

    /// Whether a file has the columns that a job lists.
    fn check_there(&self, file: &Path, there: Option<&[String]>) -> Result<(), DataError> {
        let Some(there) = there else { return Ok(()) };
        let features = self.features.iter().flatten();
        for (feature, name) in features.zip(&self.named) {
            let is_there = match &feature.column {
                Column::Name(own) => there.contains(own),
                Column::Position(at) => *at < there.len(),
            };
            if !is_there {
                return Err(held(file)(DataError::Unfit {
                    what: "set of columns",
                    expected: format!("one for the job's {name:?}"),
                    // What a site's columns are called stays with the site.
                    found: format!("none of its name among {}", there.len()),
                    advice: "say in `rename` of [data] what it is called here".into(),
                }));
            }
        }
        Ok(())
    }

    /// Whether a cell means "not known".
    pub(crate) fn is_missing(&self, cell: Cell<'_>) -> bool {
        match cell {
            Cell::Missing => true,
            Cell::Number(number) => number.is_nan(),
            Cell::Text(text) => {
                let text = text.trim();
                self.missing_words.iter().any(|word| word == text)
            }
        }
    }

    fn targets(&self) -> Vec<Column> {
        match &self.target {
            TableTarget::Label(column, _) => vec![column.clone()],
            TableTarget::Values(columns) => columns.clone(),
        }
    }
}

/// Reads files of rows as examples of shape `[features]`; also says which features these are.
pub(crate) fn load(
    format: &RowFormat,
    files: &[PathBuf],
    columns: &TableColumns,
    normalise: Option<&Normalise>,
    room: &Room,
) -> Result<(Loaded, Vec<Feature>), DataError> {
    let mut sink = TableSink::new(columns, normalise, room);
    let stamps = read(format, files, &mut sink)?;
    let first = files.first().map_or(Path::new(""), PathBuf::as_path);
    sink.finish(first, stamps)
}

struct TableSink<'a> {
    columns: &'a TableColumns,
    normalise: Option<&'a Normalise>,
    features: Vec<Feature>,
    inputs: Builder<f32>,
    /// The numbers of the row that is being read.
    row: Vec<f32>,
    labels: Vec<u32>,
    values: Vec<f32>,
    rows: usize,
    clients: Option<Clients>,
    missing: Vec<u64>,
    dropped: u64,
}

impl<'a> TableSink<'a> {
    fn new(columns: &'a TableColumns, normalise: Option<&'a Normalise>, room: &Room) -> Self {
        let features = columns.features.clone().unwrap_or_default();
        Self {
            columns,
            missing: vec![0; features.len()],
            features,
            normalise,
            inputs: Builder::new(room),
            row: Vec::new(),
            labels: Vec::new(),
            values: Vec::new(),
            rows: 0,
            clients: columns.client.as_ref().map(|_| Clients::default()),
            dropped: 0,
        }
    }

    fn push_missing(&mut self, at: usize) {
        let feature = &self.features[at];
        let width = feature.reading.encoding.width();
        let one_hot = matches!(feature.reading.encoding, Encoding::OneHot(_));
        match feature.reading.missing {
            // Both were dealt with before a number was pushed.
            Missing::Refuse | Missing::Drop => {}
            Missing::Constant(fill) | Missing::Flag(fill) => {
                let fill = if one_hot { 0.0 } else { fill };
                self.row.extend(std::iter::repeat_n(fill, width));
                if matches!(feature.reading.missing, Missing::Flag(_)) {
                    self.row.push(1.0);
                }
            }
        }
    }

    fn push_present(&mut self, at: usize, spot: Spot<'_>, cell: Cell<'_>) -> Result<(), DataError> {
        let feature = &self.features[at];
        match &feature.reading.encoding {
            Encoding::Number { mean, deviation } => {
                let value = finite(spot, &feature.column, cell)?;
                self.row.push(((value - mean) / deviation) as f32);
            }
            Encoding::OneHot(categories) => {
                let text = cell.text();
                let text = text.trim();
                let same = |category: &String| {
                    category == text
                        || matches!((category.parse::<f64>(), cell.number()), (Ok(a), Some(b)) if a == b)
                };
                let hit = categories.iter().position(same).ok_or_else(|| {
                    let expected =
                        format!("one of the categories {}", super::error::listed(categories));
                    let advice = "add the category at every site, or mend the value";
                    spot.wrong(&feature.column, expected, cell.shown(), advice)
                })?;
                let hot = (0..categories.len()).map(|at| f32::from(u8::from(at == hit)));
                self.row.extend(hot);
            }
        }
        if matches!(feature.reading.missing, Missing::Flag(_)) {
            self.row.push(0.0);
        }
        Ok(())
    }

    /// Counts what is missing; whether the row stays.
    fn keeps(&mut self, spot: Spot<'_>, cells: &[Cell<'_>]) -> Result<bool, DataError> {
        let mut keep = true;
        for at in 0..self.features.len() {
            let cell = cells.get(at).copied().unwrap_or(Cell::Missing);
            if !self.columns.is_missing(cell) {
                continue;
            }
            let feature = &self.features[at];
            if feature.reading.missing == Missing::Refuse {
                let advice = "fill the value, or choose how `missing` values are taken";
                return Err(spot.wrong(&feature.column, "a value", cell.shown(), advice));
            }
            keep &= feature.reading.missing != Missing::Drop;
            self.missing[at] += 1;
        }
        Ok(keep)
    }

    fn push_targets(&mut self, spot: Spot<'_>, cells: &[Cell<'_>]) -> Result<usize, DataError> {
        let cell = |at: usize| cells.get(at).copied().unwrap_or(Cell::Missing);
        match &self.columns.target {
            TableTarget::Label(column, map) => {
                let label = if self.columns.is_missing(cell(0)) { Cell::Missing } else { cell(0) };
                let class = map.class(spot, column, label, self.labels.len())?;
                self.labels.push(class);
                Ok(1)
            }
            TableTarget::Values(columns) => {
                for (at, column) in columns.iter().enumerate() {
                    self.values.push(finite(spot, column, cell(at))? as f32);
                }
                Ok(columns.len())
            }
        }
    }

    fn finish(self, file: &Path, files: Vec<Stamp>) -> Result<(Loaded, Vec<Feature>), DataError> {
        if self.rows == 0 {
            let found = match self.dropped {
                0 => "none".to_owned(),
                dropped => format!("{dropped} with a missing value, all left out"),
            };
            let advice = "check the file, and how `missing` values are taken";
            return Err(malformed(file, Place::Whole, "at least one row", found, advice));
        }
        let shape = [self.inputs.len() / self.rows];
        let targets = match &self.columns.target {
            TableTarget::Label(_, map) => Labels::classes(self.labels, map.classes()),
            TableTarget::Values(columns) => Labels::values(self.values, columns.len()),
        };
        let inputs = self.inputs.finish().map_err(held(file))?;
        let data = targets.and_then(|targets| Dataset::of_numbers(inputs, targets, &shape));
        let names = self.features.iter().map(|feature| feature.column.to_string());
        let missing = names.zip(self.missing).filter(|(_, count)| *count > 0).collect();
        let notes = Notes { files, missing, dropped_rows: self.dropped, ..Notes::default() };
        let loaded = Loaded { data: data.map_err(held(file))?, clients: self.clients, notes };
        Ok((loaded, self.features))
    }
}

impl RowSink for TableSink<'_> {
    fn columns(&mut self, file: &Path, there: Option<&[String]>) -> Result<Vec<Column>, DataError> {
        if self.columns.features.is_none() && self.features.is_empty() {
            self.features = self.columns.others(file, there)?;
            self.missing = vec![0; self.features.len()];
        }
        self.columns.check_there(file, there)?;
        let features = self.features.iter().map(|feature| feature.column.clone());
        let client = self.columns.client.as_ref().and_then(Whose::column).cloned();
        let others = self.columns.targets().into_iter().chain(client);
        Ok(features.chain(others).collect())
    }

    fn row(&mut self, spot: Spot<'_>, cells: &[Cell<'_>]) -> Result<(), DataError> {
        if !self.keeps(spot, cells)? {
            self.dropped += 1;
            return Ok(());
        }
        self.row.clear();
        for at in 0..self.features.len() {
            let cell = cells.get(at).copied().unwrap_or(Cell::Missing);
            if self.columns.is_missing(cell) {
                self.push_missing(at);
            } else {
                self.push_present(at, spot, cell)?;
            }
        }
        let rest = cells.get(self.features.len()..).unwrap_or_default();
        let targets = self.push_targets(spot, rest)?;
        if let (Some(clients), Some(whose)) = (&mut self.clients, &self.columns.client) {
            let cell = rest.get(targets).copied().unwrap_or(Cell::Missing);
            clients.push_row(spot, whose, cell)?;
        }
        if let Some(constants) = self.normalise {
            let shape = [self.row.len()];
            constants.apply_last(&mut self.row, &shape)?;
        }
        check_finite(self.inputs.len(), &self.row).map_err(held(spot.file))?;
        self.rows += 1;
        self.inputs.push(&self.row).map_err(held(spot.file))
    }
}

/// The number of a cell; it must be one, and finite as an f32.
pub(crate) fn finite(spot: Spot<'_>, column: &Column, cell: Cell<'_>) -> Result<f64, DataError> {
    let number = cell.number().filter(|number| (*number as f32).is_finite());
    number.ok_or_else(|| {
        let advice = "mend the value, or say that it means a missing one (`missing_words`)";
        spot.wrong(column, "a finite number", cell.shown(), advice)
    })
}
