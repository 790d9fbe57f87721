//! Entries of a `.npz`: a zip archive of `.npy` files, stored or deflated.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use crate::error::listed;
use crate::file::{FETCH_AGAIN, SiteFile, Stamp, malformed};
use crate::loaded::held;
use crate::store::Room;
use crate::{DataError, Place};

use super::npy::Source;

/// Most entries: the directory of an archive is read whole.
const ENTRIES_MAX: usize = 1 << 16;

/// Finds an entry, and lets its bytes be read under its whole name.
pub(super) fn with_entry<T>(
    path: &Path,
    entry: &str,
    room: &Room,
    work: impl FnOnce(&str, &mut dyn Source) -> Result<T, DataError>,
) -> Result<(T, Stamp), DataError> {
    let mut start = SiteFile::open(path)?;
    if start.compressed() {
        // An archive is read from its end.
        let mut unpacked = room.scratch().map_err(held(path))?;
        while start.piece(u64::MAX, &mut |some| unpacked.write(some).map_err(held(path)))? > 0 {}
        let stamp = start.finish()?;
        return Ok((in_archive(path, unpacked.into_file(), entry, work)?, stamp));
    }
    let file =
        File::open(path).map_err(|source| DataError::Read { file: path.to_owned(), source })?;
    let value = in_archive(path, file, entry, work)?;
    Ok((value, start.finish()?))
}

/// An entry that is being unpacked. What the directory says of its size is not believed.
struct Entry<'a, R> {
    path: &'a Path,
    name: &'a str,
    reader: R,
}

impl<R: Read> Source for Entry<'_, R> {
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, DataError> {
        let mut done = 0;
        while done < into.len() {
            let read = self.reader.read(&mut into[done..]).map_err(|error| {
                let place = Place::Entry(self.name.to_owned());
                malformed(self.path, place, "a sound entry", error.to_string(), FETCH_AGAIN)
            })?;
            if read == 0 {
                break;
            }
            done += read;
        }
        Ok(done)
    }
}

fn in_archive<T>(
    path: &Path,
    file: File,
    entry: &str,
    work: impl FnOnce(&str, &mut dyn Source) -> Result<T, DataError>,
) -> Result<T, DataError> {
    let unsound = |found: String| {
        let advice = "check that the right file and format are named, or fetch it again";
        malformed(path, Place::Whole, "a sound .npz (a zip archive)", found, advice)
    };
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|error| unsound(error.to_string()))?;
    if archive.len() > ENTRIES_MAX {
        return Err(unsound(format!("{} entries", archive.len())));
    }
    let wanted = [entry.to_owned(), format!("{entry}.npy")];
    let names = archive.file_names().map(|name| name.map(Cow::into_owned));
    let names: Vec<String> =
        names.collect::<Result<_, _>>().map_err(|error| unsound(error.to_string()))?;
    let Some(name) = names.iter().find(|name| wanted.contains(name)) else {
        let expected = format!("an array `{entry}`");
        let advice = "name an array that the file has";
        return Err(malformed(path, Place::Whole, expected, listed(&names), advice));
    };
    let reader = archive.by_name(name).map_err(|error| unsound(error.to_string()))?;
    work(name, &mut Entry { path, name, reader })
}
