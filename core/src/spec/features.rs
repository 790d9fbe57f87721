//! The columns of a table that a job reads: under its own names, in its own order, each encoded in one
//! way at every site.

use toml::Value;

use crate::document::{Section, show};

use super::constants::{NUMBER_MAX, distinct};

/// Most features of one job: both constants of each stay within a spec.
pub const FEATURES_MAX: usize = 1 << 15;
/// Longest name of a column, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Most categories of one column: more is a vocabulary.
const CATEGORIES_MAX: usize = 4096;

/// How a column becomes numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoding {
    /// (value − `mean`) ⁄ `deviation`.
    Number {
        /// What is subtracted.
        mean: f64,
        /// What is divided by; not 0.
        deviation: f64,
    },
    /// One feature a category: 1 for the row's, 0 for the others.
    OneHot(Vec<String>),
}

/// What to do where a feature's value is missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Missing {
    /// Refuse the file.
    Refuse,
    /// Leave the row out; the summary counts it.
    Drop,
    /// Put this in its place, after `mean` and `deviation`; a category becomes all zeros.
    Constant(f32),
    /// As [`Missing::Constant`], and one more feature: 1 where the value is missing, else 0.
    Flag(f32),
}

/// How one column is read, wherever it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// How it becomes numbers.
    pub encoding: Encoding,
    /// What to do where it is missing.
    pub missing: Missing,
}

/// One of a job's features.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSpec {
    /// The job's name for the column; a site may have it under another.
    pub column: String,
    /// How it is read.
    pub reading: Reading,
}

impl Encoding {
    /// The number as it is.
    #[must_use]
    pub fn plain() -> Self {
        Self::Number { mean: 0.0, deviation: 1.0 }
    }

    /// How many numbers it makes.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Number { .. } => 1,
            Self::OneHot(categories) => categories.len(),
        }
    }
}

impl Missing {
    /// `missing` (and `fill`) of a table or of one feature.
    pub fn read(section: &mut Section, default: Self) -> Self {
        let (word, fill) = match default {
            Self::Refuse => ("error", 0.0),
            Self::Drop => ("drop", 0.0),
            Self::Constant(fill) => ("constant", fill),
            Self::Flag(fill) => ("flag", fill),
        };
        let words = ["error", "drop", "constant", "flag"].map(|word| (word, word));
        let word = section.choice("missing", &words, Some(word)).unwrap_or(word);
        let fill = section.number("fill", -NUMBER_MAX..=NUMBER_MAX, Some(f64::from(fill))) as f32;
        match word {
            "drop" => Self::Drop,
            "constant" => Self::Constant(fill),
            "flag" => Self::Flag(fill),
            _ => Self::Refuse,
        }
    }
}

impl Reading {
    /// Plain numbers.
    #[must_use]
    pub fn plain(missing: Missing) -> Self {
        Self { encoding: Encoding::plain(), missing }
    }

    /// `categories`, or `mean` and `deviation`; and `missing`.
    pub fn read(section: &mut Section, missing: Missing) -> Self {
        let missing = Missing::read(section, missing);
        let encoding = read_categories(section).map_or_else(
            || {
                let mean = section.number("mean", -NUMBER_MAX..=NUMBER_MAX, Some(0.0));
                let deviation = section.number("deviation", -NUMBER_MAX..=NUMBER_MAX, Some(1.0));
                if deviation == 0.0 {
                    section.fault("deviation", "a number other than 0", "0");
                }
                Encoding::Number { mean, deviation }
            },
            Encoding::OneHot,
        );
        Self { encoding, missing }
    }

    /// Whether it is normalised by constants of its own.
    #[must_use]
    pub fn is_scaled(&self) -> bool {
        match self.encoding {
            Encoding::Number { .. } => self.encoding != Encoding::plain(),
            Encoding::OneHot(_) => false,
        }
    }

    /// How many numbers of an example it makes.
    #[must_use]
    pub fn width(&self) -> usize {
        self.encoding.width() + usize::from(matches!(self.missing, Missing::Flag(_)))
    }
}

/// Categories are texts or whole numbers.
fn read_categories(section: &mut Section) -> Option<Vec<String>> {
    let list = section.optional_list("categories")?;
    let mut categories = Vec::with_capacity(list.len());
    for (path, value) in list {
        match value {
            Value::String(text) => categories.push(text),
            Value::Integer(number) => categories.push(number.to_string()),
            other => section.fault_at(path, "a text or a whole number", show(&other)),
        }
    }
    if !distinct(&categories) || !(1..=CATEGORIES_MAX).contains(&categories.len()) {
        let expected = format!("1 to {CATEGORIES_MAX} different categories");
        section.fault("categories", expected, format!("a list of {}", categories.len()));
    }
    Some(categories)
}

/// `features` of a job's `[data]`, where it lists them.
///
/// ```toml
/// [data]
/// missing = "error"            # "drop" | "constant" | "flag", with fill = 0.0; a feature's own goes first
/// features = ["age", { column = "pain", categories = [1, 2, 3, 4] }]
/// ```
///
/// or a table each:
///
/// ```toml
/// [[data.features]]
/// column = "age"
/// mean = 54.0                  # where there is no [data.normalise]
/// deviation = 9.0
/// ```
pub(super) fn read(section: &mut Section) -> Option<Vec<FeatureSpec>> {
    if !section.has("features") {
        // Without a list there is nothing that `missing` says how to read.
        return None;
    }
    let missing = Missing::read(section, Missing::Refuse);
    let list = section.optional_list("features")?;
    let count = list.len();
    let mut features: Vec<FeatureSpec> = Vec::with_capacity(count.min(FEATURES_MAX));
    for (path, value) in list.into_iter().take(FEATURES_MAX) {
        let feature = match value {
            Value::String(column) => FeatureSpec { column, reading: Reading::plain(missing) },
            Value::Table(table) => {
                let mut inner = section.below(path.clone(), table);
                let column = inner.text("column", None);
                let reading = Reading::read(&mut inner, missing);
                inner.finish();
                FeatureSpec { column, reading }
            }
            other => {
                section.fault_at(path, "a column's name, or a table with `column`", show(&other));
                continue;
            }
        };
        if !(1..=NAME_BYTES_MAX).contains(&feature.column.len()) {
            let expected = format!("a name of 1 to {NAME_BYTES_MAX} bytes");
            section.fault_at(path, expected, format!("{} bytes", feature.column.len()));
        }
        features.push(feature);
    }
    let names: Vec<&String> = features.iter().map(|feature| &feature.column).collect();
    if !distinct(&names) || !(1..=FEATURES_MAX).contains(&count) {
        let expected = format!("1 to {FEATURES_MAX} different columns");
        section.fault("features", expected, format!("a list of {count}"));
    }
    Some(features)
}

#[cfg(test)]
mod tests;
