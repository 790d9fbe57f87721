//! Pictures of every kind, and hostile ones.

use std::io::{Cursor, Write};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use crate::Wanted;
use crate::fixture::{Folder, gzip, numbers, says};

const TABLE: &str = "format = \"images\"\nfolder = \"f\"\nclass_names = [\"cat\", \"dog\"]\n";

fn picture(rows: u32, columns: u32, colour: [u8; 3], format: ImageFormat) -> Vec<u8> {
    let picture = DynamicImage::ImageRgb8(RgbImage::from_pixel(columns, rows, Rgb(colour)));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("encode");
    bytes.into_inner()
}

/// A grey picture of one bit a pixel, all black: small as a file, whatever its size.
fn bomb(rows: u32, columns: u32) -> Vec<u8> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let row = vec![0; 1 + columns.div_ceil(8) as usize];
    (0..rows).for_each(|_| packer.write_all(&row).expect("pack"));
    let header = [&columns.to_be_bytes()[..], &rows.to_be_bytes(), &[1, 0, 0, 0, 0]].concat();
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, body) in
        [(b"IHDR", header), (b"IDAT", packer.finish().expect("pack")), (b"IEND", Vec::new())]
    {
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        let mut sum = flate2::Crc::new();
        sum.update(name);
        sum.update(&body);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&sum.sum().to_be_bytes());
    }
    bytes
}

#[test]
fn pictures_are_resized_and_classed_by_their_folders() {
    let folder = Folder::new();
    folder.file("f/dog/b.png", picture(4, 6, [255, 0, 51], ImageFormat::Png));
    folder.file("f/cat/a.png.gz", gzip(&picture(2, 2, [0, 0, 0], ImageFormat::Png)));
    folder.file("f/cat/z.jpg", picture(8, 8, [255, 255, 255], ImageFormat::Jpeg));
    folder.file("f/cat/notes.txt", "no picture");
    folder.file("f/.hidden", "left by a tool");
    let opened = folder.open(&format!("{TABLE}size = [2, 1]\n")).expect("pictures");
    let data = opened.train.as_ref().expect("train");
    assert_eq!((data.shape(), data.labels()), ([3, 2, 1].as_slice(), Some(vec![0, 0, 1])));
    assert_eq!(numbers(data)[12..], [1.0, 1.0, 0.0, 0.0, 0.2, 0.2]);
    assert_eq!(opened.notes.train.as_ref().expect("notes").skipped_files, 1);
    // The job's shape is the size, and grey where it has one channel.
    let wanted = Wanted { shape: Some(vec![1, 4, 4]), ..Wanted::default() };
    let opened = folder.open_for(TABLE, &wanted).expect("pictures");
    assert_eq!(opened.train.expect("train").shape(), [1, 4, 4]);
    let message = folder.refusal(TABLE);
    says(
        &message,
        &["z.jpg: expected 2 × 2 pixels, as the first picture, found 8 × 8; give `size"],
    );
}

#[test]
fn an_index_names_files_classes_and_clients() {
    let folder = Folder::new();
    folder.file("p/1.png", picture(1, 1, [255, 0, 0], ImageFormat::Png));
    folder.file("index.csv", "file,label,who\np/1.png,dog,ann\np/1.png,cat,zoe\n");
    let table = TABLE.replace("folder = \"f\"", "index = \"index.csv\"\nclient_column = \"who\"");
    let opened = folder.open(&table).expect("pictures");
    assert_eq!(opened.clients, ["ann", "zoe"]);
    assert_eq!(opened.train.expect("train").labels(), Some(vec![1, 0]));
    folder.file("index.csv", "file,label,who\np/2.png,dog,ann\n");
    says(&folder.refusal(&table), &["cannot read", "2.png", "check the path"]);
    folder.file("index.csv", "file,label,who\np/1.png,cow,ann\n");
    let message = folder.refusal(&table);
    says(&message, &["index.csv at line 2, column `label`: expected one of the classes \"cat\""]);
}

#[test]
fn a_picture_of_400_million_pixels_is_refused_by_its_header() {
    let folder = Folder::new();
    let bytes = bomb(20_000, 20_000);
    assert!(bytes.len() < 1 << 20, "a small file");
    folder.file("f/dog/bomb.png", bytes);
    let message = folder.refusal(&format!("{TABLE}size = 8\n"));
    says(&message, &["bomb.png: expected a picture of 1 to 67108864 pixels"]);
    says(&message, &["found 20000 × 20000; make the picture smaller"]);
    folder.file("f/dog/bomb.png", bomb(30, 30));
    assert_eq!(folder.train(&format!("{TABLE}size = 8\nchannels = 1\n")).shape(), [1, 8, 8]);
}

#[test]
fn what_is_no_picture_is_named() {
    let folder = Folder::new();
    let table = format!("{TABLE}size = 2\n");
    let whole = picture(9, 9, [1, 2, 3], ImageFormat::Png);
    folder.file("f/dog/a.png", &whole[..whole.len() / 2]);
    says(
        &folder.refusal(&table),
        &["a.png: expected a sound PNG or JPEG picture", "fetch or copy"],
    );
    folder.file("f/dog/a.png", "GIF no, text");
    says(&folder.refusal(&table), &["a.png at byte 0: expected a PNG or JPEG picture", "convert"]);
    folder.file("f/dog/a.png", "");
    says(&folder.refusal(&table), &["a.png at byte 0: expected a file with bytes, found none"]);
    folder.file("f/cow/a.png", &whole);
    let message = folder.refusal(&table);
    says(&message, &["in `cow`: expected a folder for one of the classes \"cat\", \"dog\""]);
    let other = Folder::new();
    other.file("f/dog/readme.txt", "none");
    says(&other.refusal(&table), &["expected files that end in .png, .jpg, .jpeg, found none"]);
}
