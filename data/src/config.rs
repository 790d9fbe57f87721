//! A site's `[data]` table: which format, which files, which columns. Paths stay at the site.
//!
//! ```toml
//! [data]
//! format = "idx"
//! classes = 10
//! images = "train-images.gz"        # evaluate_images, evaluate_labels
//! labels = "train-labels.gz"
//! group_file = "qmnist-labels.gz"   # whose row each is: a table of QMNIST (writers as `02345`),
//!                                   # or delimited text with a client_column
//! ```
//!
//! Data that are larger than memory need no key; three say what that is:
//!
//! ```toml
//! memory_mb = 1024                  # of each part: more than that lies in a scratch file
//! scratch_dir = "/var/tmp"          # below the state folder unless given
//! scratch_mb = 65536                # most of a scratch file
//! ```
//!
//! The keys of the other formats stand at the head of the module that reads them: tables and rows,
//! texts, arrays, files. Any format may have `client`, `[data.normalise]` and
//! `validation_fraction` with `validation_seed` and `validation_by`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tributary_core::document::Section;
use tributary_core::spec::data::{CLASSES_MAX, DataKind};

use super::array::ArrayConfig;
use super::cifar::Variant;
use super::images::Frame;
use super::label::LabelMap;
use super::listing::Listing;
use super::normalise::Normalise;
use super::rows::{Column, Dialect, RowFormat};
use super::split::Validation;
use super::store::Room;
use super::table::TableColumns;
use super::text::TextColumns;
use super::token::TokenConfig;
use super::wav::{Layout, MelConfig};

mod arrays;
mod by_job;
mod files;
mod keys;
mod tables;
mod texts;

pub use by_job::Left;

/// Most memory for values: 16 TiB, above today's machines.
const MEMORY_MB_MAX: u64 = 1 << 24;
/// Largest scratch file: 1 PiB, above today's disks.
const SCRATCH_MB_MAX: u64 = 1 << 30;

/// Something of the rows to train on, and of those that are only ever scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts<T> {
    /// To train on.
    pub train: Option<T>,
    /// Only ever scored.
    pub evaluate: Option<T>,
}

impl<T> Parts<T> {
    /// Whether there is neither.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.train.is_none() && self.evaluate.is_none()
    }
}

/// Pictures and their labels as IDX files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxFiles {
    /// `idx3-ubyte` pixels.
    pub images: PathBuf,
    /// `idx1-ubyte` labels.
    pub labels: PathBuf,
    /// One client a row: a table of QMNIST, or delimited text.
    pub groups: Option<PathBuf>,
}

/// CIFAR's binary files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifarFiles {
    /// The batches, in order.
    pub files: Vec<PathBuf>,
    /// One client a row.
    pub groups: Option<PathBuf>,
}

/// Recordings as log-mel features.
#[derive(Debug, Clone, PartialEq)]
pub struct WavConfig {
    /// Where they lie.
    pub parts: Parts<Listing>,
    /// Their classes.
    pub labels: LabelMap,
    /// The features.
    pub mel: MelConfig,
    /// Steps of an example; the job's where this is none.
    pub steps: Option<usize>,
    /// How features lie; by the job's shape where this is none.
    pub layout: Option<Layout>,
}

/// Texts in columns of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRows {
    /// The files.
    pub parts: Parts<Vec<PathBuf>>,
    /// How rows lie in them.
    pub rows: RowFormat,
    /// Which columns are what.
    pub columns: TextColumns,
    /// How texts become tokens.
    pub tokens: TokenConfig,
    /// Steps of an example; the job's where this is none.
    pub steps: Option<usize>,
}

/// One format with what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Pictures as IDX files.
    Idx {
        /// The files.
        parts: Parts<IdxFiles>,
        /// How many classes the labels have.
        classes: u32,
        /// The column of clients, where a group file is delimited text.
        client: Option<Column>,
    },
    /// CIFAR's binary files.
    Cifar {
        /// The files.
        parts: Parts<CifarFiles>,
        /// Which labels.
        variant: Variant,
        /// The column of clients, where a group file is delimited text.
        client: Option<Column>,
    },
    /// Pictures in files of their own.
    Images {
        /// Where they lie.
        parts: Parts<Listing>,
        /// Their classes.
        labels: LabelMap,
        /// Channels; the job's, or 3, where this is none.
        channels: Option<usize>,
        /// Rows and columns; the job's where this is none.
        size: Option<(usize, usize)>,
    },
    /// Rows of numbers.
    Table {
        /// The files.
        parts: Parts<Vec<PathBuf>>,
        /// How rows lie in them.
        rows: RowFormat,
        /// Which columns are what.
        columns: TableColumns,
    },
    /// Texts in columns of rows.
    TextRows(TextRows),
    /// Running text.
    Text {
        /// The files.
        parts: Parts<Vec<PathBuf>>,
        /// How texts become tokens.
        tokens: TokenConfig,
        /// Steps of an example; the job's where this is none.
        steps: Option<usize>,
    },
    /// Arrays of NumPy.
    Arrays {
        /// The arrays.
        parts: Parts<ArrayConfig>,
        /// What the rows are; by the number of axes where this is none.
        kind: Option<DataKind>,
    },
    /// Recordings.
    Wav(Box<WavConfig>),
}

/// A site's data set: everything that is needed to read it.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// The format, its files and columns.
    pub format: Format,
    /// Constants to normalise by; the job's where this is none.
    pub normalise: Option<Normalise>,
    /// The part of the rows to train on that is held out instead.
    pub validation: Option<Validation>,
    /// The one client whose rows are kept, where the files hold those of many.
    pub client: Option<String>,
    /// The rows that are kept, by their places among all that are read; no file says it.
    pub only: Option<Parts<Arc<Vec<u32>>>>,
    /// How much is held in memory, and where the rest goes.
    pub room: Room,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Idx,
    Cifar,
    Images,
    Csv,
    Tsv,
    Parquet,
    JsonLines,
    Text,
    Npy,
    Npz,
    Wav,
}

const WORDS: [(&str, Word); 11] = [
    ("idx", Word::Idx),
    ("cifar", Word::Cifar),
    ("images", Word::Images),
    ("csv", Word::Csv),
    ("parquet", Word::Parquet),
    ("jsonl", Word::JsonLines),
    ("tsv", Word::Tsv),
    ("text", Word::Text),
    ("npy", Word::Npy),
    ("npz", Word::Npz),
    ("wav", Word::Wav),
];

impl SourceConfig {
    /// Reads the keys of a `[data]` table; relative paths start at `base`. `None` where a fault was
    /// recorded that leaves nothing to go on with. Whoever owns the section finishes it.
    pub fn read(section: &mut Section, base: &Path) -> Option<Self> {
        let word = section.choice("format", &WORDS, None);
        let (normalise, validation) = (read_normalise(section), read_validation(section));
        let client = section.optional_text("client");
        let room = read_room(section, base);
        let format = match word? {
            Word::Idx => Some(read_idx(section, base)),
            Word::Cifar => files::read_cifar(section, base),
            Word::Images => Some(files::read_images(section, base)),
            Word::Csv => tables::read(section, base, RowFormat::Delimited(Dialect::csv())),
            Word::Tsv => tables::read(section, base, RowFormat::Delimited(Dialect::tsv())),
            Word::Parquet => tables::read(section, base, RowFormat::Parquet),
            Word::JsonLines => tables::read(section, base, RowFormat::JsonLines),
            Word::Text => texts::read_running(section, base),
            Word::Npy => arrays::read_npy(section, base),
            Word::Npz => arrays::read_npz(section, base),
            Word::Wav => Some(files::read_wav(section, base)),
        }?;
        let config = Self { format, normalise, validation, client, only: None, room };
        config.check(section);
        Some(config)
    }

    fn check(&self, section: &Section) {
        let (train, evaluate) = self.format.parts();
        if !train && !evaluate {
            let key = self.format.first_key();
            let expected = "a file to train on (or the `evaluate_` keys alone)";
            section.fault(key, expected, "nothing");
        }
        if self.validation.is_some() && evaluate {
            let expected = "either a fraction or files to evaluate on";
            section.fault("validation_fraction", expected, "both");
        }
    }
}

impl Format {
    /// Whether there are files to train on, and files to evaluate on.
    #[must_use]
    pub fn parts(&self) -> (bool, bool) {
        fn named<T>(parts: &Parts<T>) -> (bool, bool) {
            (parts.train.is_some(), parts.evaluate.is_some())
        }
        match self {
            Self::Idx { parts, .. } => named(parts),
            Self::Cifar { parts, .. } => named(parts),
            Self::Images { parts, .. } => named(parts),
            Self::Table { parts, .. } | Self::Text { parts, .. } => named(parts),
            Self::TextRows(rows) => named(&rows.parts),
            Self::Arrays { parts, .. } => named(parts),
            Self::Wav(config) => named(&config.parts),
        }
    }

    fn first_key(&self) -> &'static str {
        match self {
            Self::Idx { .. } => "images",
            Self::Images { .. } | Self::Wav(_) => "folder",
            Self::Arrays { .. } => "inputs",
            Self::Cifar { .. } | Self::Table { .. } | Self::Text { .. } | Self::TextRows(_) => {
                "files"
            }
        }
    }

    /// What the rows of the format are; none where only the arrays tell.
    #[must_use]
    pub fn kind(&self) -> Option<DataKind> {
        match self {
            Self::Idx { .. } | Self::Cifar { .. } | Self::Images { .. } => Some(DataKind::Image),
            Self::Table { .. } => Some(DataKind::Table),
            Self::TextRows(_) | Self::Text { .. } => Some(DataKind::Text),
            Self::Arrays { kind, .. } => *kind,
            Self::Wav(config) if config.layout == Some(Layout::Picture) => Some(DataKind::Image),
            Self::Wav(config) => config.layout.map(|_| DataKind::Series),
        }
    }
}

impl Frame {
    /// What pictures become: as configured, else as the job's shape says.
    pub(crate) fn of(
        channels: Option<usize>,
        size: Option<(usize, usize)>,
        shape: Option<&[usize]>,
    ) -> Self {
        let wanted = match shape {
            Some(&[channels, rows, columns]) => Some((channels, rows, columns)),
            _ => None,
        };
        // Three channels where nobody says: what a camera has.
        let channels = channels.or(wanted.map(|(channels, _, _)| channels)).unwrap_or(3);
        Self { channels, size: size.or(wanted.map(|(_, rows, columns)| (rows, columns))) }
    }
}

fn read_idx(section: &mut Section, base: &Path) -> Format {
    let classes = section.count("classes", 2..=CLASSES_MAX, None);
    let client = keys::column(section, "client_column");
    let mut part = |prefix: &str| {
        let (images, labels) = (format!("{prefix}images"), format!("{prefix}labels"));
        let groups = section.optional_text(&format!("{prefix}group_file"));
        let groups = groups.map(|path| base.join(path));
        match (section.optional_text(&images), section.optional_text(&labels)) {
            (Some(images), Some(labels)) => {
                Some(IdxFiles { images: base.join(images), labels: base.join(labels), groups })
            }
            (Some(named), None) => {
                section.fault(&labels, format!("the labels of {named}"), "nothing");
                None
            }
            (None, Some(named)) => {
                section.fault(&images, format!("the images of {named}"), "nothing");
                None
            }
            (None, None) => None,
        }
    };
    let parts = Parts { train: part(""), evaluate: part("evaluate_") };
    Format::Idx { parts, classes, client }
}

fn read_normalise(section: &mut Section) -> Option<Normalise> {
    let mut inner = section.optional_section("normalise")?;
    let mean = keys::numbers(&mut inner, "mean");
    let deviation = keys::numbers(&mut inner, "deviation");
    if deviation.iter().flatten().any(|value| *value == 0.0) {
        inner.fault("deviation", "numbers other than 0", "a 0");
    }
    for (key, list) in [("mean", &mean), ("deviation", &deviation)] {
        if list.as_ref().is_none_or(Vec::is_empty) {
            inner.fault(key, "one number, or one for each feature or channel", "nothing");
        }
    }
    inner.finish();
    Some(Normalise { mean: mean?, deviation: deviation? })
}

fn read_room(section: &mut Section, base: &Path) -> Room {
    let usual = Room::default();
    let memory_mb = (usual.memory_bytes >> 20) as u64;
    let memory_mb = section.integer("memory_mb", 1..=MEMORY_MB_MAX, Some(memory_mb));
    let scratch_mb = usual.scratch_bytes >> 20;
    let scratch_mb = section.integer("scratch_mb", 1..=SCRATCH_MB_MAX, Some(scratch_mb));
    let scratch_dir = section.optional_text("scratch_dir").map(|folder| base.join(folder));
    let memory_bytes = usize::try_from(memory_mb << 20).unwrap_or(usize::MAX);
    Room { memory_bytes, scratch_bytes: scratch_mb << 20, scratch_dir }
}

fn read_validation(section: &mut Section) -> Option<Validation> {
    let has = section.has("validation_fraction");
    let fraction = section.number("validation_fraction", 0.0..=0.9, Some(0.0));
    let seed = section.integer("validation_seed", 0..=i64::MAX as u64, Some(0));
    let words = [("rows", false), ("clients", true)];
    let by_client = section.choice("validation_by", &words, Some(false)).unwrap_or(false);
    (has && fraction > 0.0).then_some(Validation { fraction, seed, by_client })
}

#[cfg(test)]
mod tests;
