//! Reading a TOML document with all its faults at once: every key is asked for once, with what it
//! may hold; what nobody asked for is an unknown key.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::rc::Rc;

use toml::{Table, Value};

use crate::fault::Faults;

/// Parses `text` (at most `bytes_max` long) and lets `read` take it apart; all faults come back
/// together, a syntax error alone.
///
/// # Errors
/// The faults, each with its path.
pub fn read_document<T>(
    text: &str,
    bytes_max: usize,
    read: impl FnOnce(&mut Section) -> T,
) -> Result<T, Faults> {
    let mut faults = Faults::default();
    if text.len() > bytes_max {
        faults.add(
            "document",
            format!("at most {bytes_max} bytes"),
            format!("{} bytes", text.len()),
        );
        return Err(faults);
    }
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(0, |span| {
                1 + text.as_bytes().iter().take(span.start).filter(|&&b| b == b'\n').count()
            });
            let message = error.message().replace('\n', ", ");
            faults.add(format!("line {line}"), "valid TOML", message);
            return Err(faults);
        }
    };
    read_table(table, read)
}

/// Takes a table apart; all faults come back together.
///
/// # Errors
/// The faults, each with its path.
pub fn read_table<T>(table: Table, read: impl FnOnce(&mut Section) -> T) -> Result<T, Faults> {
    let shared = Rc::new(RefCell::new(Faults::default()));
    let mut root =
        Section { path: String::new(), table, asked: Vec::new(), faults: shared.clone() };
    let value = read(&mut root);
    root.finish();
    let faults = shared.take();
    faults.or_ok(value)
}

/// One table of a document. Ask for each key once, then [`Section::finish`].
pub struct Section {
    path: String,
    table: Table,
    asked: Vec<String>,
    faults: Rc<RefCell<Faults>>,
}

impl Section {
    /// The path of a key of this table.
    #[must_use]
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// This table's own path; empty for the document.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Records a fault at a key of this table.
    pub fn fault(&self, key: &str, expected: impl Into<String>, found: impl Into<String>) {
        self.faults.borrow_mut().add(self.path_of(key), expected, found);
    }

    /// Records a fault at any path.
    pub fn fault_at(
        &self,
        path: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.faults.borrow_mut().add(path, expected, found);
    }

    /// Whether the key stands in the table (asked for or not).
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key, which is not asked for by looking at it.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<&Value> {
        self.table.get(key)
    }

    /// Takes the raw value of a key; `None` where it is missing.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.asked.push(key.to_owned());
        self.table.remove(key)
    }

    fn take_as<T>(
        &mut self,
        key: &str,
        expected: impl Display,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let converted = convert(&value);
        if converted.is_none() {
            self.fault(key, expected.to_string(), show(&value));
        }
        converted
    }

    fn or_missing<T>(
        &self,
        key: &str,
        had: bool,
        value: Option<T>,
        default: Option<T>,
        expected: impl Display,
    ) -> Option<T> {
        match (value, default) {
            (Some(value), _) => Some(value),
            (None, Some(default)) => Some(default),
            (None, None) => {
                // A value of the wrong kind has its fault already.
                if !had {
                    self.fault(key, expected.to_string(), "nothing");
                }
                None
            }
        }
    }

    /// An integer in a range; without a default the key is required. On a fault the least value
    /// comes back, so that reading goes on.
    pub fn integer(&mut self, key: &str, range: RangeInclusive<u64>, default: Option<u64>) -> u64 {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        let had = self.has(key);
        let value = self.take_as(key, &expected, |v| {
            let n = u64::try_from(v.as_integer()?).ok()?;
            range.contains(&n).then_some(n)
        });
        self.or_missing(key, had, value, default, expected).unwrap_or(*range.start())
    }

    /// Like [`Section::integer`], for counts that are `u32` in the house.
    pub fn count(&mut self, key: &str, range: RangeInclusive<u32>, default: Option<u32>) -> u32 {
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        u32::try_from(self.integer(key, wide, default.map(u64::from))).unwrap_or(*range.end())
    }

    /// A finite number in a range (an integer will do); without a default the key is required.
    pub fn number(&mut self, key: &str, range: RangeInclusive<f64>, default: Option<f64>) -> f64 {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let had = self.has(key);
        let value = self.take_as(key, &expected, |v| {
            let n = v.as_float().or_else(|| v.as_integer().map(|i| i as f64))?;
            range.contains(&n).then_some(n)
        });
        self.or_missing(key, had, value, default, expected).unwrap_or(*range.start())
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str, default: Option<bool>) -> bool {
        let had = self.has(key);
        let value = self.take_as(key, "true or false", Value::as_bool);
        self.or_missing(key, had, value, default, "true or false").unwrap_or_default()
    }

    /// A text, if the key is there.
    pub fn optional_text(&mut self, key: &str) -> Option<String> {
        self.take_as(key, "a text in quotes", |v| v.as_str().map(str::to_owned))
    }

    /// A list of texts, if the key holds a list; any other value stays for another reading.
    pub fn optional_texts(&mut self, key: &str) -> Option<Vec<String>> {
        let list = self.table.get(key)?.as_array()?;
        let texts = list.iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect();
        self.take(key);
        Some(texts)
    }

    /// A text; without a default the key is required.
    pub fn text(&mut self, key: &str, default: Option<&str>) -> String {
        let had = self.has(key);
        let value = self.optional_text(key);
        self.or_missing(key, had, value, default.map(str::to_owned), "a text in quotes")
            .unwrap_or_default()
    }

    /// A text that parses to `T` (a name, a digest, an address); required.
    pub fn parsed<T>(&mut self, key: &str) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: Display,
    {
        if !self.has(key) {
            self.asked.push(key.to_owned());
            self.fault(key, "a text in quotes", "nothing");
            return None;
        }
        self.optional_parsed(key)
    }

    /// A text that parses to `T`, if the key is there.
    pub fn optional_parsed<T>(&mut self, key: &str) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: Display,
    {
        let text = self.optional_text(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(key, expectation(&error), format!("{text:?}"));
                None
            }
        }
    }

    /// One of a few words; without a default the key is required.
    pub fn choice<T: Clone>(
        &mut self,
        key: &str,
        words: &[(&str, T)],
        default: Option<T>,
    ) -> Option<T> {
        let list: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let expected = format!("one of {}", list.join(", "));
        let had = self.has(key);
        let value = self.take_as(key, &expected, |v| {
            let text = v.as_str()?;
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone())
        });
        self.or_missing(key, had, value, default, expected)
    }

    /// A table below this one; missing is the same as empty.
    pub fn section(&mut self, key: &str) -> Section {
        self.optional_section(key).unwrap_or_else(|| self.below(self.path_of(key), Table::new()))
    }

    /// A table below this one, if it is there.
    pub fn optional_section(&mut self, key: &str) -> Option<Section> {
        let table = self.take_as(key, "a table", |v| v.as_table().cloned())?;
        Some(self.below(self.path_of(key), table))
    }

    /// A table as a bare value, if the key holds one; any other value stays for another reading.
    pub fn optional_table(&mut self, key: &str) -> Option<Table> {
        match self.table.get(key) {
            Some(Value::Table(_)) => match self.take(key) {
                Some(Value::Table(table)) => Some(table),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the key holds a table.
    #[must_use]
    pub fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(Value::is_table)
    }

    /// A list, if it is there: each value with its path.
    pub fn optional_list(&mut self, key: &str) -> Option<Vec<(String, Value)>> {
        let list = self.take_as(key, "a list", |v| v.as_array().cloned())?;
        let path = self.path_of(key);
        Some(list.into_iter().enumerate().map(|(i, v)| (format!("{path}[{i}]"), v)).collect())
    }

    /// A table that came as a value (of a list, say), with its own path and the same list of faults.
    #[must_use]
    pub fn below(&self, path: String, table: Table) -> Section {
        Section { path, table, asked: Vec::new(), faults: self.faults.clone() }
    }

    /// Reports what stands in the table and was never asked for.
    pub fn finish(&mut self) {
        for (key, value) in std::mem::take(&mut self.table) {
            let near = nearest(&key, &self.asked);
            let expected = match near {
                Some(near) => format!("a known key (did you mean `{near}`?)"),
                None if self.asked.is_empty() => "no keys here".to_owned(),
                None => format!("one of the keys {}", self.asked.join(", ")),
            };
            self.fault(&key, expected, format!("`{key}` = {}", show(&value)));
        }
    }
}

/// A value as a person wrote it.
#[must_use]
pub fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Table(_) => "a table".to_owned(),
        Value::Array(list) => format!("a list of {}", list.len()),
        other => other.to_string(),
    }
}

/// Errors of the house say `expected X, found Y`; a fault has its own `found`.
fn expectation(error: &impl Display) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("expected ").unwrap_or(&text);
    text.rsplit_once(", found").map_or(text, |(expected, _)| expected).to_owned()
}

fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    let best = known.iter().map(|k| (edit_distance(key, k), k)).min()?;
    (best.0 <= 2 && best.0 < key.len()).then_some(best.1.as_str())
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::read_document;

    #[test]
    fn all_faults_come_at_once_with_their_paths() {
        let text = "ronds = 3\n[a]\nx = \"no\"\ny = 70\n";
        let faults = read_document(text, 1000, |root| {
            root.integer("rounds", 1..=10, None);
            let mut a = root.section("a");
            a.integer("x", 0..=9, Some(1));
            a.number("y", 0.0..=1.0, None);
            a.finish();
        })
        .expect_err("four faults");
        let lines: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "rounds: expected an integer from 1 to 10, found nothing",
                "a.x: expected an integer from 0 to 9, found \"no\"",
                "a.y: expected a number from 0 to 1, found 70",
                "ronds: expected a known key (did you mean `rounds`?), found `ronds` = 3",
            ]
        );
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let faults = read_document("a = 1\nb = = 2\n", 1000, |_| ()).expect_err("syntax");
        assert_eq!(faults.0[0].path, "line 2");
        let faults = read_document("a = 1", 3, |_| ()).expect_err("long");
        assert!(faults.to_string().contains("at most 3 bytes"));
    }
}
