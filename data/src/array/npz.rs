//! Entries of a `.npz`: a zip archive of `.npy` files, stored or deflated.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::Path;

use zip::ZipArchive;

use crate::error::listed;
use crate::file::{FETCH_AGAIN, SiteFile, Stamp, malformed};
use crate::{DataError, Place};

/// Most bytes of an archive that itself lies in gzip: it is unpacked into memory.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;
/// Most entries: the directory of an archive is read whole.
const ENTRIES_MAX: usize = 1 << 16;

/// The bytes of an entry, with its whole name.
pub(super) fn read_entry(
    path: &Path,
    entry: &str,
    bytes_max: u64,
) -> Result<(String, Vec<u8>, Stamp), DataError> {
    let start = SiteFile::open(path)?;
    if start.compressed() {
        let (bytes, stamp) = SiteFile::read_whole(path, UNPACKED_BYTES_MAX)?;
        let (name, bytes) = from_archive(path, Cursor::new(bytes), entry, bytes_max)?;
        return Ok((name, bytes, stamp));
    }
    let file =
        File::open(path).map_err(|source| DataError::Read { file: path.to_owned(), source })?;
    let (name, bytes) = from_archive(path, file, entry, bytes_max)?;
    Ok((name, bytes, start.finish()?))
}

fn from_archive(
    path: &Path,
    reader: impl Read + Seek,
    entry: &str,
    bytes_max: u64,
) -> Result<(String, Vec<u8>), DataError> {
    let unsound = |found: String| {
        let advice = "check that the right file and format are named, or fetch it again";
        malformed(path, Place::Whole, "a sound .npz (a zip archive)", found, advice)
    };
    let mut archive = ZipArchive::new(reader).map_err(|error| unsound(error.to_string()))?;
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
    let place = Place::Entry(name.clone());
    let file = archive.by_name(name).map_err(|error| unsound(error.to_string()))?;
    let mut bytes = Vec::new();
    // What the directory says of the size is not believed.
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| {
        malformed(path, place.clone(), "a sound entry", error.to_string(), FETCH_AGAIN)
    })?;
    if bytes.len() as u64 > bytes_max {
        let expected = format!("an array of at most {bytes_max} bytes");
        return Err(malformed(path, place, expected, "more", "cut the array in several"));
    }
    Ok((name.clone(), bytes))
}
