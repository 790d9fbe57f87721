//! Every format with bytes changed and with its end cut off: an answer comes each time, a data set
//! or a refusal that names the file, and never a panic.

use std::io::{Cursor, Write};

use crate::fixture::{Folder, gzip, says};
use crate::prepare::{PlayOptions, prepare_plays};

/// Opens the table with many damaged copies of the file.
fn survive(table: &str, name: &str, whole: &[u8]) {
    let folder = Folder::new();
    let try_with = |bytes: &[u8]| {
        folder.file(name, bytes);
        if let Err(error) = folder.open(table) {
            let message = error.to_string();
            assert!(message.contains("; "), "no advice in {message}");
        }
    };
    folder.file(name, whole);
    folder.open(table).expect("the whole file is sound");
    damaged(whole, try_with);
}

fn damaged(whole: &[u8], mut each: impl FnMut(&[u8])) {
    let step = whole.len() / 150 + 1;
    for at in (0..whole.len()).step_by(step) {
        each(&whole[..at]);
        for flip in [0xff, 0x01, 0x80] {
            let mut broken = whole.to_vec();
            broken[at] ^= flip;
            each(&broken);
        }
    }
}

#[test]
fn rows_survive_damage() {
    let rows = "age,sick\n50,1\n\"61\",0\n";
    let table = "format = \"csv\"\nfile = \"a\"\nclasses = 2\nlabel_column = \"sick\"\n";
    survive(table, "a", rows.as_bytes());
    survive(table, "a", &gzip(rows.as_bytes()));
    let lines = "{\"x\": \"good \\u00e4\", \"y\": 1}\n{\"x\": \"b\", \"y\": 0}\n";
    let table = "format = \"jsonl\"\nfile = \"a\"\nclasses = 2\nlabel_column = \"y\"\n\
                 text_column = \"x\"\nsteps = 3\n[tokens]\nby = \"characters\"\n\
                 alphabet = \"ascii\"\n";
    survive(table, "a", lines.as_bytes());
}

#[test]
fn arrays_survive_damage() {
    let header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }\n";
    let values: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let length = (header.len() as u16).to_le_bytes();
    let array = [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), &values].concat();
    let table = "format = \"npy\"\ninputs = \"a\"\ntargets = \"a\"\n";
    survive(table, "a", &array);
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let packed = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("x.npy", packed).expect("entry");
    archive.write_all(&array).expect("write");
    let bytes = archive.finish().expect("archive").into_inner();
    let table = "format = \"npz\"\nfile = \"a\"\ninputs = \"x\"\ntargets = \"x\"\n";
    survive(table, "a", &bytes);
}

/// The bytes of a wav of 16 bits a value, 8,000 a second.
fn recording(channels: u16, values: impl Iterator<Item = i16>) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).expect("writer");
    values.for_each(|value| writer.write_sample(value).expect("sample"));
    writer.finalize().expect("finish");
    bytes.into_inner()
}

#[test]
fn recordings_survive_damage() {
    let bytes = recording(2, (0..64).map(|at| at * 100));
    let table = "format = \"wav\"\nfolder = \"f\"\nclasses = 2\nsample_rate = 8000\nmels = 4\n\
                 steps = 3\n";
    survive(table, "f/0/a.wav", &bytes);
}

#[cfg(feature = "images")]
#[test]
fn pictures_survive_damage() {
    use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
    let table = "format = \"images\"\nfolder = \"f\"\nclasses = 2\nsize = 4\n";
    let colours = RgbImage::from_fn(12, 9, |x, y| Rgb([x as u8 * 20, y as u8 * 20, 7]));
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageRgb8(colours.clone()).write_to(&mut bytes, format).expect("encode");
        survive(table, "f/0/a.png", bytes.get_ref());
    }
}

#[test]
fn archives_survive_damage() {
    let play = b"<PLAY><TITLE>T</TITLE><SPEECH><SPEAKER>A</SPEAKER><LINE>b</LINE></SPEECH></PLAY>";
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(play.len() as u64);
    header.set_cksum();
    builder.append_data(&mut header, "a.xml", play.as_slice()).expect("entry");
    let whole = builder.into_inner().expect("archive");
    let folder = Folder::new();
    let mut survived = 0;
    damaged(&whole, |bytes| {
        let archive = folder.file("a.tar", bytes);
        let options = PlayOptions::default();
        let result = prepare_plays(&archive, &folder.path().join("out"), &options);
        survived += usize::from(result.is_ok());
    });
    assert!(survived > 0, "bytes that mean nothing may change");
}

/// An empty file and the first half of one: the file is named, with what was expected and found.
fn cut_short(table: &str, name: &str, whole: &[u8]) {
    let folder = Folder::new();
    let last = name.rsplit('/').next().unwrap_or(name);
    for bytes in [&[][..], &whole[..whole.len() / 2]] {
        folder.file(name, bytes);
        let message = folder.refusal(table);
        says(&message, &[last, "expected ", ", found ", "; "]);
    }
}

#[test]
fn empty_and_truncated_files_are_named_with_what_was_expected() {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";
    let length = (header.len() as u16).to_le_bytes();
    let array = [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), &[0; 16]].concat();
    cut_short("format = \"npy\"\ninputs = \"a.npy\"\ntargets = \"a.npy\"\n", "a.npy", &array);
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let packed = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("x.npy", packed).expect("entry");
    archive.write_all(&array).expect("write");
    let bytes = archive.finish().expect("archive").into_inner();
    let table = "format = \"npz\"\nfile = \"a.npz\"\ninputs = \"x\"\ntargets = \"x\"\n";
    cut_short(table, "a.npz", &bytes);
    cut_short(table, "a.npz", &gzip(&bytes));
    let cifar = "format = \"cifar\"\nfile = \"batch.bin\"\n";
    cut_short(cifar, "batch.bin", &[1; 3073]);
    let wav = recording(1, (0..400).map(|at| at * 9));
    let table = "format = \"wav\"\nfolder = \"f\"\nclasses = 2\nsample_rate = 8000\nsteps = 3\n";
    cut_short(table, "f/0/a.wav", &wav);
    let table = "format = \"text\"\nfile = \"a.txt\"\nsteps = 3\n[tokens]\nby = \"words\"\n\
                 vocabulary = [\"a\"]\n";
    // Half of a text is a text; half of a character, or of a gzip stream, is none.
    cut_short(table, "a.txt", "ä".as_bytes());
    cut_short(table, "a.txt", &gzip(b"a b c d e f"));
}
