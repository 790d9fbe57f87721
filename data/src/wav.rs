//! Recordings as examples: wav files as log-mel features, a fixed number of steps, each with its
//! length.

use std::path::Path;

use hound::{SampleFormat, WavReader};

use super::dataset::{Labels, check_finite};
use super::file::{FETCH_AGAIN, SiteFile, malformed};
use super::label::LabelMap;
use super::listing::{Listing, list};
use super::loaded::{Loaded, Notes, held};
use super::normalise::Normalise;
use super::store::{Builder, Room};
use super::{DataError, Dataset, Place};

mod mel;

use mel::MelBank;
pub use mel::MelConfig;

/// Most samples of a recording that are held, 8 bytes each: twelve minutes of CD sound. No more are
/// kept than the steps need.
const SAMPLES_MAX: usize = 1 << 25;
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
    room: &Room,
) -> Result<Loaded, DataError> {
    let listed = list(listing, map, &ENDINGS)?;
    let bank = MelBank::new(&recordings.mel);
    let (steps, mels) = (recordings.steps, recordings.mel.mels);
    let (mut values, mut lengths) = (Builder::new(room), Vec::new());
    let most = bank.samples(steps);
    let (mut stamps, mut cut_rows) = (listed.stamps, 0);
    for path in &listed.files {
        let mut file = SiteFile::open(path)?;
        let (samples, all) = samples(path, &mut file, recordings.mel.sample_rate, most)?;
        stamps.push(file.finish()?);
        let mut features = bank.features(&samples, steps);
        cut_rows += u64::from(bank.frames(all) > steps);
        lengths.push((features.len() / mels.max(1)) as u32);
        if let Some(constants) = normalise {
            constants.apply_last(&mut features, &[mels])?;
        }
        features.resize(steps * mels, 0.0);
        if recordings.layout != Layout::Steps {
            let of = |at: usize| features[(at % steps) * mels + at / steps];
            features = (0..steps * mels).map(of).collect();
        }
        check_finite(values.len(), &features).map_err(held(path))?;
        values.push(&features).map_err(held(path))?;
    }
    let first = listed.files.first().map_or(Path::new(""), |file| file.as_path());
    let shape: &[usize] = match recordings.layout {
        Layout::Steps => &[steps, mels],
        Layout::Channels => &[mels, steps],
        Layout::Picture => &[1, mels, steps],
    };
    let values = values.finish().map_err(held(first))?;
    let labels = Labels::classes(listed.classes, map.classes());
    let data = labels.and_then(|labels| Dataset::of_numbers(values, labels, shape));
    let data = match recordings.layout {
        Layout::Steps => data.and_then(|data| data.with_lengths(lengths)),
        Layout::Channels | Layout::Picture => data,
    };
    let skipped_files = listed.skipped;
    let notes = Notes { files: stamps, cut_rows, skipped_files, ..Notes::default() };
    Ok(Loaded { data: data.map_err(held(first))?, clients: listed.clients, notes })
}

/// A recording's first samples in [−1, 1], its channels mixed to one, and how many it has. All are
/// read, so that damage behind the first is seen too.
fn samples(
    path: &Path,
    file: &mut SiteFile,
    rate: u32,
    most: usize,
) -> Result<(Vec<f64>, usize), DataError> {
    let unsound = |error: hound::Error| {
        malformed(path, Place::Whole, "a sound wav file", error.to_string(), FETCH_AGAIN)
    };
    let reader = WavReader::new(file).map_err(unsound)?;
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
    let mut mixer = Mixer::new(path, usize::from(spec.channels), most);
    match spec.sample_format {
        SampleFormat::Int => {
            let scale = 2.0_f64.powi(i32::from(spec.bits_per_sample.clamp(1, 32)) - 1);
            for sample in reader.into_samples::<i32>() {
                mixer.push(f64::from(sample.map_err(unsound)?) / scale)?;
            }
        }
        SampleFormat::Float => {
            for sample in reader.into_samples::<f32>() {
                mixer.push(f64::from(sample.map_err(unsound)?))?;
            }
        }
    }
    mixer.finish()
}

/// Mixes the channels of a recording to one, sample by sample.
struct Mixer<'a> {
    path: &'a Path,
    channels: usize,
    /// How many mixed samples are kept.
    most: usize,
    kept: Vec<f64>,
    all: usize,
    /// The samples of the time that is not whole yet: their sum and number.
    open: (f64, usize),
    read: usize,
}

impl<'a> Mixer<'a> {
    fn new(path: &'a Path, channels: usize, most: usize) -> Self {
        Self { path, channels, most, kept: Vec::new(), all: 0, open: (0.0, 0), read: 0 }
    }

    fn push(&mut self, sample: f64) -> Result<(), DataError> {
        if !sample.is_finite() {
            let place = Place::Entry(format!("sample {}", self.read));
            let advice = "mend the recording, or leave it out";
            let found = sample.to_string();
            return Err(malformed(self.path, place, "a finite number", found, advice));
        }
        self.read += 1;
        self.open = (self.open.0 + sample, self.open.1 + 1);
        if self.open.1 == self.channels {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), DataError> {
        let (sum, _) = std::mem::take(&mut self.open);
        self.all += 1;
        if self.kept.len() == self.most {
            return Ok(());
        }
        if self.kept.len() == SAMPLES_MAX {
            let expected = format!("steps that need at most {SAMPLES_MAX} samples");
            let advice = "give fewer `steps`, or a shorter `hop_ms`";
            return Err(malformed(self.path, Place::Whole, expected, "more", advice));
        }
        self.kept.push(sum / self.channels as f64);
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<f64>, usize), DataError> {
        if self.open.1 > 0 {
            self.close()?;
        }
        if self.all == 0 {
            let advice = "leave the recording out";
            return Err(malformed(self.path, Place::Whole, "at least one sample", "none", advice));
        }
        Ok((self.kept, self.all))
    }
}

#[cfg(test)]
mod tests;
