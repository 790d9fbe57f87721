//! Recordings as examples: wav files as log-mel features, a fixed number of steps, each with its
//! length.

use std::io::Cursor;
use std::path::Path;

use hound::{SampleFormat, WavReader};

use super::file::{FETCH_AGAIN, SiteFile, malformed};
use super::label::LabelMap;
use super::listing::{Listing, list};
use super::loaded::{Loaded, Notes, check_room, held};
use super::normalise::Normalise;
use super::{DataError, Dataset, Place};

mod mel;

use mel::MelBank;
pub use mel::MelConfig;

/// Largest file: about an hour and a half of mono CD sound; features keep only `steps` of it.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Most channels that are mixed to one.
const CHANNELS_MAX: u16 = 16;
const ENDINGS: [&str; 1] = [".wav"];

/// How the features of a recording lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[steps, mels]` with lengths: for recurrent models.
    Steps,
    /// `[mels, steps]`: channels first, for convolutions over time.
    Channels,
    /// `[1, mels, steps]`: a grey picture, for convolutions over both.
    Picture,
}

/// What recordings become.
#[derive(Debug, Clone, PartialEq)]
pub struct Recordings {
    /// The features.
    pub mel: MelConfig,
    /// Steps of every example: longer recordings are cut, shorter ones padded with 0.
    pub steps: usize,
    /// How they lie.
    pub layout: Layout,
}

/// Reads recordings as log-mel features.
pub(crate) fn load(
    listing: &Listing,
    map: &LabelMap,
    recordings: &Recordings,
    normalise: Option<&Normalise>,
) -> Result<Loaded, DataError> {
    let listed = list(listing, map, &ENDINGS)?;
    let bank = MelBank::new(&recordings.mel);
    let (steps, mels) = (recordings.steps, recordings.mel.mels);
    let (mut values, mut lengths) = (Vec::new(), Vec::new());
    let (mut stamps, mut cut_rows) = (listed.stamps, 0);
    for path in &listed.files {
        let (bytes, stamp) = SiteFile::read_whole(path, FILE_BYTES_MAX)?;
        stamps.push(stamp);
        let samples = samples(path, bytes, recordings.mel.sample_rate)?;
        let mut features = bank.features(&samples, steps);
        cut_rows += u64::from(bank.frames(samples.len()) > steps);
        lengths.push((features.len() / mels.max(1)) as u32);
        if let Some(constants) = normalise {
            constants.apply_last(&mut features, &[mels])?;
        }
        features.resize(steps * mels, 0.0);
        match recordings.layout {
            Layout::Steps => values.extend_from_slice(&features),
            Layout::Channels | Layout::Picture => {
                let of = |at: usize| features[(at % steps) * mels + at / steps];
                values.extend((0..steps * mels).map(of));
            }
        }
        check_room(path, values.len())?;
    }
    let first = listed.files.first().map_or(Path::new(""), |file| file.as_path());
    let shape: &[usize] = match recordings.layout {
        Layout::Steps => &[steps, mels],
        Layout::Channels => &[mels, steps],
        Layout::Picture => &[1, mels, steps],
    };
    let data = Dataset::from_f32(values, listed.classes, shape, map.classes());
    let data = match recordings.layout {
        Layout::Steps => data.and_then(|data| data.with_lengths(lengths)),
        Layout::Channels | Layout::Picture => data,
    };
    let skipped_files = listed.skipped;
    let notes = Notes { files: stamps, cut_rows, skipped_files, ..Notes::default() };
    Ok(Loaded { data: data.map_err(held(first))?, clients: listed.clients, notes })
}

/// A recording's samples in [−1, 1], its channels mixed to one.
fn samples(path: &Path, bytes: Vec<u8>, rate: u32) -> Result<Vec<f64>, DataError> {
    let unsound = |error: hound::Error| {
        malformed(path, Place::Whole, "a sound wav file", error.to_string(), FETCH_AGAIN)
    };
    let mut reader = WavReader::new(Cursor::new(bytes)).map_err(unsound)?;
    let spec = reader.spec();
    if spec.sample_rate != rate {
        let expected = format!("{rate} samples a second");
        let advice = "resample the recordings, or correct `sample_rate` at every site";
        let found = spec.sample_rate.to_string();
        return Err(malformed(path, Place::Whole, expected, found, advice));
    }
    if !(1..=CHANNELS_MAX).contains(&spec.channels) {
        let expected = format!("1 to {CHANNELS_MAX} channels");
        let found = spec.channels.to_string();
        return Err(malformed(path, Place::Whole, expected, found, "mix the recording down"));
    }
    let all: Vec<f64> = match spec.sample_format {
        SampleFormat::Int => {
            let scale = 2.0_f64.powi(i32::from(spec.bits_per_sample.clamp(1, 32)) - 1);
            let samples = reader.samples::<i32>().map(|s| s.map(|s| f64::from(s) / scale));
            samples.collect::<Result<_, _>>().map_err(unsound)?
        }
        SampleFormat::Float => {
            let samples = reader.samples::<f32>().map(|sample| sample.map(f64::from));
            samples.collect::<Result<_, _>>().map_err(unsound)?
        }
    };
    if let Some(at) = all.iter().position(|sample| !sample.is_finite()) {
        let place = Place::Entry(format!("sample {at}"));
        let advice = "mend the recording, or leave it out";
        return Err(malformed(path, place, "a finite number", all[at].to_string(), advice));
    }
    if all.is_empty() {
        let advice = "leave the recording out";
        return Err(malformed(path, Place::Whole, "at least one sample", "none", advice));
    }
    let channels = usize::from(spec.channels);
    Ok(all.chunks(channels).map(|frame| frame.iter().sum::<f64>() / channels as f64).collect())
}

#[cfg(test)]
mod tests;
