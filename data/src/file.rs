//! A site's file: plain or compressed with gzip, read once from the front, never further than asked
//! for, and at the end the same file as at the beginning.
//!
//! What the first bytes are decides whether it is compressed, not the name. Only regular files are
//! opened: a pipe would wait for ever.

use std::borrow::Cow;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use flate2::bufread::MultiGzDecoder;

use super::{DataError, Place};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Bytes that are read at once: fewer system calls, and little memory for thousands of files.
const BUFFER_BYTES: usize = 1 << 16;
pub(crate) const FETCH_AGAIN: &str = "fetch or copy the file again";

/// What a file was when it was opened: enough to see that somebody wrote to it.
///
/// A change that keeps size and modification time is not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The file.
    pub file: PathBuf,
    /// Its bytes on the disk, compressed or not.
    pub bytes: u64,
    /// When it was last written to: nanoseconds since 1970.
    pub modified_ns: u128,
}

impl Stamp {
    fn of(file: &Path, metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified.map_or(0, |since| since.as_nanos());
        Self { file: file.to_owned(), bytes: metadata.len(), modified_ns }
    }

    /// Whether the file is still what it was.
    ///
    /// # Errors
    /// When it cannot be looked at, and [`DataError::Changed`].
    pub fn verify(&self) -> Result<(), DataError> {
        let now = std::fs::metadata(&self.file)
            .map_err(|source| DataError::Read { file: self.file.clone(), source })?;
        let now = Self::of(&self.file, &now);
        if now == *self {
            return Ok(());
        }
        let (expected, found) = (self.to_string(), now.to_string());
        Err(DataError::Changed { file: self.file.clone(), expected, found })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (self.modified_ns / 1_000_000_000, self.modified_ns % 1_000_000_000);
        write!(f, "{} bytes written at {seconds}.{rest:09}", self.bytes)
    }
}

/// The error of a file that is not what it should be.
pub(crate) fn malformed(
    file: &Path,
    place: Place,
    expected: impl Into<String>,
    found: impl Into<String>,
    advice: impl Into<Cow<'static, str>>,
) -> DataError {
    let (expected, found, advice) = (expected.into(), found.into(), advice.into());
    let (file, place) = (file.to_owned(), Box::new(place));
    DataError::Malformed { file, place, expected, found, advice }
}

/// A file that is being read.
pub(crate) struct SiteFile {
    path: PathBuf,
    stamp: Stamp,
    reader: Box<dyn BufRead + Send>,
    compressed: bool,
    offset: u64,
}

impl SiteFile {
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |source| DataError::Read { file: path.to_owned(), source };
        // Looked at first: opening a pipe for reading waits for a writer.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            let found = if metadata.is_dir() { "a folder" } else { "something else" };
            let advice = "name a file";
            return Err(malformed(path, Place::Whole, "a regular file", found, advice));
        }
        let file = File::open(path).map_err(failed)?;
        let stamp = Stamp::of(path, &file.metadata().map_err(failed)?);
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
        let compressed = reader.fill_buf().map_err(failed)?.starts_with(&GZIP_MAGIC);
        let reader: Box<dyn BufRead + Send> = if compressed {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(reader)))
        } else {
            Box::new(reader)
        };
        Ok(Self { path: path.to_owned(), stamp, reader, compressed, offset: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it lies compressed on the disk.
    pub(crate) fn compressed(&self) -> bool {
        self.compressed
    }

    /// Bytes read so far, uncompressed.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// What is ready to be read; empty at the end of the file.
    pub(crate) fn ready(&mut self) -> Result<&[u8], DataError> {
        let Self { path, reader, compressed, offset, .. } = self;
        reader.fill_buf().map_err(|error| failure(path, *compressed, *offset, error))
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.offset += bytes as u64;
    }

    /// Reads at most `max` bytes, to the end. The vector grows with what is read, so a header that
    /// lies costs nothing.
    pub(crate) fn up_to(&mut self, max: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let result = self.reader.by_ref().take(max).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        match result {
            Ok(_) => Ok(bytes),
            Err(error) => Err(failure(&self.path, self.compressed, self.offset, error)),
        }
    }

    pub(crate) fn exactly(&mut self, into: &mut [u8], what: &str) -> Result<(), DataError> {
        let bytes = self.up_to(into.len() as u64)?;
        if bytes.len() != into.len() {
            let found = format!("the end of the file after {} of them", bytes.len());
            let expected = format!("{what}: {} bytes", into.len());
            let place = Place::Byte(self.offset);
            return Err(malformed(&self.path, place, expected, found, FETCH_AGAIN));
        }
        into.copy_from_slice(&bytes);
        Ok(())
    }

    /// At most `max` bytes that are ready, and none at the end of the file.
    pub(crate) fn piece(
        &mut self,
        max: u64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), DataError>,
    ) -> Result<u64, DataError> {
        let ready = self.ready()?;
        let taken = (ready.len() as u64).min(max) as usize;
        each(&ready[..taken])?;
        self.consume(taken);
        Ok(taken as u64)
    }

    /// The values behind a header, piece by piece: exactly as many bytes as it says.
    pub(crate) fn rest_to(
        &mut self,
        expected: u64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let start = self.offset;
        let mut found = 0;
        while found < expected {
            let taken = self.piece(expected - found, each)?;
            if taken == 0 {
                return Err(malformed(
                    &self.path,
                    Place::Byte(self.offset),
                    format!("{expected} bytes of values, as the header says"),
                    format!("the end after {found}"),
                    FETCH_AGAIN,
                ));
            }
            found += taken;
        }
        if self.ready()?.is_empty() {
            return Ok(());
        }
        Err(malformed(
            &self.path,
            Place::Byte(start + expected),
            format!("the end, after {expected} bytes of values"),
            "more bytes",
            "the header and the values disagree; fetch the file again",
        ))
    }

    /// The values behind a header. The vector grows with what is read, as in [`SiteFile::up_to`].
    pub(crate) fn rest(&mut self, expected: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        self.rest_to(expected, &mut |some| {
            bytes.extend_from_slice(some);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// The whole of a file of at most `max` bytes, uncompressed.
    pub(crate) fn read_whole(path: &Path, max: u64) -> Result<(Vec<u8>, Stamp), DataError> {
        let mut file = Self::open(path)?;
        let bytes = file.up_to(max.saturating_add(1))?;
        if bytes.len() as u64 > max {
            let expected = format!("the end of the file within {max} bytes");
            let advice = "cut the file in several";
            return Err(malformed(path, Place::Byte(max), expected, "more bytes", advice));
        }
        if bytes.is_empty() {
            let advice = "check that the right file is named";
            return Err(malformed(path, Place::Byte(0), "a file with bytes", "none", advice));
        }
        let stamp = file.finish()?;
        Ok((bytes, stamp))
    }

    /// The end of reading: the file must be what it was at the beginning.
    pub(crate) fn finish(self) -> Result<Stamp, DataError> {
        self.stamp.verify()?;
        Ok(self.stamp)
    }
}

impl Read for SiteFile {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(into)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// A damaged or cut gzip stream is named as such.
fn failure(path: &Path, compressed: bool, offset: u64, error: std::io::Error) -> DataError {
    let place = Place::Byte(offset);
    match error.kind() {
        ErrorKind::UnexpectedEof if compressed => {
            malformed(path, place, "more of the gzip stream", "its end", FETCH_AGAIN)
        }
        ErrorKind::InvalidInput | ErrorKind::InvalidData if compressed => {
            malformed(path, place, "a sound gzip stream", error.to_string(), FETCH_AGAIN)
        }
        _ => DataError::Read { file: path.to_owned(), source: error },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::SiteFile;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("growing.csv");
        std::fs::write(&path, "1,2\n").expect("write");
        let mut file = SiteFile::open(&path).expect("open");
        assert_eq!(file.up_to(2).expect("some"), b"1,");
        let mut writer = std::fs::OpenOptions::new().append(true).open(&path).expect("append");
        writer.write_all(b"3,4\n").expect("write");
        drop(writer);
        let _ = file.up_to(100).expect("rest");
        let message = file.finish().expect_err("changed").to_string();
        assert!(message.contains("growing.csv changed while it was read"), "{message}");
        assert!(message.contains("expected 4 bytes written at"), "{message}");
        assert!(message.contains("found 8 bytes written at"), "{message}");
        assert!(message.contains("let nobody write to it"), "{message}");
    }

    #[test]
    fn what_cannot_be_opened_says_what_to_do() {
        let folder = tempfile::tempdir().expect("folder");
        let missing = SiteFile::open(&folder.path().join("none")).err().expect("none").to_string();
        assert!(missing.contains("cannot read") && missing.contains("check the path"), "{missing}");
        let other = SiteFile::open(folder.path()).err().expect("folder").to_string();
        assert!(other.contains("expected a regular file, found a folder; name a file"), "{other}");
    }

    #[test]
    fn a_file_that_this_user_may_not_read_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("secret.csv");
        std::fs::write(&path, "1\n").expect("write");
        let closed = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(&path, closed).expect("chmod");
        let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let message = crate::DataError::Read { file: path.clone(), source }.to_string();
        assert!(message.contains("secret.csv") && message.contains("let the user"), "{message}");
        if std::fs::File::open(&path).is_ok() {
            tributary_testing::skip::skip("this user may read every file, as root may");
            return;
        }
        let message = SiteFile::open(&path).err().expect("refused").to_string();
        assert!(message.contains("secret.csv") && message.contains("let the user"), "{message}");
    }

    #[test]
    fn no_more_is_read_than_is_allowed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("huge");
        let file = std::fs::File::create(&path).expect("create");
        file.set_len(1 << 40).expect("sparse");
        let message = SiteFile::read_whole(&path, 1000).expect_err("long").to_string();
        assert!(message.contains("at byte 1000: expected the end of the file"), "{message}");
    }
}
