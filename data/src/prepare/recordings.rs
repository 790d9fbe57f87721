//! A tar of recordings as wav files and two indexes, by what their names say: `7_theo_12.wav` is
//! `{label}_{client}_{index}`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::archive::each_file;
use super::{Prepared, make_folder, write_whole};
use crate::file::malformed;
use crate::{DataError, Place};

/// Where the recordings are put, below the folder that is made.
const RECORDINGS: &str = "recordings";
/// The indexes that are made.
const TRAIN: &str = "train.csv";
const EVALUATE: &str = "evaluate.csv";

/// What a name says of a recording: fields in braces with other characters between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Field(Field),
    Other(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Label,
    Client,
    Index,
    Ignored,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a pattern such as {{label}}_{{client}}_{{index}} of {{label}}, {{client}}, {{index}} \
     and {{}} with other characters between them, {{label}} among them, found `{0}`"
)]
pub struct PatternError(String);

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError(text.chars().take(60).collect());
        let (mut parts, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let part = if let Some(inner) = rest.strip_prefix('{') {
                let (name, after) = inner.split_once('}').ok_or_else(wrong)?;
                rest = after;
                Part::Field(match name {
                    "label" => Field::Label,
                    "client" => Field::Client,
                    "index" => Field::Index,
                    "" => Field::Ignored,
                    _ => return Err(wrong()),
                })
            } else {
                let end = rest.find('{').unwrap_or(rest.len());
                let (other, after) = rest.split_at(end);
                rest = after;
                Part::Other(other.to_owned())
            };
            let beside = matches!((parts.last(), &part), (Some(Part::Field(_)), Part::Field(_)));
            if beside {
                return Err(wrong());
            }
            parts.push(part);
        }
        if parts.contains(&Part::Field(Field::Label)) { Ok(Self(parts)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Field(Field::Label) => f.write_str("{label}"),
            Part::Field(Field::Client) => f.write_str("{client}"),
            Part::Field(Field::Index) => f.write_str("{index}"),
            Part::Field(Field::Ignored) => f.write_str("{}"),
            Part::Other(text) => f.write_str(text),
        })
    }
}

/// What a name said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said<'a> {
    label: &'a str,
    client: &'a str,
    index: Option<u64>,
}

impl Pattern {
    /// Takes a name apart; none where it does not fit.
    fn read<'a>(&self, name: &'a str) -> Option<Said<'a>> {
        let (mut said, mut rest) = (Said::default(), name);
        for (at, part) in self.0.iter().enumerate() {
            let field = match part {
                Part::Other(text) => {
                    rest = rest.strip_prefix(text.as_str())?;
                    continue;
                }
                Part::Field(field) => field,
            };
            let end = match self.0.get(at + 1) {
                Some(Part::Other(text)) => rest.find(text.as_str())?,
                _ => rest.len(),
            };
            let (value, after) = rest.split_at(end);
            if value.is_empty() {
                return None;
            }
            rest = after;
            match field {
                Field::Label => said.label = value,
                Field::Client => said.client = value,
                Field::Index => said.index = Some(value.parse().ok()?),
                Field::Ignored => {}
            }
        }
        rest.is_empty().then_some(said)
    }
}

/// How recordings are sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingOptions {
    /// What names say, without `.wav`.
    pub pattern: Pattern,
    /// Recordings with a smaller index are for evaluation.
    pub evaluate_below: u64,
}

/// Makes `recordings/*.wav`, `train.csv` and `evaluate.csv` in a folder; the indexes have the
/// columns `file`, `label` and `client`, for `format = "wav"`.
///
/// # Errors
/// On a damaged archive, on a name that does not fit the pattern, and when the folder cannot be
/// written to.
pub fn prepare_recordings(
    archive: &Path,
    folder: &Path,
    options: &RecordingOptions,
) -> Result<Prepared, DataError> {
    let into = folder.join(RECORDINGS);
    make_folder(&into)?;
    let (mut train, mut evaluate) = (BTreeSet::new(), BTreeSet::new());
    let (mut clients, mut skipped) = (BTreeSet::new(), 0);
    each_file(archive, |name, bytes| {
        let Some(stem) = name.strip_suffix(".wav").filter(|_| !name.starts_with('.')) else {
            skipped += 1;
            return Ok(());
        };
        let said = options.pattern.read(stem).ok_or_else(|| {
            let expected = format!("a name as {}.wav", options.pattern);
            let advice = "give the pattern of the archive's names";
            malformed(archive, Place::Entry(name.to_owned()), expected, name, advice)
        })?;
        write_whole(&into.join(name), &bytes)?;
        let fields = [&format!("{RECORDINGS}/{name}"), said.label, said.client].map(quoted);
        clients.insert(said.client.to_owned());
        let scored = said.index.is_some_and(|index| index < options.evaluate_below);
        let row = fields.join(",") + "\n";
        let new = if scored { evaluate.insert(row) } else { train.insert(row) };
        if new {
            return Ok(());
        }
        let advice = "make an archive without double names";
        let place = Place::Entry(name.to_owned());
        Err(malformed(archive, place, "each name once", "it again", advice))
    })?;
    let mut prepared = Prepared {
        files: Vec::new(),
        train_rows: train.len(),
        evaluate_rows: evaluate.len(),
        clients: clients.len(),
        skipped,
    };
    for (name, rows) in [(TRAIN, train), (EVALUATE, evaluate)] {
        if !rows.is_empty() {
            let path = folder.join(name);
            let text = "file,label,client\n".to_owned() + &rows.into_iter().collect::<String>();
            write_whole(&path, text.as_bytes())?;
            prepared.files.push(path);
        }
    }
    Ok(prepared)
}

/// A field of delimited text, in quotes where it needs them.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
