//! What a site would contribute, as a small table for a person; nothing of it leaves the machine. Where
//! a job says how rows are read and none is there, only what the files themselves say is told.

use std::fmt;

use tributary_core::spec::data::{CLASSES_MAX, DataKind, Target};

use super::batch::Inputs;
use super::config::{Left, SourceConfig};
use super::error::listed;
use super::loaded::Notes;
use super::open::Opened;
use super::sums::{TokenCounts, label_counts, token_counts};
use super::wanted::target_of;
use super::{DataError, Dataset};

/// Values that are looked at together: 4 MiB.
const VALUES_AT_ONCE: usize = 1 << 20;
/// Classes that the printed table shows.
const CLASSES_SHOWN: usize = 20;

/// One part of a data set in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct PartSummary {
    /// How many rows.
    pub rows: usize,
    /// Whether these are at most so many, as a job says how long the windows of texts are.
    pub at_most: bool,
    /// The shape of one; none where a job says it.
    pub shape: Option<Vec<usize>>,
    /// What is predicted; none where a job says it.
    pub target: Option<Target>,
    /// Rows of each class, classes without rows too; empty where there are no classes.
    pub class_counts: Vec<u64>,
    /// Tokens are below this; 0 where there are none.
    pub vocabulary: u32,
    /// How many clients the rows are of; none where that is not known.
    pub clients: Option<usize>,
    /// The least and the greatest value; none for texts.
    pub range: Option<(f32, f32)>,
    /// The shortest and the longest example in steps; none where all are as long as the shape.
    pub lengths: Option<(u32, u32)>,
    /// Whether features were read, so that their missing values were seen.
    pub read_features: bool,
    /// What was noticed while reading; for held-out rows, see those that they were taken from.
    pub notes: Option<Notes>,
}

/// A site's data set in numbers; its `Display` is the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// What the rows are; none where a job says it.
    pub kind: Option<DataKind>,
    /// Rows to train on.
    pub train: Option<PartSummary>,
    /// Rows that are only ever scored.
    pub evaluate: Option<PartSummary>,
    /// What a job must still say.
    pub left: Left,
    /// The labels of the rows to train on as they are written, where a job says what they mean.
    pub labels: Option<Found>,
    /// How many different tokens the texts to train on have, where a job gives the list.
    pub tokens: Option<usize>,
}

/// Names that stand in files: the first few by their bytes, and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// At most as many as a job may have classes.
    pub names: Vec<String>,
    /// How many more.
    pub more: usize,
}

impl Found {
    fn of(counts: TokenCounts) -> Self {
        let mut names = counts.into_tokens();
        names.retain(|name| !name.is_empty());
        let more = names.len().saturating_sub(CLASSES_MAX as usize);
        names.truncate(CLASSES_MAX as usize);
        Self { names, more }
    }
}

impl Summary {
    pub(crate) fn of(opened: &Opened) -> Result<Self, DataError> {
        let part = |data: &Option<Dataset>, notes: &Option<Notes>| {
            data.as_ref().map(|data| PartSummary::of(data, notes.clone())).transpose()
        };
        Ok(Self {
            kind: Some(opened.kind),
            train: part(&opened.train, &opened.notes.train)?,
            evaluate: part(&opened.evaluate, &opened.notes.evaluate)?,
            left: Left::default(),
            labels: None,
            tokens: None,
        })
    }

    /// What a site's files say of rows that were only counted ([`Wanted::count`](super::Wanted::count)).
    ///
    /// # Errors
    /// On files that cannot be read again for their labels and tokens.
    pub fn of_files(opened: &Opened, config: &SourceConfig) -> Result<Self, DataError> {
        let left = config.format.left_to_job();
        let counted = Self::of(opened)?;
        let part = |part: Option<PartSummary>| part.map(|part| part.without(left));
        let (train, mut evaluate) = (part(counted.train), part(counted.evaluate));
        if let (Some(train), Some(held), None) = (&train, &mut evaluate, &opened.notes.evaluate)
            && train.at_most
        {
            // Which windows are held out is known when there are windows.
            (held.rows, held.at_most) = (train.rows, true);
        }
        // The labels of arrays are numbers, which a job counts from 0 unless [data] says more.
        let labels = opened.train.is_some() && left.classes && !config.format.is_arrays();
        Ok(Self {
            kind: counted.kind.filter(|_| !left.kind),
            train,
            evaluate,
            left,
            labels: labels.then(|| label_counts(config).map(Found::of)).transpose()?,
            tokens: (opened.train.is_some() && left.tokens)
                .then(|| token_counts(config).map(|counts| counts.iter().count()))
                .transpose()?,
        })
    }
}

impl PartSummary {
    /// Counts a data set.
    ///
    /// # Errors
    /// None that a sound data set has.
    pub fn of(data: &Dataset, notes: Option<Notes>) -> Result<Self, DataError> {
        let mut class_counts = vec![0_u64; data.classes() as usize];
        for label in data.labels().unwrap_or_default() {
            class_counts[label as usize] += 1;
        }
        let clients = data.writers().map(|mut writers| {
            writers.sort_unstable();
            writers.dedup();
            writers.len()
        });
        let mut range: Option<(f32, f32)> = None;
        let mut lengths: Option<(u32, u32)> = None;
        let rows: Vec<usize> = (0..data.len()).collect();
        let size: usize = data.shape().iter().product();
        for some in rows.chunks((VALUES_AT_ONCE / size.max(1)).max(1)) {
            let batch = data.gather(some)?;
            if let Inputs::Floats(values) = &batch.inputs {
                for &value in values {
                    let (least, most) = range.unwrap_or((value, value));
                    range = Some((least.min(value), most.max(value)));
                }
            }
            for &length in &batch.lengths {
                let (least, most) = lengths.unwrap_or((length, length));
                lengths = Some((least.min(length), most.max(length)));
            }
        }
        Ok(Self {
            rows: data.len(),
            at_most: false,
            shape: Some(data.shape().to_vec()),
            target: Some(target_of(data)),
            class_counts,
            vocabulary: data.vocabulary(),
            clients,
            range,
            lengths,
            read_features: true,
            notes,
        })
    }

    /// The same without what a job says: what stands in its place is no measurement.
    fn without(mut self, left: Left) -> Self {
        let most = self.notes.as_ref().and_then(|notes| notes.rows_most);
        if let Some(most) = most {
            self.rows = usize::try_from(most).unwrap_or(usize::MAX);
        }
        self.at_most = most.is_some();
        if left.classes {
            self.target = None;
            self.class_counts.clear();
        }
        if left.tokens {
            self.vocabulary = 0;
        }
        self.read_features = !left.columns;
        if left.sizes || left.columns {
            (self.shape, self.range, self.lengths) = (None, None, None);
        }
        if let Some(notes) = &mut self.notes {
            if left.tokens {
                notes.unknown_tokens = 0;
            }
            if left.sizes {
                notes.cut_rows = 0;
            }
        }
        self
    }

    /// Classes that no row has.
    #[must_use]
    pub fn absent_classes(&self) -> Vec<usize> {
        let counts = self.class_counts.iter().enumerate();
        counts.filter(|(_, count)| **count == 0).map(|(class, _)| class).collect()
    }
}

impl fmt::Display for PartSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.at_most { "at most " } else { "" };
        writeln!(f, "  rows        {most}{}", self.rows)?;
        if let Some(shape) = &self.shape {
            writeln!(f, "  shape       {shape:?}")?;
        }
        if let Some(target) = self.target {
            writeln!(f, "  target      {}", target.phrase())?;
        }
        if !self.class_counts.is_empty() {
            let counts = self.class_counts.iter().enumerate().take(CLASSES_SHOWN);
            let counts: Vec<String> = counts.map(|(c, count)| format!("{c}: {count}")).collect();
            let more = self.class_counts.len().saturating_sub(CLASSES_SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(f, "  classes     {}{more}", counts.join("  "))?;
        }
        let absent = self.absent_classes();
        if !absent.is_empty() {
            writeln!(f, "  no rows of  {} (other sites may have them)", listed(&absent))?;
        }
        if self.vocabulary > 0 {
            writeln!(f, "  vocabulary  {}", self.vocabulary)?;
        }
        if let Some(clients) = self.clients {
            writeln!(f, "  clients     {clients}")?;
        }
        if let Some((least, most)) = self.range {
            writeln!(f, "  range       {least} to {most}")?;
        }
        if let Some((least, most)) = self.lengths {
            writeln!(f, "  lengths     {least} to {most} steps where not full")?;
        }
        if let Some(notes) = &self.notes {
            write_notes(f, notes, self.read_features)?;
        }
        Ok(())
    }
}

fn write_notes(f: &mut fmt::Formatter<'_>, notes: &Notes, read_features: bool) -> fmt::Result {
    if notes.missing.is_empty() && read_features {
        writeln!(f, "  missing     none")?;
    } else if read_features {
        let columns = notes.missing.iter().map(|(column, count)| format!("{column}: {count}"));
        writeln!(f, "  missing     {}", listed(&columns.collect::<Vec<_>>()))?;
    }
    for (what, count) in [
        ("left out    rows with a missing value", notes.dropped_rows),
        ("cut         rows longer than the steps", notes.cut_rows),
        ("unknown     tokens", notes.unknown_tokens),
        ("skipped     files of other endings", notes.skipped_files),
    ] {
        if count > 0 {
            writeln!(f, "  {what}: {count}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.kind {
            writeln!(f, "kind          {}", kind.word())?;
        }
        for (name, part) in [("train", &self.train), ("evaluate", &self.evaluate)] {
            match part {
                Some(part) => write!(f, "{name}\n{part}")?,
                None => writeln!(f, "{name}\n  rows        none")?,
            }
        }
        if let Some(Found { names, more }) = &self.labels {
            let more = if *more > 0 { format!(", {more} beyond") } else { String::new() };
            writeln!(f, "labels        {}{more}, as they are written", listed(names))?;
        }
        if let Some(tokens) = self.tokens {
            writeln!(f, "tokens        {tokens} different ones to train on")?;
        }
        if self.left.any() {
            writeln!(f, "a job says    {}", self.left.words().join(", "))?;
        }
        Ok(())
    }
}
