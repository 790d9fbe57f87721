//! A site's pictures and recordings.

use std::path::Path;

use flate2::Crc;

use super::formats::read;
use crate::{Target, Verdict};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "images", run: images, words: PICTURES },
    Target { name: "wav", run: wav, words: &["RIFF", "WAVE", "fmt ", "data", "LIST", "fact"] },
];

const PICTURES: &[&str] = &["IHDR", "IDAT", "PLTE", "tRNS", "IEND", "acTL", "iCCP", "zTXt"];
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

fn images(bytes: &[u8], folder: &Path) -> Verdict {
    let table = "format = \"images\"\nfolder = \"f\"\nclasses = 2\nsize = 4\n";
    read(folder, table, &[("f/0/a.png", &with_checksums(bytes))])
}

fn wav(bytes: &[u8], folder: &Path) -> Verdict {
    let table = "format = \"wav\"\nfolder = \"f\"\nclasses = 2\nsample_rate = 8000\nmels = 4\n\
                 steps = 3\n";
    read(folder, table, &[("f/0/a.wav", bytes)])
}

/// A PNG whose chunks have right checksums: a mutation is to get behind them.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut fixed = bytes.to_vec();
    if !bytes.starts_with(PNG) {
        return fixed;
    }
    let mut at = PNG.len();
    while let Some(length) = fixed[at..].first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let end = at.saturating_add(8).saturating_add(length);
        let Some(chunk) = fixed.get(at + 4..end) else { break };
        let mut crc = Crc::new();
        crc.update(chunk);
        let sum = crc.sum().to_be_bytes();
        let Some(place) = fixed.get_mut(end..end + 4) else { break };
        place.copy_from_slice(&sum);
        at = end + 4;
    }
    fixed
}

#[cfg(test)]
mod tests {
    use super::{PNG, with_checksums};

    #[test]
    fn a_picture_with_right_checksums_stays_as_it_is() {
        let good = include_bytes!("../../corpus/images/good-png");
        assert!(good.starts_with(PNG));
        assert_eq!(with_checksums(good), good);
        let mut wrong = good.to_vec();
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        assert_eq!(with_checksums(&wrong), good);
        assert_eq!(with_checksums(&good[..40]).len(), 40);
    }
}
