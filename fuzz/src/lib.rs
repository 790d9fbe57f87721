//! Fuzzing on a stable compiler: every parser of a stranger's bytes as a plain function, driven by
//! mutations of small files.
//!
//! A [`Target`] takes any bytes and says whether it takes them for what they should be. It must not
//! panic, hang, or take much memory; [`driver`] tries it and names the input that made it. The files
//! that mutations begin from are in `corpus/TARGET/`: `good-…` ones are accepted, and `bad-…` ones were
//! findings once.

pub mod corpus;
pub mod driver;
pub mod mutation;
pub mod targets;

use std::path::Path;

/// What a target makes of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is what it should be.
    Accepted,
    /// It is refused, with an error.
    Refused,
}

impl Verdict {
    /// Of a parser's answer.
    pub fn of<T, E>(answer: &Result<T, E>) -> Self {
        match answer {
            Ok(_) => Self::Accepted,
            Err(_) => Self::Refused,
        }
    }
}

/// Something that reads a stranger's bytes. `run` may write in the folder, which is its own.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and its folder's in the corpus.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8], &Path) -> Verdict,
    /// What a mutation may put anywhere: the format's own words.
    pub words: &'static [&'static str],
}
