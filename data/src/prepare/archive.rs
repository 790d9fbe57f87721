//! The files of a tar archive, plain or compressed: only regular ones, with names that stay inside
//! a folder, each of a bounded size.

use std::io::Read;
use std::path::{Component, Path};

use tar::{Archive, EntryType};

use crate::file::{FETCH_AGAIN, SiteFile, malformed};
use crate::{DataError, Place};

/// Most bytes of one entry: a recording or a play, held in memory while it is turned.
const ENTRY_BYTES_MAX: u64 = 64 << 20;
/// Most entries of an archive.
const ENTRIES_MAX: usize = 1 << 20;
/// Most bytes of an archive, uncompressed: a small file can unpack to petabytes.
const ARCHIVE_BYTES_MAX: u64 = 32 << 30;

/// Hands each file of an archive to `take`: its name without folders, and its bytes.
pub(super) fn each_file(
    path: &Path,
    mut take: impl FnMut(&str, Vec<u8>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut file = SiteFile::open(path)?;
    let unsound = |place: Place, found: String| {
        malformed(path, place, "a sound tar archive", found, FETCH_AGAIN)
    };
    let mut archive = Archive::new(file.by_ref().take(ARCHIVE_BYTES_MAX));
    let entries = archive.entries().map_err(|e| unsound(Place::Whole, e.to_string()))?;
    let mut count = 0;
    for entry in entries {
        let mut entry = entry.map_err(|error| unsound(Place::Whole, error.to_string()))?;
        count += 1;
        if count > ENTRIES_MAX {
            let expected = format!("at most {ENTRIES_MAX} entries");
            let advice = "cut the archive in several";
            return Err(malformed(path, Place::Whole, expected, "more", advice));
        }
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let place = Place::Entry(shown.clone());
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory => continue,
            other => {
                let advice = "make the archive of plain files alone";
                let found = format!("{other:?}");
                return Err(malformed(path, place, "a file or a folder", found, advice));
            }
        }
        let Some(name) = plain_name(&shown) else {
            let expected = "a relative name without `..`";
            let advice = "do not use this archive: it reaches out of its folder";
            return Err(malformed(path, place, expected, format!("{shown:?}"), advice));
        };
        let mut bytes = Vec::new();
        entry
            .by_ref()
            .take(ENTRY_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unsound(place.clone(), error.to_string()))?;
        if bytes.len() as u64 > ENTRY_BYTES_MAX {
            let expected = format!("at most {ENTRY_BYTES_MAX} bytes");
            return Err(malformed(path, place, expected, "more", "leave the entry out"));
        }
        // The library ends quietly where the archive does.
        if (bytes.len() as u64) < entry.size() {
            let found = format!("its end after {} of {} bytes", bytes.len(), entry.size());
            return Err(unsound(place, found));
        }
        take(&name, bytes)?;
    }
    if count == 0 {
        let advice = "check that the right file is named";
        return Err(malformed(path, Place::Whole, "an archive of files", "none", advice));
    }
    file.finish().map(|_| ())
}

/// The last part of a name all of whose parts are plain.
fn plain_name(name: &str) -> Option<String> {
    let path = Path::new(name);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(plain) {
        return None;
    }
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}
