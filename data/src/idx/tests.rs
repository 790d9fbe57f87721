//! Files that are right, and files that somebody damaged or made up.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Pictures, read_dataset, read_labels};
use crate::qmnist::read_writers;
use crate::store::Room;
use crate::{DataError, Dataset, Inputs, Targets};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("write");
        path
    }
}

fn idx(magic: [u8; 4], sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
    magic.into_iter().chain(sizes).chain(values.iter().copied()).collect()
}

fn read_images(file: &Path) -> Result<Pictures, DataError> {
    super::read_images(file, &Room::default())
}

fn images() -> Vec<u8> {
    idx([0, 0, 8, 3], &[2, 1, 3], &[0, 51, 102, 153, 204, 255])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

fn message(result: Result<impl Sized, DataError>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn plain_and_compressed_files_read_the_same() {
    let folder = Folder::new();
    let labels = folder.file("labels", &idx([0, 0, 8, 1], &[2], &[9, 3]));
    let plain = read_images(&folder.file("plain", &images())).expect("plain");
    // The bytes decide, not the name.
    let packed = read_images(&folder.file("no-ending", &gzip(&images()))).expect("gzip");
    let pixels = |of: &Pictures| of.pixels.slice(0..6).expect("pixels").into_owned();
    assert_eq!(pixels(&plain), pixels(&packed));
    assert_eq!((plain.count, plain.shape), (2, [1, 1, 3]));
    let data = read_dataset(&folder.file("images", &images()), &labels, 10).expect("data");
    assert_eq!((data.len(), data.shape(), data.classes()), (2, [1, 1, 3].as_slice(), 10));
    let batch = data.gather(&[1]).expect("one");
    assert_eq!(batch.inputs, Inputs::Floats(vec![0.6, 0.8, 1.0]));
    assert_eq!(batch.targets, Targets::Classes(vec![3]));
    let none = idx([0, 0, 8, 1], &[0], &[]);
    assert!(read_labels(&folder.file("none", &none), 10).expect("none").classes.is_empty());
}

#[test]
fn every_damage_is_named_with_file_offset_and_advice() {
    let folder = Folder::new();
    let read = |name: &str, bytes: &[u8]| message(read_images(&folder.file(name, bytes)));
    let whole = images();
    let cut = read("cut", &whole[..18]);
    assert!(cut.contains("cut at byte 18: expected 6 bytes of values"), "{cut}");
    assert!(cut.contains("found the end after 2; fetch or copy"), "{cut}");
    let head = read("head", &whole[..9]);
    assert!(head.contains("at byte 9: expected a size of four bytes"), "{head}");
    assert!(read("empty", &[]).contains("at byte 0: expected images"));
    let long = read("long", &[whole.as_slice(), &[1]].concat());
    assert!(long.contains("at byte 22: expected the end, after 6 bytes"), "{long}");
    let magic = read("labels", &idx([0, 0, 8, 1], &[2], &[1, 2]));
    assert!(magic.contains("at byte 0: expected images (00 00 08 03"), "{magic}");
    assert!(magic.contains("found 00 00 08 01; check that the right file"), "{magic}");
    let packed = gzip(&whole);
    let cut = read("cut.gz", &packed[..packed.len() - 12]);
    assert!(cut.contains("gzip stream"), "{cut}");
    let mut broken = packed.clone();
    let last = broken.len() - 6;
    broken[last] ^= 0xff;
    assert!(read("broken.gz", &broken).contains("a sound gzip stream"));
    let absent = message(read_images(&folder.0.path().join("absent")));
    assert!(absent.starts_with("cannot read") && absent.contains("absent"), "{absent}");
}

#[test]
fn labels_and_counts_are_judged() {
    let folder = Folder::new();
    let labels = folder.file("labels", &idx([0, 0, 8, 1], &[3], &[1, 9, 10]));
    let label = message(read_labels(&labels, 10));
    assert!(label.contains("at byte 10: expected a label below 10, found 10"), "{label}");
    let three = folder.file("three", &idx([0, 0, 8, 1], &[3], &[1, 2, 3]));
    let counts = message(read_dataset(&folder.file("images", &images()), &three, 10));
    assert!(counts.contains("three has 3 rows, but") && counts.contains("has 2"), "{counts}");
}

#[test]
fn a_header_that_lies_allocates_nothing() {
    let folder = Folder::new();
    let read = |bytes: &[u8]| message(read_images(&folder.file("lie", bytes)));
    // Two billion pictures: refused. 8 GiB of pixels promised, six bytes there: cut.
    assert!(read(&idx([0, 0, 8, 3], &[u32::MAX, 28, 28], &[])).contains("at byte 4"));
    assert!(read(&idx([0, 0, 8, 3], &[1 << 28, 1 << 14, 28], &[])).contains("at byte 12"));
    assert!(read(&idx([0, 0, 8, 3], &[1, 0, 28], &[])).contains("at byte 8"));
    let promised = idx([0, 0, 8, 3], &[1 << 20, 64, 128], &[0; 6]);
    assert!(read(&promised).contains("found the end after 6"));
    // A stream of 64 MiB of zeros behind a header of six bytes is read for seven of them.
    let bomb = [images(), vec![0; 64 << 20]].concat();
    assert!(read(&gzip(&bomb)).contains("at byte 22: expected the end"));
}

#[test]
fn a_writer_table_gives_the_third_column() {
    let folder = Folder::new();
    let rows = |writers: &[i32]| -> Vec<u8> {
        let row = |w: i32| [7, 0, w, 0, 37, 1, 0, 0].map(i32::to_be_bytes).concat();
        writers.iter().flat_map(|&writer| row(writer)).collect()
    };
    let table = |sizes: &[u32], writers: &[i32]| idx([0, 0, 12, 2], sizes, &rows(writers));
    let good = folder.file("table", &gzip(&table(&[3, 8], &[2100, 2101, 2100])));
    assert_eq!(read_writers(&good, 2).expect("writers"), [2100, 2101]);
    assert!(message(read_writers(&good, 4)).contains("at least 4 rows"));
    let negative = folder.file("negative", &table(&[2, 8], &[1, -5]));
    assert!(message(read_writers(&negative, 2)).contains("at byte 52"));
    let narrow = folder.file("narrow", &table(&[4, 4], &[1, 2]));
    assert!(message(read_writers(&narrow, 1)).contains("expected 8 columns, found 4"));
}

/// The real files, where the environment says where they are.
#[test]
fn mnist_reads_with_its_writers() {
    let Some(folder) = std::env::var_os("TRIBUTARY_DATA").map(PathBuf::from) else {
        println!("SKIP: set TRIBUTARY_DATA to a folder with mnist/ to read the real files");
        return;
    };
    let folder = folder.join("mnist");
    let read = |images: &str, labels: &str, table: &str| -> Dataset {
        let data = read_dataset(&folder.join(images), &folder.join(labels), 10).expect("mnist");
        let writers = read_writers(&folder.join(table), data.len()).expect("writers");
        data.with_writers(writers).expect("one each")
    };
    let train = read(
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "qmnist-train-labels-idx2-int.gz",
    );
    assert_eq!((train.len(), train.shape()), (60_000, [1, 28, 28].as_slice()));
    assert_eq!(train.labels().expect("classes")[..5], [5, 0, 4, 1, 9]);
    let writers: std::collections::BTreeSet<u32> =
        train.writers().expect("writers").into_iter().collect();
    assert_eq!(writers.len(), 539);
    let test = read(
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
        "qmnist-test-labels-idx2-int.gz",
    );
    let strangers: std::collections::BTreeSet<u32> =
        test.writers().expect("writers").into_iter().collect();
    assert_eq!((test.len(), strangers.len()), (10_000, 297));
    assert!(writers.is_disjoint(&strangers));
}
