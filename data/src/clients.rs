//! Whose row each row is: names, numbered, so that one file can stand for many sites.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file::{SiteFile, Stamp, malformed};
use super::rows::{Cell, Column, Dialect, RowFormat, RowSink, Spot, read};
use super::{DataError, Place, idx, qmnist};

/// Most different clients of one file: far above any federation, far below a memory's worth.
pub(crate) const CLIENTS_MAX: usize = 1 << 20;

/// Where a row's client stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// In a column of the row.
    Column(Column),
    /// In the name of the row's file, without its endings.
    File,
}

impl Whose {
    /// The column, where there is one.
    pub(crate) fn column(&self) -> Option<&Column> {
        match self {
            Self::Column(column) => Some(column),
            Self::File => None,
        }
    }
}

/// A file's name without folder and endings: `hungarian` of `data/processed.hungarian.csv.gz` is
/// `processed.hungarian`.
pub(crate) fn stem(file: &Path) -> String {
    let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    let name = name.strip_suffix(".gz").unwrap_or(&name).to_owned();
    name.rsplit_once('.').map_or(name.clone(), |(stem, _)| stem.to_owned())
}

/// Refuses two files of one part that would be one client by their names.
pub(crate) fn distinct_files(
    files: &[PathBuf],
    name: fn(&Path) -> String,
) -> Result<(), DataError> {
    let mut seen: BTreeMap<String, &Path> = BTreeMap::new();
    for file in files {
        if let Some(other) = seen.insert(name(file), file) {
            let expected = format!("another name than that of {}", other.display());
            let advice = "rename one of them: each file is the client of its name";
            return Err(malformed(file, Place::Whole, expected, "the same", advice));
        }
    }
    Ok(())
}

/// The client of each row, by number, and the clients' names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Clients {
    numbers: BTreeMap<String, u32>,
    pub(crate) rows: Vec<u32>,
}

impl Clients {
    /// Adds a row of a client; none where there are too many clients.
    pub(crate) fn push(&mut self, name: &str) -> Option<()> {
        let number = match self.numbers.get(name) {
            Some(&number) => number,
            None if self.numbers.len() >= CLIENTS_MAX => return None,
            None => {
                let number = self.numbers.len() as u32;
                self.numbers.insert(name.to_owned(), number);
                number
            }
        };
        self.rows.push(number);
        Some(())
    }

    /// Adds a row, whose client stands in `cell` or in the file's name.
    pub(crate) fn push_row(
        &mut self,
        spot: Spot<'_>,
        whose: &Whose,
        cell: Cell<'_>,
    ) -> Result<(), DataError> {
        match whose {
            Whose::Column(column) => self.push_cell(spot, column, cell),
            // There are far fewer files than clients may be.
            Whose::File => {
                let _ = self.push(&stem(spot.file));
                Ok(())
            }
        }
    }

    /// Adds the row of a table; its client must be named.
    pub(crate) fn push_cell(
        &mut self,
        spot: Spot<'_>,
        column: &Column,
        cell: Cell<'_>,
    ) -> Result<(), DataError> {
        let name = cell.text();
        let name = name.trim();
        if name.is_empty() {
            let advice = "fill the column, or leave `client_column` out";
            return Err(spot.wrong(column, "a client's name", "nothing", advice));
        }
        self.push(name).ok_or_else(|| {
            let advice = "name another `client_column`";
            let expected = format!("at most {CLIENTS_MAX} different clients");
            spot.wrong(column, expected, "more", advice)
        })
    }

    /// All names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.numbers.keys()
    }

    /// The rows' clients as positions in `names`, which is sorted and has all of them.
    pub(crate) fn renumbered(&self, names: &[String]) -> Vec<u32> {
        let mut new = vec![0; self.numbers.len()];
        for (name, &number) in &self.numbers {
            let at = names.binary_search(name).unwrap_or_default();
            new[number as usize] = at as u32;
        }
        self.rows.iter().map(|&row| new[row as usize]).collect()
    }
}

/// Reads a group file: the client of each of `rows` rows of another file. It is a table of QMNIST
/// (whose test table may be longer than the set), or delimited text with a header.
pub(crate) fn read_groups(
    path: &Path,
    column: Option<&Column>,
    rows: usize,
    other: &Path,
) -> Result<(Clients, Stamp), DataError> {
    let mut file = SiteFile::open(path)?;
    if file.ready()?.starts_with(&idx::TABLE_MAGIC) {
        let mut clients = Clients::default();
        for writer in qmnist::read_writers(path, rows)? {
            // Padded, so that names sort as the numbers do.
            clients.push(&format!("{writer:05}")).ok_or_else(|| too_many(path))?;
        }
        return Ok((clients, file.finish()?));
    }
    let mut sink = GroupSink { column, clients: Clients::default() };
    let format = RowFormat::Delimited(Dialect::csv());
    let stamps = read(&format, &[path.to_owned()], &mut sink)?;
    if sink.clients.rows.len() != rows {
        return Err(DataError::Counts {
            file: path.to_owned(),
            found: sink.clients.rows.len(),
            other: other.to_owned(),
            expected: rows,
        });
    }
    let stamp = stamps.into_iter().next().map_or_else(|| file.finish(), Ok)?;
    Ok((sink.clients, stamp))
}

fn too_many(path: &Path) -> DataError {
    let expected = format!("at most {CLIENTS_MAX} different clients");
    malformed(path, Place::Whole, expected, "more", "name another group file")
}

struct GroupSink<'a> {
    column: Option<&'a Column>,
    clients: Clients,
}

impl RowSink for GroupSink<'_> {
    fn columns(&mut self, _: &Path, _: Option<&[String]>) -> Result<Vec<Column>, DataError> {
        Ok(vec![self.column.cloned().unwrap_or(Column::Position(0))])
    }

    fn row(&mut self, spot: Spot<'_>, cells: &[Cell<'_>]) -> Result<(), DataError> {
        let column = self.column.cloned().unwrap_or(Column::Position(0));
        let cell = cells.first().copied().unwrap_or(Cell::Missing);
        self.clients.push_cell(spot, &column, cell)
    }
}

#[cfg(test)]
mod tests {
    use super::Clients;

    #[test]
    fn numbers_follow_the_sorted_names_of_all_files() {
        let mut clients = Clients::default();
        for name in ["theo", "ann", "theo"] {
            clients.push(name).expect("few");
        }
        assert_eq!(clients.names().collect::<Vec<_>>(), ["ann", "theo"]);
        let all = ["ann".to_owned(), "jan".to_owned(), "theo".to_owned()];
        assert_eq!(clients.renumbered(&all), [2, 0, 2]);
    }
}
