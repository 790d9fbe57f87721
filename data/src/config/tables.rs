//! Rows with columns: a table of numbers, or texts where a `text_column` is named.
//!
//! ```toml
//! format = "csv"                    # or "tsv", "parquet", "jsonl"
//! file = "train.csv.gz"             # or files; evaluate_file(s)
//! header = false                    # csv, tsv: also delimiter, quotes
//! names = ["age", "pain", "sick"]   # or columns by position: label_column = 2
//! label_column = "sick"             # with classes, class_names or label_above;
//! label_above = 0                   # or target_columns = ["pressure"]
//! missing = "error"                 # "drop" | "constant" | "flag", with fill = 0.0
//! missing_words = ["", "?"]
//! features = [                      # all other columns where this is not given; "job": as the job lists
//!   { column = "age", mean = 54.0, deviation = 9.0, missing = "flag" },
//!   { column = "pain", categories = [1, 2, 3, 4] },
//! ]
//! rename = { age = "alter" }        # the job's name = the column here; without `features`
//! client_column = "hospital"         # or client_by_file = true: each file is one client's
//! client = "va"                     # keeps the rows of one client
//! validation_fraction = 0.1         # also validation_seed, validation_by = "rows" | "clients"
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use toml::Value;
use tributary_core::document::{Section, show};
use tributary_core::spec::data::VALUES_MAX;
use tributary_core::spec::features::{Missing, Reading};

use super::{Format, TextRows, keys, texts};
use crate::clients::Whose;
use crate::rows::{Column, Dialect, RowFormat};
use crate::table::{Feature, MISSING_WORDS, TableColumns, TableTarget};
use crate::text::TextColumns;

pub(super) fn read(section: &mut Section, base: &Path, rows: RowFormat) -> Option<Format> {
    let rows = match rows {
        RowFormat::Delimited(dialect) => RowFormat::Delimited(read_dialect(section, dialect)),
        other => other,
    };
    let parts = keys::files(section, base);
    let client = read_whose(section);
    if section.has("text_column") {
        let text = keys::column(section, "text_column");
        let label = keys::column(section, "label_column");
        let label = label.map(|column| (column, keys::label_map(section)));
        let (tokens, steps) = texts::read_tokens(section, base);
        let columns = TextColumns { text: text?, label, client };
        return Some(Format::TextRows(TextRows { parts, rows, columns, tokens: tokens?, steps }));
    }
    let missing = Missing::read(section, Missing::Refuse);
    let missing_words = keys::strings(section, "missing_words")
        .unwrap_or_else(|| MISSING_WORDS.map(str::to_owned).to_vec());
    let rename = read_rename(section);
    // A word instead of a list: the job's.
    let words = [("job", true)];
    let is_word = section.peek("features").is_some_and(Value::is_str);
    let by_job = is_word && section.choice("features", &words, None).unwrap_or(true);
    let features = if by_job { None } else { read_features(section, missing) };
    let by_job = by_job || (features.is_none() && !rename.is_empty());
    let target = read_target(section);
    let columns = TableColumns {
        features,
        by_job,
        rename,
        named: Vec::new(),
        missing,
        missing_words,
        target: target?,
        client,
    };
    Some(Format::Table { parts, rows, columns })
}

/// `client_column`, or `client_by_file` where each file is one site's.
fn read_whose(section: &mut Section) -> Option<Whose> {
    let column = keys::column(section, "client_column");
    let by_file = section.boolean("client_by_file", Some(false));
    match (column, by_file) {
        (Some(_), true) => {
            section.fault("client_by_file", "either `client_column` or `client_by_file`", "both");
            None
        }
        (Some(column), false) => Some(Whose::Column(column)),
        (None, by_file) => by_file.then_some(Whose::File),
    }
}

fn read_dialect(section: &mut Section, default: Dialect) -> Dialect {
    let words = [(",", b','), (";", b';'), ("\t", b'\t'), ("|", b'|'), (" ", b' ')];
    let delimiter = section.choice("delimiter", &words, Some(default.delimiter));
    let quotes = section.boolean("quotes", Some(default.quotes));
    let header = section.boolean("header", Some(default.header));
    let names = keys::strings(section, "names").unwrap_or_default();
    if header && !names.is_empty() {
        section.fault("names", "names only where `header = false`", "names beside a header");
    }
    Dialect { delimiter: delimiter.unwrap_or(default.delimiter), quotes, header, names }
}

fn read_features(section: &mut Section, missing: Missing) -> Option<Vec<Feature>> {
    let list = section.optional_list("features")?;
    if list.is_empty() {
        section.fault("features", "at least one column, or no such key for all", "none");
    }
    let mut features = Vec::with_capacity(list.len());
    for (path, value) in list {
        let feature = match value {
            Value::Table(table) => {
                let mut inner = section.below(path, table);
                let feature = read_feature(&mut inner, missing);
                inner.finish();
                feature
            }
            other => keys::one_column(section, path, &other)
                .map(|column| Feature { column, reading: Reading::plain(missing) }),
        };
        features.extend(feature);
    }
    Some(features)
}

fn read_feature(section: &mut Section, missing: Missing) -> Option<Feature> {
    let column = keys::required_column(section, "column");
    let reading = Reading::read(section, missing);
    Some(Feature { column: column?, reading })
}

/// The site's columns that a job calls otherwise, by the job's names.
fn read_rename(section: &mut Section) -> BTreeMap<String, Column> {
    let path = section.path_of("rename");
    let table = match section.take("rename") {
        None => return BTreeMap::new(),
        Some(Value::Table(table)) => table,
        Some(other) => {
            section.fault("rename", "a table: the job's name = the column here", show(&other));
            return BTreeMap::new();
        }
    };
    let mut rename = BTreeMap::new();
    for (name, value) in table {
        let column = keys::one_column(section, format!("{path}.{name}"), &value);
        if column.as_ref().is_some_and(|column| rename.values().any(|known| known == column)) {
            let expected = "a column that no other name has";
            section.fault_at(format!("{path}.{name}"), expected, show(&value));
        }
        rename.extend(column.map(|column| (name, column)));
    }
    rename
}

fn read_target(section: &mut Section) -> Option<TableTarget> {
    match (section.has("label_column"), section.has("target_columns")) {
        (true, true) => {
            section.fault("target_columns", "either `label_column` or `target_columns`", "both");
            let _ = (section.take("label_column"), section.take("target_columns"));
            None
        }
        (false, true) => {
            let columns = keys::columns(section, "target_columns")?;
            if columns.is_empty() || columns.len() > VALUES_MAX as usize {
                let expected = format!("1 to {VALUES_MAX} columns");
                let found = format!("a list of {}", columns.len());
                section.fault("target_columns", expected, found);
            }
            Some(TableTarget::Values(columns))
        }
        _ => {
            let column = keys::required_column(section, "label_column");
            let map = keys::label_map(section);
            Some(TableTarget::Label(column?, map))
        }
    }
}
