//! The data owner's own record of what left this machine: a line before the first byte of each
//! result, each changed offer of data and each reason is sent, its digest covering the line before.
//!
//! ```text
//! STATE/ledger.jsonl   mode 0600: one JSON object a line, appended and fsynced, never rewritten
//! STATE/ledger.head    mode 0600: {"sequence", "digest"} of the last line, replaced behind it
//! ```
//!
//! A result that is sent again after a break or a kill is the same bytes and has one line. The head
//! shows a ledger that was cut or is gone: it may be one line behind (a kill between the two), never
//! ahead.

mod head;
mod lines;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tributary_core::digest::Digest;

use head::Head;
use lines::{Start, walk};

/// Longest line. Texts of others (a job's id, an address) are short; [`DETAIL_BYTES_MAX`] bounds ours.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// Longest detail; a longer one is cut, its digest stands for the whole.
const DETAIL_BYTES_MAX: usize = 4 << 10;
/// How much of the end is read when an agent starts: some thousand lines. The whole is for
/// [`verify`], which an owner asks for.
const TAIL_BYTES: u64 = 4 << 20;
/// Lines that are remembered, so that what is sent again has one: far more than an agent's spool holds.
const REMEMBERED_MAX: usize = 1024;

/// What left the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// 1 for the first.
    pub sequence: u64,
    /// Wall clock, microseconds since 1970.
    pub at_us: i64,
    /// `update` (weights and statistics), `statistics` alone, `sums` before round 1, `offer` (names,
    /// types and counts of the data), or `reason` (why a task has no result).
    pub what: String,
    /// The coordinator that it was sent to.
    pub coordinator: String,
    /// The job; empty for an offer.
    pub job: String,
    /// The round.
    pub round: u32,
    /// The task that asked for it.
    pub task: String,
    /// The job's spec, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Digest>,
    /// What was sent, by its digest.
    pub content: Digest,
    /// Its length.
    pub bytes: u64,
    /// The rows that it stands for.
    pub examples: u64,
    /// What hides the rows in it: `none`, or `statistics_withheld`.
    pub privacy: String,
    /// An offer or a reason, word for word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// H(previous line's digest, this line).
    pub digest: Digest,
}

/// What is known of something when its line is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// `update`, `statistics`, `sums`, `offer` or `reason`.
    pub what: &'static str,
    /// The coordinator.
    pub coordinator: String,
    /// The job.
    pub job: String,
    /// The round.
    pub round: u32,
    /// The task.
    pub task: String,
    /// The job's spec.
    pub spec: Option<Digest>,
    /// What is sent.
    pub content: Digest,
    /// Its length.
    pub bytes: u64,
    /// The rows that it stands for.
    pub examples: u64,
    /// What hides the rows in it.
    pub privacy: &'static str,
    /// An offer or a reason, word for word.
    pub detail: String,
}

/// Why the ledger cannot be kept or believed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be had.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line does not follow from the one before.
    #[error(
        "{path}: line {line} does not follow from the one before: somebody changed the ledger; move \
         it and its head aside to begin a new one"
    )]
    Broken {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
    },
    /// The head knows of lines that are not there.
    #[error(
        "{path}: expected {expected} lines as the ledger's head says, found {found}: somebody cut the \
         ledger; move it and its head aside to begin a new one"
    )]
    Cut {
        /// Which file.
        path: PathBuf,
        /// The head's.
        expected: u64,
        /// The file's.
        found: u64,
    },
    /// The head is not what it must be.
    #[error(
        "{path}: expected the sequence and digest of the ledger's last line, found {found}: somebody \
         changed it; move it and the ledger aside to begin a new one"
    )]
    Head {
        /// Which file.
        path: PathBuf,
        /// What came.
        found: String,
    },
}

fn genesis() -> Digest {
    Digest::of_fields("tributary/ledger/genesis/v1", [])
}

impl Entry {
    fn digest_after(&self, previous: Digest) -> Digest {
        let spec = self.spec.as_ref().map(|spec| spec.as_bytes().as_slice()).unwrap_or_default();
        Digest::of_fields(
            "tributary/ledger/v2",
            [
                previous.as_bytes().as_slice(),
                &self.sequence.to_le_bytes(),
                &self.at_us.to_le_bytes(),
                self.what.as_bytes(),
                self.coordinator.as_bytes(),
                self.job.as_bytes(),
                &self.round.to_le_bytes(),
                self.task.as_bytes(),
                spec,
                self.content.as_bytes(),
                &self.bytes.to_le_bytes(),
                &self.examples.to_le_bytes(),
                self.privacy.as_bytes(),
                self.detail.as_bytes(),
            ],
        )
    }

    fn key(&self) -> Key {
        Key {
            task: self.task.clone(),
            coordinator: self.coordinator.clone(),
            content: self.content,
        }
    }
}

/// What is sent again is the same content of the same task.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    task: String,
    coordinator: String,
    content: Digest,
}

/// A ledger that lines are added to.
pub struct Ledger {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    head: Head,
    /// Whether the head's file says so.
    headed: bool,
    /// The last lines' keys, offers apart.
    recent: VecDeque<Key>,
    /// The last offer: it is what the coordinator knows.
    offer: Option<Key>,
}

impl State {
    fn has(&self, what: &str, key: &Key) -> bool {
        if what == OFFER { self.offer.as_ref() == Some(key) } else { self.recent.contains(key) }
    }

    fn remember(&mut self, what: &str, key: Key) {
        if what == OFFER {
            self.offer = Some(key);
            return;
        }
        if self.recent.len() == REMEMBERED_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(key);
    }
}

/// The word of an offer.
pub(crate) const OFFER: &str = "offer";
/// The word of a reason.
pub(crate) const REASON: &str = "reason";

/// The ledger's file in a state folder.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger.jsonl")
}

/// Reads a state folder's whole ledger and checks it against its head, handing each entry on.
///
/// # Errors
/// When it cannot be read, a line does not follow, or lines are missing.
pub fn verify(state_dir: &Path, entry: impl FnMut(Entry)) -> Result<(), LedgerError> {
    let head = Head::load(state_dir)?;
    walk(&path(state_dir), Start::First, head, entry).map(|_| ())
}

impl Ledger {
    /// Opens a state folder's ledger, and checks its end against its head.
    ///
    /// # Errors
    /// When it cannot be written, a line does not follow, or lines are missing.
    pub fn open(state_dir: &Path) -> Result<Self, LedgerError> {
        let path = path(state_dir);
        let io = |source| LedgerError::Io { path: path.clone(), source };
        let known = Head::load(state_dir)?;
        let (mut recent, mut offer) = (Vec::new(), None);
        let end = walk(&path, Start::Tail(TAIL_BYTES), known, |entry| {
            if entry.what == OFFER {
                offer = Some(entry.key());
            } else {
                recent.push(entry.key());
            }
        })?;
        let open = || {
            let mut options = OpenOptions::new();
            options.create(true).write(true).truncate(false).mode(0o600);
            let mut file = options.open(&path)?;
            // One that was made with another mode.
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            file.set_len(end.bytes)?;
            file.seek(SeekFrom::End(0))?;
            file.sync_all()?;
            File::open(state_dir)?.sync_all()?;
            Ok(file)
        };
        let file = open().map_err(io)?;
        let skipped = recent.len().saturating_sub(REMEMBERED_MAX);
        let recent = recent.into_iter().skip(skipped).collect();
        let headed = known.unwrap_or_default() == end.head;
        let state = State { file, head: end.head, headed, recent, offer };
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// Writes the line of what is about to be sent, durable when this returns; only then may a byte
    /// of it be sent.
    ///
    /// # Errors
    /// When the disk fails: it is not sent then.
    pub fn record(&self, departure: Departure) -> Result<(), LedgerError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = tributary_outside::wall_clock()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mut entry = Entry {
            sequence: state.head.sequence + 1,
            at_us: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
            what: departure.what.to_owned(),
            coordinator: departure.coordinator,
            job: departure.job,
            round: departure.round,
            task: departure.task,
            spec: departure.spec,
            content: departure.content,
            bytes: departure.bytes,
            examples: departure.examples,
            privacy: departure.privacy.to_owned(),
            detail: cut(departure.detail),
            digest: genesis(),
        };
        let key = entry.key();
        if !state.has(departure.what, &key) {
            entry.digest = entry.digest_after(state.head.digest);
            self.append(&mut state, &entry)?;
            state.head = Head { sequence: entry.sequence, digest: entry.digest };
            state.headed = false;
            state.remember(departure.what, key);
        }
        if !state.headed {
            state.head.store(self.path.parent().unwrap_or(Path::new("")))?;
            state.headed = true;
        }
        Ok(())
    }

    fn append(&self, state: &mut State, entry: &Entry) -> Result<(), LedgerError> {
        let io = |source| LedgerError::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(entry).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        let before = state.file.stream_position().map_err(io)?;
        let written = state.file.write_all(&line).and_then(|()| state.file.sync_data());
        written.map_err(|error| {
            // Half a line goes, or the next one would stand behind it.
            let _ = state.file.set_len(before).and_then(|()| state.file.seek(SeekFrom::End(0)));
            io(error)
        })
    }
}

/// A detail as a line has room for.
fn cut(mut detail: String) -> String {
    detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
    detail
}

#[cfg(test)]
mod tests;
