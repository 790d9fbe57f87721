//! Pictures in files of their own, PNG or JPEG: decoded within limits, made grey or coloured,
//! resized to one size.

use super::DataError;
use super::label::LabelMap;
use super::listing::Listing;
use super::loaded::Loaded;
use super::normalise::Normalise;
use super::store::Room;

#[cfg(feature = "images")]
mod decode;

/// Largest file of one picture.
#[cfg(feature = "images")]
const FILE_BYTES_MAX: u64 = 64 << 20;
#[cfg(feature = "images")]
const ENDINGS: [&str; 3] = [".png", ".jpg", ".jpeg"];

/// What pictures become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// 1 for grey, 3 for red, green and blue.
    pub channels: usize,
    /// Rows and columns; none where all files have one size already.
    pub size: Option<(usize, usize)>,
}

/// Reads pictures as examples of shape `[channels, rows, columns]`, which stay bytes.
#[cfg(feature = "images")]
pub(crate) fn load(
    listing: &Listing,
    map: &LabelMap,
    frame: Frame,
    normalise: Option<&Normalise>,
    room: &Room,
) -> Result<Loaded, DataError> {
    use super::Dataset;
    use super::file::SiteFile;
    use super::loaded::{Notes, held};
    use super::store::Builder;
    let listed = super::listing::list(listing, map, &ENDINGS)?;
    let (mut stamps, mut pixels) = (listed.stamps, Builder::new(room));
    let mut one = Vec::new();
    let mut size = frame.size;
    for path in &listed.files {
        let (bytes, stamp) = SiteFile::read_whole(path, FILE_BYTES_MAX)?;
        stamps.push(stamp);
        let picture = decode::decode(path, bytes)?;
        let found = decode::size_of(&picture);
        let wanted = *size.get_or_insert(found);
        if frame.size.is_none() && found != wanted {
            let expected = format!("{} × {} pixels, as the first picture", wanted.1, wanted.0);
            let found = format!("{} × {}", found.1, found.0);
            let advice = "give `size = [rows, columns]` in [data] to resize all pictures";
            let whole = super::Place::Whole;
            return Err(super::file::malformed(path, whole, expected, found, advice));
        }
        one.clear();
        decode::push(&mut one, &picture, frame.channels, wanted);
        pixels.push(&one).map_err(held(path))?;
    }
    let (rows, columns) = size.unwrap_or((0, 0));
    let shape = [frame.channels, rows, columns];
    let first = listed.files.first().cloned().unwrap_or_default();
    let pixels = pixels.finish().map_err(held(&first))?;
    let data = Dataset::of_pixels(pixels, listed.classes, &shape, map.classes(), normalise);
    let notes = Notes { files: stamps, skipped_files: listed.skipped, ..Notes::default() };
    Ok(Loaded { data: data.map_err(held(&first))?, clients: listed.clients, notes })
}

/// This build has no decoder.
#[cfg(not(feature = "images"))]
pub(crate) fn load(
    _: &Listing,
    _: &LabelMap,
    _: Frame,
    _: Option<&Normalise>,
    _: &Room,
) -> Result<Loaded, DataError> {
    Err(DataError::NotBuilt { format: "PNG and JPEG pictures", feature: "images" })
}

#[cfg(all(test, feature = "images"))]
mod tests;
