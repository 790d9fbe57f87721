//! Recordings as features, and those that are none.

use std::io::Cursor;

use crate::Wanted;
use crate::fixture::{Folder, gzip, numbers, says};

fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).expect("writer");
    samples.iter().for_each(|&sample| writer.write_sample(sample).expect("sample"));
    writer.finalize().expect("finish");
    bytes.into_inner()
}

fn noise(count: usize) -> Vec<i16> {
    (0..count).map(|at| ((at * at * 31) % 20_000) as i16 - 10_000).collect()
}

const TABLE: &str = "format = \"wav\"\nfolder = \"f\"\nclasses = 2\nsample_rate = 8000\nmels = 4\n";

#[test]
fn recordings_have_fixed_steps_and_their_lengths() {
    let folder = Folder::new();
    folder.file("f/0/long.wav", wav(8000, 1, &noise(8000)));
    folder.file("f/1/short.wav.gz", gzip(&wav(8000, 1, &noise(360))));
    let opened = folder.open(&format!("{TABLE}steps = 10\n")).expect("recordings");
    let data = opened.train.as_ref().expect("train");
    assert_eq!((data.shape(), data.labels()), ([10, 4].as_slice(), Some(vec![0, 1])));
    // 200 samples a frame, 80 a hop: three frames.
    assert_eq!(data.gather(&[1, 0]).expect("both").lengths, [3, 10]);
    let values = numbers(data);
    assert!(values[..40].iter().all(|value| *value != 0.0));
    assert!(values[52..].iter().all(|value| *value == 0.0));
    assert_eq!(opened.notes.train.as_ref().expect("notes").cut_rows, 1);

    let wanted = Wanted { shape: Some(vec![1, 4, 12]), ..Wanted::default() };
    let picture = folder.open_for(TABLE, &wanted).expect("a picture").train.expect("train");
    assert_eq!(numbers(&picture)[..2], [values[0], values[4]]);
    says(&folder.refusal(TABLE), &["a number of steps", "give `steps`"]);
    // Two equal channels are the same as one.
    let twice: Vec<i16> = noise(360).iter().flat_map(|&sample| [sample, sample]).collect();
    folder.file("f/1/short.wav.gz", wav(8000, 2, &twice));
    assert_eq!(numbers(&folder.train(&format!("{TABLE}steps = 10\n"))), values);
}

#[test]
fn what_is_no_recording_is_named() {
    let folder = Folder::new();
    let table = format!("{TABLE}steps = 10\n");
    folder.file("f/0/a.wav", wav(16_000, 1, &noise(100)));
    let message = folder.refusal(&table);
    says(&message, &["a.wav: expected 8000 samples a second, found 16000; resample"]);
    let whole = wav(8000, 1, &noise(100));
    folder.file("f/0/a.wav", &whole[..whole.len() - 51]);
    says(&folder.refusal(&table), &["a.wav: expected a sound wav file", "fetch or copy"]);
    folder.file("f/0/a.wav", "RIFX");
    says(&folder.refusal(&table), &["a.wav: expected a sound wav file"]);
    folder.file("f/0/a.wav", wav(8000, 1, &[]));
    says(&folder.refusal(&table), &["a.wav: expected at least one sample, found none"]);
    // A header that promises four gigabytes allocates nothing.
    let mut lies = whole.clone();
    lies[40..44].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
    folder.file("f/0/a.wav", lies);
    says(&folder.refusal(&table), &["a.wav: expected a sound wav file"]);
}
