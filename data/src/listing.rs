//! Many small files as rows: a folder of one folder per class, or an index, a table that names each
//! file, its class and its client.

use std::path::{Path, PathBuf};

use super::clients::Clients;
use super::error::excerpt;
use super::file::{Stamp, malformed};
use super::label::LabelMap;
use super::rows::{Cell, Column, Dialect, RowFormat, RowSink, Spot, read};
use super::{DataError, Place};

/// Most files of one data set: each is opened alone, and listed in memory.
const FILES_MAX: usize = 1 << 22;

/// Where files are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// Folders named after the classes.
    Folder(PathBuf),
    /// Delimited text with a header. Relative paths in it start at its own folder.
    Index {
        /// The index.
        file: PathBuf,
        /// The column of paths.
        path: Column,
        /// The column of labels.
        label: Column,
        /// The column of clients.
        client: Option<Column>,
    },
}

/// Files in a fixed order, with their classes.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) classes: Vec<u32>,
    pub(crate) clients: Option<Clients>,
    pub(crate) stamps: Vec<Stamp>,
    pub(crate) skipped: u64,
}

/// Lists files whose names end as one of `endings` (or that, with `.gz`).
pub(crate) fn list(
    listing: &Listing,
    map: &LabelMap,
    endings: &[&str],
) -> Result<Listed, DataError> {
    let listed = match listing {
        Listing::Folder(folder) => list_folder(folder, map, endings)?,
        Listing::Index { file, path, label, client } => {
            let base = file.parent().unwrap_or(Path::new(""));
            let mut sink = IndexSink { base, path, label, client, map, listed: Listed::default() };
            sink.listed.clients = client.as_ref().map(|_| Clients::default());
            let format = RowFormat::Delimited(Dialect::csv());
            let stamps = read(&format, std::slice::from_ref(file), &mut sink)?;
            Listed { stamps, ..sink.listed }
        }
    };
    if listed.files.is_empty() {
        let place = match listing {
            Listing::Folder(folder) => folder,
            Listing::Index { file, .. } => file,
        };
        let expected = format!("files that end in {}", endings.join(", "));
        let advice = "check that the right folder or index is named";
        return Err(malformed(place, Place::Whole, expected, "none", advice));
    }
    Ok(listed)
}

/// A folder's entries in the order of their names, hidden ones left out.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let failed = |source| DataError::Read { file: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        if !name.starts_with('.') {
            found.push((name, path));
        }
        if found.len() > FILES_MAX {
            let expected = format!("at most {FILES_MAX} files");
            let advice = "cut the folder in several";
            return Err(malformed(folder, Place::Whole, expected, "more", advice));
        }
    }
    // The order of a folder is the file system's own; that of names is the same everywhere.
    found.sort();
    Ok(found)
}

/// The names of the folders in a folder.
pub(crate) fn folder_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let folders = entries(folder)?.into_iter().filter(|(_, path)| path.is_dir());
    Ok(folders.map(|(name, _)| name).collect())
}

fn list_folder(folder: &Path, map: &LabelMap, endings: &[&str]) -> Result<Listed, DataError> {
    let mut listed = Listed::default();
    for (name, path) in entries(folder)? {
        if !path.is_dir() {
            listed.skipped += 1;
            continue;
        }
        if listed.classes.is_empty() {
            map.check_first(&name)?;
        }
        let class = map.class_of_text(&name).ok_or_else(|| {
            let expected = format!("a folder for {}", map.expected());
            let advice = "rename the folder, or add its class at every site";
            malformed(folder, Place::Entry(name.clone()), expected, excerpt(&name), advice)
        })?;
        for (name, path) in entries(&path)? {
            let lower = name.to_lowercase();
            let plain = lower.strip_suffix(".gz").unwrap_or(&lower);
            if !endings.iter().any(|ending| plain.ends_with(ending)) {
                listed.skipped += 1;
                continue;
            }
            listed.files.push(path);
            listed.classes.push(class);
        }
    }
    Ok(listed)
}

struct IndexSink<'a> {
    base: &'a Path,
    path: &'a Column,
    label: &'a Column,
    client: &'a Option<Column>,
    map: &'a LabelMap,
    listed: Listed,
}

impl RowSink for IndexSink<'_> {
    fn columns(&mut self, _: &Path, _: Option<&[String]>) -> Result<Vec<Column>, DataError> {
        Ok([Some(self.path), Some(self.label), self.client.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect())
    }

    fn row(&mut self, spot: Spot<'_>, cells: &[Cell<'_>]) -> Result<(), DataError> {
        let cell = |at: usize| cells.get(at).copied().unwrap_or(Cell::Missing);
        let name = cell(0).text();
        if name.trim().is_empty() {
            let advice = "name the file, or leave the line out";
            return Err(spot.wrong(self.path, "the path of a file", "nothing", advice));
        }
        if self.listed.files.len() >= FILES_MAX {
            let expected = format!("at most {FILES_MAX} files");
            return Err(spot.wrong(self.path, expected, "more", "cut the index in several"));
        }
        self.listed.files.push(self.base.join(name.trim()));
        let class = self.map.class(spot, self.label, cell(1), self.listed.classes.len())?;
        self.listed.classes.push(class);
        if let (Some(clients), Some(column)) = (&mut self.listed.clients, self.client) {
            clients.push_cell(spot, column, cell(2))?;
        }
        Ok(())
    }
}
