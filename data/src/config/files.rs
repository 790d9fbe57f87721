//! Formats of many files: CIFAR's batches, pictures, recordings.
//!
//! ```toml
//! format = "cifar"                  # files, evaluate_files
//! files = ["data_batch_1.bin", "data_batch_2.bin"]
//! evaluate_file = "test_batch.bin"
//! variant = "cifar10"               # or "cifar100_coarse", "cifar100_fine"
//!
//! format = "images"                 # or "wav"
//! folder = "scans"                  # folders named after the classes; or
//! index = "train.csv"               # path_column, label_column, client_column
//! class_names = ["healthy", "ill"]  # or classes, first_label, label_above, or as the job says
//! size = [64, 64]                   # pictures: also channels; both by default as the job's shape
//! sample_rate = 8000                # recordings: also frame_ms, hop_ms, mels, low_hz, high_hz,
//! steps = 64                        # layout = "steps" | "channels" | "picture"
//! ```

use std::path::Path;

use toml::Value;
use tributary_core::document::{Section, show};

use super::{CifarFiles, Format, Parts, WavConfig, keys};
use crate::cifar::Variant;
use crate::listing::Listing;
use crate::rows::Column;
use crate::text::STEPS_MAX;
use crate::wav::{Layout, MelConfig};

/// Largest side of a picture that models train on.
const SIDE_MAX: i64 = 4096;
/// Sample rates from below telephones to above studios.
const RATE: std::ops::RangeInclusive<u32> = 1000..=400_000;
/// Longest frame or hop in milliseconds.
const FRAME_MS_MAX: f64 = 1000.0;
/// Most filters: more than a frame of speech has bins.
const MELS_MAX: u32 = 1024;

pub(super) fn read_cifar(section: &mut Section, base: &Path) -> Option<Format> {
    let words = [
        ("cifar10", Variant::Ten),
        ("cifar100_coarse", Variant::Coarse),
        ("cifar100_fine", Variant::Fine),
    ];
    let variant = section.choice("variant", &words, Some(Variant::Ten));
    let client = keys::column(section, "client_column");
    let files = keys::files(section, base);
    let mut groups = |key: &str| section.optional_text(key).map(|path| base.join(path));
    let (train, evaluate) = (groups("group_file"), groups("evaluate_group_file"));
    let parts = Parts {
        train: files.train.map(|files| CifarFiles { files, groups: train }),
        evaluate: files.evaluate.map(|files| CifarFiles { files, groups: evaluate }),
    };
    Some(Format::Cifar { parts, variant: variant?, client })
}

pub(super) fn read_images(section: &mut Section, base: &Path) -> Format {
    let parts = read_listings(section, base);
    let labels = keys::label_map(section);
    let words = 1..=3_u64;
    let channels = section.has("channels").then(|| section.integer("channels", words, None));
    if channels == Some(2) {
        section.fault("channels", "1 (grey) or 3 (colours)", "2");
    }
    let channels = channels.map(|channels| channels as usize);
    Format::Images { parts, labels, channels, size: read_size(section) }
}

fn read_size(section: &mut Section) -> Option<(usize, usize)> {
    let value = section.take("size")?;
    let side = |value: &Value| {
        let side = value.as_integer().filter(|side| (1..=SIDE_MAX).contains(side));
        side.and_then(|side| usize::try_from(side).ok())
    };
    let sides: Option<Vec<usize>> = match &value {
        Value::Array(list) => list.iter().map(side).collect(),
        one => side(one).map(|side| vec![side, side]),
    };
    match sides.as_deref() {
        Some(&[rows, columns]) => Some((rows, columns)),
        _ => {
            let expected = format!("[rows, columns], each from 1 to {SIDE_MAX}");
            section.fault("size", expected, show(&value));
            None
        }
    }
}

pub(super) fn read_wav(section: &mut Section, base: &Path) -> Format {
    let parts = read_listings(section, base);
    let labels = keys::label_map(section);
    let sample_rate = section.count("sample_rate", RATE, None);
    let half = f64::from(sample_rate) / 2.0;
    let mel = MelConfig {
        sample_rate,
        frame_ms: section.number("frame_ms", 1.0..=FRAME_MS_MAX, Some(25.0)),
        hop_ms: section.number("hop_ms", 0.5..=FRAME_MS_MAX, Some(10.0)),
        mels: section.count("mels", 1..=MELS_MAX, Some(40)) as usize,
        low_hz: section.number("low_hz", 0.0..=half, Some(20.0)),
        high_hz: section.number("high_hz", 0.0..=half, Some(half)),
    };
    if mel.high_hz <= mel.low_hz {
        let expected = format!("a frequency above `low_hz` ({})", mel.low_hz);
        section.fault("high_hz", expected, mel.high_hz.to_string());
    }
    let steps = section.has("steps").then(|| section.count("steps", 1..=STEPS_MAX, None) as usize);
    let words = [
        ("steps", Some(Layout::Steps)),
        ("channels", Some(Layout::Channels)),
        ("picture", Some(Layout::Picture)),
    ];
    let layout = section.choice("layout", &words, Some(None)).flatten();
    Format::Wav(Box::new(WavConfig { parts, labels, mel, steps, layout }))
}

/// `folder` or `index` with its columns, and the same for the rows to evaluate on.
fn read_listings(section: &mut Section, base: &Path) -> Parts<Listing> {
    let named = |column: Option<Column>, default: &str| {
        column.unwrap_or_else(|| Column::Name(default.to_owned()))
    };
    let path = named(keys::column(section, "path_column"), "file");
    let label = named(keys::column(section, "label_column"), "label");
    let client = keys::column(section, "client_column");
    let mut part = |prefix: &str| {
        let (folder, index) = (format!("{prefix}folder"), format!("{prefix}index"));
        match (section.optional_text(&folder), section.optional_text(&index)) {
            (Some(_), Some(_)) => {
                section.fault(&folder, format!("either `{folder}` or `{index}`"), "both");
                None
            }
            (Some(folder), None) => Some(Listing::Folder(base.join(folder))),
            (None, Some(index)) => Some(Listing::Index {
                file: base.join(index),
                path: path.clone(),
                label: label.clone(),
                client: client.clone(),
            }),
            (None, None) => None,
        }
    };
    Parts { train: part(""), evaluate: part("evaluate_") }
}
