//! The data owner's own record of what left this machine: a line before the first byte of each
//! result is sent, each line's digest covering the one before.
//!
//! ```text
//! STATE/ledger.jsonl   one JSON object a line, appended and fsynced, never rewritten
//! ```
//!
//! A result that is sent again after a break or a kill is the same bytes and has one line.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tributary_core::digest::Digest;

/// Longest line: its texts are bounded by what they are.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// What left the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// 1 for the first.
    pub sequence: u64,
    /// Wall clock, microseconds since 1970.
    pub at_us: i64,
    /// `update` (weights and statistics), `statistics` alone, or `sums` before round 1.
    pub what: String,
    /// The coordinator that it was sent to.
    pub coordinator: String,
    /// The job.
    pub job: String,
    /// The round.
    pub round: u32,
    /// The task that asked for it.
    pub task: String,
    /// The job's spec.
    pub spec: Digest,
    /// What was sent, by its digest.
    pub content: Digest,
    /// Its length.
    pub bytes: u64,
    /// The rows that it stands for.
    pub examples: u64,
    /// What hides the rows in it: `none` before there is anything that does.
    pub privacy: String,
    /// H(previous line's digest, this line).
    pub digest: Digest,
}

/// What is known of a result when its line is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// `update`, `statistics` or `sums`.
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
    pub spec: Digest,
    /// What is sent.
    pub content: Digest,
    /// Its length.
    pub bytes: u64,
    /// The rows that it stands for.
    pub examples: u64,
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
         it aside to begin a new one"
    )]
    Broken {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
    },
}

fn genesis() -> Digest {
    Digest::of_fields("tributary/ledger/genesis/v1", [])
}

impl Entry {
    fn digest_after(&self, previous: Digest) -> Digest {
        Digest::of_fields(
            "tributary/ledger/v1",
            [
                previous.as_bytes().as_slice(),
                &self.sequence.to_le_bytes(),
                &self.at_us.to_le_bytes(),
                self.what.as_bytes(),
                self.coordinator.as_bytes(),
                self.job.as_bytes(),
                &self.round.to_le_bytes(),
                self.task.as_bytes(),
                self.spec.as_bytes(),
                self.content.as_bytes(),
                &self.bytes.to_le_bytes(),
                &self.examples.to_le_bytes(),
                self.privacy.as_bytes(),
            ],
        )
    }
}

/// A ledger that lines are added to.
pub struct Ledger {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    sequence: u64,
    digest: Digest,
    /// Tasks and contents that have their line.
    written: HashSet<(String, Digest)>,
}

/// The ledger's file in a state folder.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger.jsonl")
}

/// Reads and checks a ledger, handing each entry on; how many bytes of it are whole lines.
///
/// # Errors
/// When it cannot be read, or a line does not follow.
pub fn read(path: &Path, mut entry: impl FnMut(Entry)) -> Result<u64, LedgerError> {
    let io = |source| LedgerError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(io(error)),
    };
    let mut reader = BufReader::new(file);
    let (mut whole, mut line, mut previous) = (0, 0, genesis());
    loop {
        let mut text = Vec::new();
        let mut one = std::io::Read::take(&mut reader, LINE_BYTES_MAX);
        let read = one.read_until(b'\n', &mut text).map_err(io)?;
        // A line without its end was being written when the power went; nothing was sent for it.
        if read == 0 || (text.last() != Some(&b'\n') && (read as u64) < LINE_BYTES_MAX) {
            return Ok(whole);
        }
        line += 1;
        let broken = || LedgerError::Broken { path: path.to_owned(), line };
        let found: Entry = serde_json::from_slice(&text).map_err(|_| broken())?;
        if found.sequence != line || found.digest != found.digest_after(previous) {
            return Err(broken());
        }
        previous = found.digest;
        whole += read as u64;
        entry(found);
    }
}

impl Ledger {
    /// Opens a state folder's ledger, and checks it.
    ///
    /// # Errors
    /// When it cannot be written, or a line does not follow.
    pub fn open(state_dir: &Path) -> Result<Self, LedgerError> {
        let path = path(state_dir);
        let io = |source| LedgerError::Io { path: path.clone(), source };
        let (mut sequence, mut digest, mut written) = (0, genesis(), HashSet::new());
        let whole = read(&path, |entry| {
            (sequence, digest) = (entry.sequence, entry.digest);
            written.insert((entry.task, entry.content));
        })?;
        let open = || {
            let mut options = OpenOptions::new();
            let mut file = options.create(true).write(true).truncate(false).open(&path)?;
            file.set_len(whole)?;
            file.seek(SeekFrom::End(0))?;
            file.sync_all()?;
            File::open(state_dir)?.sync_all()?;
            Ok(file)
        };
        let file = open().map_err(io)?;
        let state = State { file, sequence, digest, written };
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// Writes the line of a result, durable when this returns; only then may a byte of it be sent.
    ///
    /// # Errors
    /// When the disk fails: the result is not sent then.
    pub fn record(&self, departure: Departure) -> Result<(), LedgerError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (departure.task.clone(), departure.content);
        if state.written.contains(&key) {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut entry = Entry {
            sequence: state.sequence + 1,
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
            privacy: "none".to_owned(),
            digest: genesis(),
        };
        entry.digest = entry.digest_after(state.digest);
        let io = |source| LedgerError::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(&entry).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        let before = state.file.stream_position().map_err(io)?;
        let written = state.file.write_all(&line).and_then(|()| state.file.sync_data());
        if let Err(error) = written {
            // Half a line goes, or the next one would stand behind it.
            let _ = state.file.set_len(before).and_then(|()| state.file.seek(SeekFrom::End(0)));
            return Err(io(error));
        }
        (state.sequence, state.digest) = (entry.sequence, entry.digest);
        state.written.insert(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tributary_core::digest::Digest;

    use super::{Departure, Ledger, LedgerError, path, read};

    fn departure(round: u32) -> Departure {
        Departure {
            what: "update",
            coordinator: "https://localhost:7443".to_owned(),
            job: "digits-1".to_owned(),
            round,
            task: format!("task-{round}"),
            spec: Digest::of(b"spec"),
            content: Digest::of(&[round as u8]),
            bytes: 100,
            examples: 7,
        }
    }

    fn count(dir: &tempfile::TempDir) -> Result<usize, LedgerError> {
        let mut count = 0;
        read(&path(dir.path()), |_| count += 1).map(|_| count)
    }

    #[test]
    fn each_result_has_one_line_over_restarts_and_repeats() {
        let dir = tempfile::tempdir().expect("a folder");
        for _ in 0..2 {
            let ledger = Ledger::open(dir.path()).expect("open");
            for round in [1, 2, 1] {
                ledger.record(departure(round)).expect("written");
            }
        }
        assert_eq!(count(&dir).expect("whole"), 2);
        let ledger = Ledger::open(dir.path()).expect("open");
        ledger.record(departure(3)).expect("written");
        assert_eq!(count(&dir).expect("whole"), 3);
    }

    #[test]
    fn a_line_cut_by_a_power_loss_goes_and_a_changed_one_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::open(dir.path()).expect("open");
        (1..=3).for_each(|round| ledger.record(departure(round)).expect("written"));
        drop(ledger);
        let file = path(dir.path());
        let text = std::fs::read_to_string(&file).expect("text");
        std::fs::write(&file, &text[..text.len() - 20]).expect("cut");
        let ledger = Ledger::open(dir.path()).expect("the cut line goes");
        ledger.record(departure(3)).expect("written again");
        assert_eq!(count(&dir).expect("whole"), 3);
        for (from, to) in [("\"bytes\":100", "\"bytes\":10"), ("\"round\":2", "\"round\":5")] {
            std::fs::write(&file, text.replacen(from, to, 1)).expect("changed");
            assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::Broken { .. })));
        }
        let without: String = text.lines().skip(1).map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, without).expect("changed");
        assert!(matches!(count(&dir), Err(LedgerError::Broken { line: 1, .. })));
    }
}
