//! The ledger's lines, read back and held to each other and to the head.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::head::Head;
use super::{Entry, LINE_BYTES_MAX, LedgerError, genesis};

/// Where reading begins.
pub(super) enum Start {
    /// At the first line.
    First,
    /// At the first line that begins in so many bytes from the end.
    Tail(u64),
}

/// Where reading ended.
pub(super) struct End {
    /// The last whole line.
    pub(super) head: Head,
    /// How many bytes of the file are whole lines.
    pub(super) bytes: u64,
}

/// Reads lines, each of which must follow from the one before; one of them must be `head`'s.
pub(super) fn walk(
    path: &Path,
    from: Start,
    head: Option<Head>,
    mut entry: impl FnMut(Entry),
) -> Result<End, LedgerError> {
    let io = |source| LedgerError::Io { path: path.to_owned(), source };
    let known = head.unwrap_or_default();
    let cut = |found| LedgerError::Cut { path: path.to_owned(), expected: known.sequence, found };
    let mut end = End { head: Head::default(), bytes: 0 };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && known.sequence == 0 => return Ok(end),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(cut(0)),
        Err(error) => return Err(io(error)),
    };
    let length = file.metadata().map_err(io)?.len();
    let mut reader = BufReader::new(file);
    // The first line of the tail is taken at its word: what it follows is not read.
    let mut previous = Some(Head { sequence: 0, digest: genesis() });
    if let Start::Tail(most) = from
        && length > most
    {
        reader.seek(SeekFrom::Start(length - most)).map_err(io)?;
        let mut begun = Vec::new();
        let skipped =
            reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut begun).map_err(io)?;
        (end.bytes, previous) = (length - most + skipped as u64, None);
    }
    loop {
        let mut text = Vec::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text).map_err(io)?;
        // A line without its end was being written when the power went; nothing was sent for it.
        if read == 0 || (text.last() != Some(&b'\n') && (read as u64) < LINE_BYTES_MAX) {
            break;
        }
        let line = previous.map_or(end.head.sequence, |previous| previous.sequence) + 1;
        let broken = |line| LedgerError::Broken { path: path.to_owned(), line };
        let found: Entry = serde_json::from_slice(&text).map_err(|_| broken(line))?;
        let follows = previous.is_none_or(|previous| {
            found.sequence == line && found.digest == found.digest_after(previous.digest)
        });
        let here = Head { sequence: found.sequence, digest: found.digest };
        if !follows || (here.sequence == known.sequence && here != known) {
            return Err(broken(found.sequence.min(line)));
        }
        (previous, end.head) = (Some(here), here);
        end.bytes += read as u64;
        entry(found);
    }
    // Without a head there is at most the line that was written before the first one.
    if end.head.sequence < known.sequence || (head.is_none() && end.head.sequence > 1) {
        return match head {
            Some(_) => Err(cut(end.head.sequence)),
            None => Err(LedgerError::Head {
                path: path.with_file_name("ledger.head"),
                found: "no such file".to_owned(),
            }),
        };
    }
    Ok(end)
}
