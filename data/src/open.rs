//! Opening a site's data set: its files read, clients numbered, rows held out, and everything
//! compared with what is wanted.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tributary_core::binding::Binding;
use tributary_core::spec::data::DataKind;

use super::array::{ArrayConfig, ArrayTarget};
use super::clients::{Clients, Whose, distinct_files, read_groups, stem};
use super::config::{CifarFiles, Format, IdxFiles, Parts, SourceConfig, WavConfig};
use super::images::Frame;
use super::label::LabelMap;
use super::loaded::{Loaded, Notes};
use super::normalise::Normalise;
use super::rows::Column;
use super::split::split;
use super::store::Room;
use super::summary::Summary;
use super::table::{Feature, TableColumns, TableTarget};
use super::text::{Steps, TextColumns};
use super::token::Tokens;
use super::wav::{Layout, Recordings};
use super::{DataError, Dataset, Wanted, array, cifar, idx, images, table, text, wav};

/// Most examples that a client may announce: 2^29, the bound of the exact sums.
const EXAMPLES_MAX: u64 = 1 << 29;

/// A site's data, read.
#[derive(Debug, Clone)]
pub struct Opened {
    /// What the rows are.
    pub kind: DataKind,
    /// Rows to train on.
    pub train: Option<Dataset>,
    /// Rows that are only ever scored.
    pub evaluate: Option<Dataset>,
    /// The names of the clients whose rows these are; a data set's writers are positions in it.
    pub clients: Vec<String>,
    /// What was noticed while reading.
    pub notes: Parts<Notes>,
}

impl Opened {
    /// What the site would contribute, for a person to look at.
    ///
    /// # Errors
    /// None that a sound data set has.
    pub fn summary(&self) -> Result<Summary, DataError> {
        Summary::of(self)
    }

    /// What the coordinator hears of the data under a name: the kind, counts and sizes.
    #[must_use]
    pub fn binding(&self, name: &str) -> Binding {
        let first = self.train.as_ref().or(self.evaluate.as_ref());
        let rows = |data: &Option<Dataset>| data.as_ref().map_or(0, |data| data.len() as u64);
        // Sizes and widths are bounded far below u32.
        let narrow = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        Binding {
            name: name.to_owned(),
            kind: self.kind.word().to_owned(),
            classes: first.map_or(0, Dataset::classes),
            targets: first.map_or(0, |data| narrow(data.width())),
            vocabulary: first.map_or(0, Dataset::vocabulary),
            shape: first.map_or(&[][..], Dataset::shape).iter().copied().map(narrow).collect(),
            train_examples: rows(&self.train),
            evaluate_examples: rows(&self.evaluate),
        }
    }

    /// The bindings of data that a job says how to read: their counts, and nothing that the job
    /// decides; one for each kind that they may be. A shape without sizes means as much; see
    /// [`Binding`]. Where a job decides how long windows of text are, the counts are the most that
    /// there may be.
    #[must_use]
    pub fn open_bindings(&self, name: &str, format: &Format) -> Vec<Binding> {
        let decided = format.classes().unwrap_or(0);
        let mut open = Binding {
            classes: decided,
            targets: 0,
            vocabulary: 0,
            shape: Vec::new(),
            ..self.binding(name)
        };
        let most = |notes: &Option<Notes>| notes.as_ref().and_then(|notes| notes.rows_most);
        if let Some(most) = most(&self.notes.train) {
            open.train_examples = most.min(EXAMPLES_MAX);
            // Which part is held out is known when there are rows.
            open.evaluate_examples = open.evaluate_examples.min(1) * open.train_examples;
        }
        if let Some(most) = most(&self.notes.evaluate) {
            open.evaluate_examples = most.min(EXAMPLES_MAX);
        }
        let kinds: &[DataKind] = match format {
            Format::Wav(config) if config.layout.is_none() => &[DataKind::Series, DataKind::Image],
            _ => &[self.kind],
        };
        kinds.iter().map(|kind| Binding { kind: kind.word().to_owned(), ..open.clone() }).collect()
    }

    /// Whether every file is still what it was when it was read.
    ///
    /// # Errors
    /// [`DataError::Changed`] for the first that is not, [`DataError::Read`] for one that is gone.
    pub fn verify(&self) -> Result<(), DataError> {
        let parts = [&self.notes.train, &self.notes.evaluate];
        parts.into_iter().flatten().flat_map(|notes| &notes.files).try_for_each(|s| s.verify())
    }
}

/// Reads what a site's `[data]` table names.
///
/// # Errors
/// On everything that is wrong with the files, each error with the file, the place, what was
/// expected, what came and what to do; and where the data are not what is wanted.
pub fn open(config: &SourceConfig, wanted: &Wanted) -> Result<Opened, DataError> {
    config.check_shared(wanted)?;
    if let (Some(own), Some(job)) = (&config.normalise, &wanted.normalise)
        && own != job
    {
        let shown = |by: &Normalise| format!("mean {:?}, deviation {:?}", by.mean, by.deviation);
        return Err(DataError::Unfit {
            what: "normalisation",
            expected: format!("the job's: {}", shown(job)),
            found: shown(own),
            advice: "take [data.normalise] out, so that the job's is used".into(),
        });
    }
    let normalise = config.normalise.as_ref().or(wanted.normalise.as_ref());
    let reader = Reader { wanted, normalise, room: &config.room };
    let parts = reader.read(&config.format)?;
    let names: BTreeSet<&String> = [&parts.train, &parts.evaluate]
        .into_iter()
        .flatten()
        .filter_map(|loaded| loaded.clients.as_ref())
        .flat_map(Clients::names)
        .collect();
    let clients: Vec<String> = names.into_iter().cloned().collect();
    let keep = config.client.as_ref().map(|name| chosen(name, &clients)).transpose()?;
    let (train, train_notes) = finish(parts.train, &clients, keep, "rows to train on")?;
    let (evaluate, evaluate_notes) = finish(parts.evaluate, &clients, keep, "rows to evaluate on")?;
    let is_open = train_notes.as_ref().is_some_and(|notes| notes.rows_most.is_some());
    let (train, evaluate) = match (train, &config.validation) {
        // The windows are not known yet: any of them may be held out.
        (Some(train), Some(_)) if is_open => (Some(train.clone()), Some(train)),
        (Some(train), Some(how)) if evaluate.is_none() => {
            let (train, held) = split(&train, how)?;
            (Some(train), Some(held))
        }
        (train, _) => (train, evaluate),
    };
    let (train, evaluate) = config.kept(train, evaluate)?;
    let first = train.as_ref().or(evaluate.as_ref());
    let axes = first.map_or(0, |data| data.shape().len());
    let kind = config.format.kind().unwrap_or(match (&config.format, axes) {
        (_, 3) => DataKind::Image,
        (Format::Arrays { .. }, 1) => DataKind::Table,
        _ => DataKind::Series,
    });
    for data in [&train, &evaluate].into_iter().flatten() {
        wanted.check(kind, data)?;
    }
    let notes = Parts { train: train_notes, evaluate: evaluate_notes };
    Ok(Opened { kind, train, evaluate, clients, notes })
}

/// The number of the one client whose rows are kept.
fn chosen(name: &String, clients: &[String]) -> Result<u32, DataError> {
    let at = clients.binary_search(name).map_err(|_| DataError::Unfit {
        what: "list of clients",
        expected: "the client that [data] names".to_owned(),
        // Who the rows are of stays with the site.
        found: format!("{} others", clients.len()),
        advice: "correct `client` in [data], or name a `client_column`".into(),
    })?;
    // Clients are bounded far below u32.
    Ok(at as u32)
}

type Finished = (Option<Dataset>, Option<Notes>);

/// Numbers the rows' clients, and keeps those of one where that is asked for.
fn finish(
    loaded: Option<Loaded>,
    names: &[String],
    keep: Option<u32>,
    what: &'static str,
) -> Result<Finished, DataError> {
    let Some(Loaded { data, clients, notes }) = loaded else { return Ok((None, None)) };
    let data = match &clients {
        Some(clients) => data.with_writers(clients.renumbered(names))?,
        None => data,
    };
    let Some(keep) = keep else { return Ok((Some(data), Some(notes))) };
    let writers = data.writers().ok_or_else(|| DataError::Unfit {
        what: "list of clients",
        expected: format!("the clients of the {what}"),
        found: "rows of unknown clients".to_owned(),
        advice: "name a `client_column` or a group file for them, or take `client` out of [data]"
            .into(),
    })?;
    let mine = writers.iter().enumerate().filter(|(_, writer)| **writer == keep);
    let mine: Vec<usize> = mine.map(|(at, _)| at).collect();
    let data = data.subset(&mine)?;
    Ok(((!data.is_empty()).then_some(data), Some(notes)))
}

fn both<T>(
    parts: &Parts<T>,
    mut read: impl FnMut(&T) -> Result<Loaded, DataError>,
) -> Result<Parts<Loaded>, DataError> {
    let train = parts.train.as_ref().map(&mut read).transpose()?;
    Ok(Parts { train, evaluate: parts.evaluate.as_ref().map(read).transpose()? })
}

/// Where each file is one client's, its name must be its own among those of its part.
fn both_files(parts: &Parts<Vec<PathBuf>>) -> Result<(), DataError> {
    let each = |files: &Vec<PathBuf>| distinct_files(files, stem);
    [&parts.train, &parts.evaluate].into_iter().flatten().try_for_each(each)
}

/// Reads parts of one format.
struct Reader<'a> {
    wanted: &'a Wanted,
    normalise: Option<&'a Normalise>,
    room: &'a Room,
}

impl Reader<'_> {
    fn read(&self, format: &Format) -> Result<Parts<Loaded>, DataError> {
        let shape = self.wanted.shape.as_deref();
        match format {
            Format::Idx { parts, classes, client } => {
                let labels = LabelMap::Numbers { classes: *classes, first: 0 };
                let classes = labels.resolved(self.wanted)?.classes();
                both(parts, |files| self.idx(files, classes, client.as_ref()))
            }
            Format::Cifar { parts, variant, client } => both(parts, |files: &CifarFiles| {
                let loaded = cifar::load(&files.files, *variant, self.normalise, self.room)?;
                let first = files.files.first().cloned().unwrap_or_default();
                grouped(loaded, files.groups.as_ref(), client.as_ref(), &first)
            }),
            Format::Images { parts, labels, channels, size } => {
                let labels = labels.resolved(self.wanted)?;
                let counted = self.wanted.counting.then_some(&[3, 1, 1][..]);
                let frame = Frame::of(*channels, *size, shape.or(counted));
                both(parts, |listing| {
                    images::load(listing, &labels, frame, self.normalise, self.room)
                })
            }
            Format::Table { parts, rows, columns } => {
                let mut columns = self.table_columns(columns)?;
                let mut features: Option<Vec<Feature>> = None;
                if matches!(columns.client, Some(Whose::File)) {
                    both_files(parts)?;
                }
                both(parts, |files| {
                    // Where nobody lists features, the first part's order is the other's too.
                    if columns.features.is_none() {
                        columns.features.clone_from(&features);
                    }
                    let read = table::load(rows, files, &columns, self.normalise, self.room)?;
                    features = Some(read.1);
                    Ok(read.0)
                })
            }
            Format::TextRows(config) => {
                let steps = self.steps(config.steps, config.columns.label.is_none())?;
                let tokens = Tokens::open(&config.tokens, self.wanted)?;
                let label = config.columns.label.as_ref();
                let label = label.map(|(c, map)| Ok((c.clone(), map.resolved(self.wanted)?)));
                let columns = TextColumns { label: label.transpose()?, ..config.columns.clone() };
                if matches!(columns.client, Some(Whose::File)) {
                    both_files(&config.parts)?;
                }
                both(&config.parts, |files| {
                    text::load_rows(&config.rows, files, &columns, &tokens, steps, self.room)
                })
            }
            Format::Text { parts, tokens, steps } => {
                let steps = self.steps(*steps, true)?;
                let tokens = Tokens::open(tokens, self.wanted)?;
                both(parts, |files| text::load_files(files, &tokens, steps, self.room))
            }
            Format::Arrays { parts, .. } => both(parts, |config| self.array(config)),
            Format::Wav(config) => self.wav(config),
        }
    }

    fn idx(
        &self,
        files: &IdxFiles,
        classes: u32,
        client: Option<&Column>,
    ) -> Result<Loaded, DataError> {
        let room = self.room;
        let loaded = idx::load(&files.images, &files.labels, classes, self.normalise, room)?;
        grouped(loaded, files.groups.as_ref(), client, &files.images)
    }

    fn table_columns(&self, columns: &TableColumns) -> Result<TableColumns, DataError> {
        let mut columns = if columns.by_job && self.wanted.counting {
            // Rows are counted by what is known: their labels and clients.
            TableColumns { features: Some(Vec::new()), ..columns.clone() }
        } else {
            columns.listed(self.wanted.features.as_deref())?
        };
        let mut features = columns.features.iter().flatten();
        let scaled = features.any(|feature| feature.reading.is_scaled());
        if scaled && self.normalise.is_some() {
            return Err(DataError::Unfit {
                what: "normalisation",
                expected: "one set of constants".to_owned(),
                found: "`mean` and `deviation` of features, and `normalise` beside them".to_owned(),
                advice: "take one of them out of [data] or of the job".into(),
            });
        }
        if let TableTarget::Label(_, map) = &mut columns.target {
            *map = map.resolved(self.wanted)?;
        }
        Ok(columns)
    }

    fn array(&self, config: &ArrayConfig) -> Result<Loaded, DataError> {
        let mut config = config.clone();
        if let ArrayTarget::Labels(_, map) = &mut config.target {
            *map = map.resolved(self.wanted)?;
        }
        array::load(&config, self.normalise, self.room)
    }

    fn wav(&self, config: &WavConfig) -> Result<Parts<Loaded>, DataError> {
        let (layout, steps) = wav_frame(config, self.wanted.shape.as_deref());
        let steps = steps.or(self.wanted.counting.then_some(1)).ok_or_else(no_steps)?;
        let labels = config.labels.resolved(self.wanted)?;
        let recordings = Recordings { mel: config.mel, steps, layout };
        both(&config.parts, |listing| {
            wav::load(listing, &labels, &recordings, self.normalise, self.room)
        })
    }

    /// The steps of texts: the site's, else the job's.
    fn steps(&self, configured: Option<usize>, windows: bool) -> Result<Steps, DataError> {
        let wanted = match self.wanted.shape.as_deref() {
            Some(&[steps]) => Some(steps),
            // A text with a class is one row, however long.
            None if self.wanted.counting && !windows => Some(1),
            None if self.wanted.counting && configured.is_none() => return Ok(Steps::Open),
            _ => None,
        };
        configured.or(wanted).filter(|&steps| steps > 0).map(Steps::Of).ok_or_else(no_steps)
    }
}

/// How recordings lie and how many steps they have: as configured, else as the job's shape says.
pub(crate) fn wav_frame(config: &WavConfig, shape: Option<&[usize]>) -> (Layout, Option<usize>) {
    let mels = config.mel.mels;
    let layout = config.layout.unwrap_or(match shape {
        Some([1, _, _]) => Layout::Picture,
        Some(&[first, second]) if first == mels && second != mels => Layout::Channels,
        _ => Layout::Steps,
    });
    let steps = match (config.steps, layout, shape) {
        (Some(steps), _, _) => Some(steps),
        (None, Layout::Picture, Some(&[_, _, steps])) => Some(steps),
        (None, Layout::Channels, Some(&[_, steps])) => Some(steps),
        (None, Layout::Steps, Some(&[steps, _])) => Some(steps),
        _ => None,
    };
    (layout, steps)
}

fn no_steps() -> DataError {
    DataError::Unfit {
        what: "length",
        expected: "a number of steps from the job or the configuration".to_owned(),
        found: "none".to_owned(),
        advice: "give `steps` in [data]".into(),
    }
}

/// Adds the clients of a group file.
fn grouped(
    mut loaded: Loaded,
    groups: Option<&PathBuf>,
    column: Option<&Column>,
    rows_of: &std::path::Path,
) -> Result<Loaded, DataError> {
    if let Some(groups) = groups {
        let (clients, stamp) = read_groups(groups, column, loaded.data.len(), rows_of)?;
        loaded.clients = Some(clients);
        loaded.notes.files.push(stamp);
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests;
