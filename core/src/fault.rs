//! Faults of a document: where, what was expected, what came. They are collected, never one at a
//! time, so that a person mends a file once.

use std::fmt;

/// One thing that is wrong in an input document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is, in the words of the document: `cohort.min_updates`, `model.layers[3].conv2d.out`.
    pub path: String,
    /// What would have been right, with what to do where that helps.
    pub expected: String,
    /// What stands there, shortened; `nothing` where the key is missing.
    pub found: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.path, self.expected, self.found)
    }
}

/// All faults of one document; as an error it prints one line a fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Adds a fault; `found` is shortened to a readable length.
    pub fn add(
        &mut self,
        path: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        let found = shorten(found.into());
        self.0.push(Fault { path: path.into(), expected: expected.into(), found });
    }

    /// `Ok(value)` where nothing is wrong, else all the faults.
    pub fn or_ok<T>(self, value: T) -> Result<T, Faults> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "fault" } else { "faults" };
        write!(f, "{} {noun}", self.0.len())?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Longest excerpt of somebody's input that a message repeats.
const FOUND_CHARS_MAX: usize = 80;

fn shorten(text: String) -> String {
    if text.chars().count() <= FOUND_CHARS_MAX {
        return text;
    }
    let head: String = text.chars().take(FOUND_CHARS_MAX - 1).collect();
    format!("{head}…")
}
