//! What a site would contribute, as a small table for a person; nothing of it leaves the machine.

use std::fmt;

use tributary_core::spec::data::{DataKind, Target};

use super::batch::Inputs;
use super::error::listed;
use super::loaded::Notes;
use super::open::Opened;
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
    /// The shape of one.
    pub shape: Vec<usize>,
    /// What is predicted.
    pub target: Target,
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
    /// What was noticed while reading; for held-out rows, see those that they were taken from.
    pub notes: Option<Notes>,
}

/// A site's data set in numbers; its `Display` is the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// What the rows are.
    pub kind: DataKind,
    /// Rows to train on.
    pub train: Option<PartSummary>,
    /// Rows that are only ever scored.
    pub evaluate: Option<PartSummary>,
}

impl Summary {
    pub(crate) fn of(opened: &Opened) -> Result<Self, DataError> {
        let part = |data: &Option<Dataset>, notes: &Option<Notes>| {
            data.as_ref().map(|data| PartSummary::of(data, notes.clone())).transpose()
        };
        Ok(Self {
            kind: opened.kind,
            train: part(&opened.train, &opened.notes.train)?,
            evaluate: part(&opened.evaluate, &opened.notes.evaluate)?,
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
            shape: data.shape().to_vec(),
            target: target_of(data),
            class_counts,
            vocabulary: data.vocabulary(),
            clients,
            range,
            lengths,
            notes,
        })
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
        writeln!(f, "  rows        {}", self.rows)?;
        writeln!(f, "  shape       {:?}", self.shape)?;
        writeln!(f, "  target      {}", self.target.phrase())?;
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
            write_notes(f, notes)?;
        }
        Ok(())
    }
}

fn write_notes(f: &mut fmt::Formatter<'_>, notes: &Notes) -> fmt::Result {
    if notes.missing.is_empty() {
        writeln!(f, "  missing     none")?;
    } else {
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
        writeln!(f, "kind          {}", self.kind.word())?;
        for (name, part) in [("train", &self.train), ("evaluate", &self.evaluate)] {
            match part {
                Some(part) => write!(f, "{name}\n{part}")?,
                None => writeln!(f, "{name}\n  rows        none")?,
            }
        }
        Ok(())
    }
}
