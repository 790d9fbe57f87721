//! CIFAR's binary files: records of a label (two for CIFAR-100: coarse, fine) and 3,072 bytes of
//! pixels, one channel of 32 × 32 behind the other.

use std::path::{Path, PathBuf};

use super::file::{FETCH_AGAIN, SiteFile, malformed};
use super::label::LabelMap;
use super::loaded::{Loaded, held};
use super::normalise::Normalise;
use super::store::{Builder, Room};
use super::{DataError, Dataset, Place};

/// Channels, rows and columns of every picture.
pub const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = SHAPE[0] * SHAPE[1] * SHAPE[2];

/// Which labels a record has, and which is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// CIFAR-10: one label.
    Ten,
    /// CIFAR-100, the label of 20 groups.
    Coarse,
    /// CIFAR-100, the label of 100 classes.
    Fine,
}

impl Variant {
    /// How many classes the variant has.
    #[must_use]
    pub fn classes(self) -> u32 {
        match self {
            Self::Ten => 10,
            Self::Coarse => 20,
            Self::Fine => 100,
        }
    }

    /// Bytes of labels in a record, and which of them is read.
    fn labels(self) -> (usize, usize) {
        match self {
            Self::Ten => (1, 0),
            Self::Coarse => (2, 0),
            Self::Fine => (2, 1),
        }
    }
}

/// Reads files as examples of shape `[3, 32, 32]`, bytes.
///
/// # Errors
/// On a file that is not whole records, and on a label that is no class.
pub(crate) fn load(
    files: &[PathBuf],
    variant: Variant,
    normalise: Option<&Normalise>,
    room: &Room,
) -> Result<Loaded, DataError> {
    let (head, at) = variant.labels();
    let record = head + PIXELS;
    let map = LabelMap::Numbers { classes: variant.classes(), first: 0 };
    let (mut labels, mut stamps) = (Vec::new(), Vec::new());
    let mut pixels = Builder::new(room);
    let mut row = Vec::with_capacity(record);
    for path in files {
        let mut file = SiteFile::open(path)?;
        if file.ready()?.is_empty() {
            let expected = format!("records of {record} bytes");
            let advice = "check that the right file is named";
            return Err(malformed(path, Place::Byte(0), expected, "an empty file", advice));
        }
        loop {
            let start = file.offset();
            row.clear();
            while row.len() < record {
                let more = (record - row.len()) as u64;
                let each = &mut |some: &[u8]| {
                    row.extend_from_slice(some);
                    Ok(())
                };
                if file.piece(more, each)? == 0 {
                    break;
                }
            }
            if row.is_empty() {
                break;
            }
            if row.len() != record {
                let expected = format!("records of {record} bytes");
                let found = format!("{} bytes in the last", row.len());
                return Err(malformed(path, Place::Byte(start), expected, found, FETCH_AGAIN));
            }
            let class = map.class_of_number(i64::from(row[at])).ok_or_else(|| {
                let place = Place::Byte(start + at as u64);
                let advice = "check `variant`: cifar10, cifar100_coarse or cifar100_fine";
                malformed(path, place, map.expected(), row[at].to_string(), advice)
            })?;
            labels.push(class);
            pixels.push(&row[head..]).map_err(held(path))?;
        }
        stamps.push(file.finish()?);
    }
    let first = files.first().map_or(Path::new(""), PathBuf::as_path);
    let pixels = pixels.finish().map_err(held(first))?;
    let data = Dataset::of_pixels(pixels, labels, &SHAPE, variant.classes(), normalise);
    Ok(Loaded::new(data.map_err(held(first))?, stamps))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Variant, load};
    use crate::Inputs;
    use crate::store::Room;

    #[test]
    fn records_read_and_damage_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, bytes: &[u8]| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("write");
            path
        };
        let record = |label: u8, pixel: u8| [vec![label], vec![pixel; 3072]].concat();
        let good = write("a.bin", &[record(3, 255), record(9, 0)].concat());
        let loaded =
            load(&[good.clone(), good], Variant::Ten, None, &Room::default()).expect("good");
        assert_eq!(loaded.data.labels(), Some(vec![3, 9, 3, 9]));
        let batch = loaded.data.gather(&[2]).expect("third");
        assert_eq!(batch.inputs, Inputs::Floats(vec![1.0; 3072]));

        let cut = write("cut.bin", &record(3, 0)[..100]);
        let message =
            load(&[cut], Variant::Ten, None, &Room::default()).expect_err("cut").to_string();
        assert!(message.contains("cut.bin at byte 0: expected records of 3073"), "{message}");
        let wild = write("wild.bin", &[record(3, 0), record(10, 0)].concat());
        let message =
            load(&[wild], Variant::Ten, None, &Room::default()).expect_err("label").to_string();
        assert!(
            message.contains("at byte 3073: expected a label from 0 to 9, found 10"),
            "{message}"
        );
        let fine = write("fine.bin", &[vec![1, 99], vec![7; 3072]].concat());
        let loaded = load(&[fine], Variant::Fine, None, &Room::default()).expect("fine");
        assert_eq!((loaded.data.labels(), loaded.data.classes()), (Some(vec![99]), 100));
    }
}
