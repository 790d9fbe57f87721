//! Arrays of every kind, and damaged ones.

use std::io::Write;
use std::path::Path;

use super::npy::{Header, Source};
use crate::fixture::{Folder, gzip, message, numbers, says};
use crate::{DataError, Targets};

/// An array file of version 1.
fn npy(descr: &str, fortran: bool, shape: &str, values: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), values].concat()
}

fn floats(shape: &str, values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    npy("<f4", false, shape, &bytes)
}

struct Bytes<'a>(&'a [u8]);

impl Source for Bytes<'_> {
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, DataError> {
        let some = into.len().min(self.0.len());
        into[..some].copy_from_slice(&self.0[..some]);
        self.0 = &self.0[some..];
        Ok(some)
    }
}

fn parse(file: &Path, bytes: &[u8]) -> Result<(Vec<usize>, Vec<f64>), DataError> {
    let mut source = Bytes(bytes);
    let header = Header::read(file, None, &mut source)?;
    let mut all = Vec::new();
    header.rows(&mut source, 1000, &mut |row| {
        all.extend_from_slice(row);
        Ok(())
    })?;
    Ok((header.shape, all))
}

const TABLE: &str = "format = \"npy\"\ninputs = \"x.npy\"\nlabels = \"y.npy\"\nclasses = 3\n\
                     first_label = 1\n";

fn labels(values: &[i16]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
    npy(">i2", false, &format!("({},)", values.len()), &bytes)
}

#[test]
fn values_of_every_kind_and_order_read_the_same() {
    let read = |bytes: &[u8]| parse(Path::new("a"), bytes).expect("array");
    let rows = read(&npy("|u1", false, "(2, 3)", &[1, 2, 3, 4, 5, 255]));
    let columns = read(&npy("|u1", true, "(2, 3)", &[1, 4, 2, 5, 3, 255]));
    assert_eq!(rows, columns);
    assert_eq!(rows.1, [1.0, 2.0, 3.0, 4.0, 5.0, 255.0]);
    assert_eq!(read(&npy("<i8", false, "(1,)", &(-7_i64).to_le_bytes())).1, [-7.0]);
    assert_eq!(read(&npy(">i4", false, "(1,)", &(-7_i32).to_be_bytes())).1, [-7.0]);
    assert_eq!(read(&npy(">f8", false, "(1,)", &0.1_f64.to_be_bytes())).1, [0.1]);
    assert_eq!(read(&npy("|i1", false, "()", &[0xff])).1, [-1.0]);
}

#[test]
fn arrays_with_labels_are_examples() {
    let folder = Folder::new();
    let values: Vec<f32> = (0..12).map(|at| at as f32).collect();
    folder.file("x.npy", gzip(&floats("(2, 3, 2)", &values)));
    folder.file("y.npy", labels(&[1, 3]));
    let data = folder.train(TABLE);
    assert_eq!((data.shape(), data.labels()), ([3, 2].as_slice(), Some(vec![0, 2])));
    let data = folder.train(&format!("{TABLE}transpose = true\n"));
    assert_eq!(data.shape(), [2, 3]);
    assert_eq!(numbers(&data)[..6], [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    let table = "format = \"npy\"\ninputs = \"x.npy\"\ntargets = \"y.npy\"\n";
    let data = folder.train(table);
    assert_eq!(data.gather(&[1]).expect("row").targets, Targets::Values(vec![3.0]));

    folder.file("y.csv", "who,what\nzoe,1\nann,2\n");
    let table = TABLE.replace("y.npy", "y.csv");
    let opened = folder.open(&format!("{table}label_column = \"what\"\nclient_column = \"who\"\n"));
    let opened = opened.expect("labels in text");
    assert_eq!(opened.clients, ["ann", "zoe"]);
    assert_eq!(opened.train.expect("train").writers(), Some(vec![1, 0]));
}

#[test]
fn entries_of_an_archive_are_arrays() {
    let folder = Folder::new();
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let packed = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in [("x.npy", floats("(1, 2)", &[1.0, 2.0])), ("y.npy", labels(&[2]))] {
        archive.start_file(name, packed).expect("entry");
        archive.write_all(&bytes).expect("write");
    }
    let bytes = archive.finish().expect("archive").into_inner();
    let table = "format = \"npz\"\nfile = \"a.npz\"\ninputs = \"x\"\nlabels = \"y\"\nclasses = 3\n";
    for bytes in [bytes.clone(), gzip(&bytes)] {
        folder.file("a.npz", bytes);
        assert_eq!(folder.train(table).labels(), Some(vec![2]));
    }
    let message = folder.refusal(&table.replace("\"y\"", "\"z\""));
    says(&message, &["a.npz: expected an array `z`, found ", "x.npy", "name an array"]);
    folder.file("a.npz", &bytes[..bytes.len() / 2]);
    says(&folder.refusal(table), &["a.npz: expected a sound .npz (a zip archive)"]);
}

#[test]
fn damage_is_named_with_its_place() {
    let whole = floats("(2,)", &[1.0, 2.0]);
    let refused = |bytes: &[u8]| message(parse(Path::new("a.npy"), bytes));
    says(&refused(b"PK\x03\x04"), &["a.npy at byte 0: expected an array (93 'NUMPY')"]);
    says(&refused(&whole[..7]), &["expected a version, found the end after 7 bytes"]);
    says(&refused(&whole[..30]), &["at byte 10: expected a whole header"]);
    let cut = refused(&whole[..whole.len() - 1]);
    says(&cut, &["expected 8 bytes of values for the shape [2], found 7; fetch"]);
    // A header that promises more than there is allocates nothing.
    let lies = npy("<f8", false, "(4000000000, 4000000000)", &[]);
    says(&refused(&lies), &["expected a shape whose values can be counted, found [4000000000, "]);
    let lies = npy("<f8", false, "(4000000000, 3)", &[1]);
    says(&refused(&lies), &["expected 96000000000 bytes of values for the shape", "found 1"]);
    let wide = npy("<f8", false, "(1, 4000000000)", &[1]);
    says(&refused(&wide), &["expected rows of at most 16777216 values, found 4000000000 in the"]);
    let turned = npy("|u1", true, "(64, 1)", &[1; 64]);
    says(&refused(&turned), &["expected an array in C order", "found Fortran's", "`memory_mb`"]);
    says(&refused(&[&whole[..], &[1]].concat()), &["expected 8 bytes of values", "found more"]);
    says(&refused(&npy("|O", false, "(1,)", &[])), &["header with 'descr' of numbers"]);
    let mut long = whole.clone();
    long[6] = 2;
    long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    says(&refused(&long), &["at byte 8: expected a header of at most 65536 bytes"]);
}

#[test]
fn values_that_are_no_examples_are_named() {
    let folder = Folder::new();
    folder.file("x.npy", floats("(2, 2)", &[1.0, 2.0, f32::NAN, 4.0]));
    folder.file("y.npy", labels(&[1, 3]));
    let message = folder.refusal(TABLE);
    says(
        &message,
        &["x.npy at row 1, column `value 0`: expected a finite number, found NaN; mend"],
    );
    folder.file("x.npy", floats("(2, 1)", &[1.0, 2.0]));
    folder.file("y.npy", labels(&[1, 4]));
    let message = folder.refusal(TABLE);
    says(&message, &["y.npy at row 1: expected a label from 1 to 3, found 4; correct the label"]);
    folder.file("y.npy", labels(&[1, 2, 3]));
    says(&folder.refusal(TABLE), &["y.npy has 3 rows, but", "x.npy has 2; name two files"]);
}
