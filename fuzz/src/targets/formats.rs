//! A site's files of rows, texts and arrays, by the tables that read them. (The files are the site's own,
//! and often came from somebody else.)

use std::io::{Cursor, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tributary_core::document::read_document;
use tributary_data::{Dataset, SourceConfig, Wanted, open};

use crate::{Target, Verdict};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "idx", run: idx, words: &["\0\0\u{8}\u{3}", "\0\0\u{8}\u{1}", "\u{1f}"] },
    Target { name: "cifar", run: cifar, words: &[] },
    Target { name: "csv", run: csv, words: ROWS },
    Target { name: "tsv", run: tsv, words: ROWS },
    Target { name: "jsonl", run: jsonl, words: ROWS },
    Target { name: "parquet", run: parquet, words: &["PAR1", "\u{15}", "\u{2c}", "schema"] },
    Target { name: "text", run: text, words: &["\r\n", "é", "\u{2028}", "\u{1f600}", " "] },
    Target { name: "tokenizer", run: tokenizer, words: TOKENIZER },
    Target { name: "npy", run: npy, words: NUMPY },
    Target { name: "npz", run: npz, words: NUMPY },
    Target { name: "gz", run: gz, words: &["\u{1f}\u{8b}\u{8}", "\0\0\0\0"] },
];

const ROWS: &[&str] = &[
    ",", "\t", "\n", "\r", "\"", "\"\"", "sick", "age", "nan", "inf", "-0", "1e39", "{", "}", "[",
    "\"x\":", "null", "\\ud800", "\u{feff}", "\0",
];
const TOKENIZER: &[&str] = &[
    "\"type\":",
    "\"WordLevel\"",
    "\"BPE\"",
    "\"Unigram\"",
    "\"WordPiece\"",
    "null",
    "[",
    "]",
    "{",
    "}",
    "\"Regex\":\"(a+)+$\"",
    "\"vocab\":",
    "\"merges\":",
    "4294967295",
    "-1",
    "\"truncation\":",
];
const NUMPY: &[&str] = &[
    "'descr': '<f4'",
    "'>f8'",
    "'|u1'",
    "'|O'",
    "'<U9'",
    "'fortran_order': True",
    "'shape': (",
    ")",
    "18446744073709551615,",
    "-1,",
    "0,",
    "PK\u{3}\u{4}",
    "PK\u{5}\u{6}",
    "x.npy",
    "\u{93}NUMPY",
];

/// How much a data set may hold here, in memory and in its scratch file: a file of 16 KiB may be a
/// compressed one of many more, and refusing it is right.
const ROOM: &str = "memory_mb = 8\nscratch_mb = 8\n";
/// Rows that are looked at.
const ROWS_READ: usize = 64;

/// Reads what a table names in a folder. What is refused says what to do; what is accepted can be read.
pub(super) fn read(folder: &Path, table: &str, files: &[(&str, &[u8])]) -> Verdict {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("room");
    }
    let table = format!("{ROOM}{table}");
    let config = read_document(&table, 1 << 20, |root| SourceConfig::read(root, folder));
    let config = config.expect("no fault").expect("a configuration");
    let opened = open(&config, &Wanted::default());
    match &opened {
        Ok(opened) => {
            let _ = (opened.summary(), opened.binding("data"));
            for data in [&opened.train, &opened.evaluate].into_iter().flatten() {
                look(data);
            }
        }
        Err(error) => assert!(error.to_string().contains("; "), "no advice in {error}"),
    }
    Verdict::of(&opened)
}

fn look(data: &Dataset) {
    let rows: Vec<usize> = (0..data.len().min(ROWS_READ)).collect();
    let _ = data.gather(&rows);
    if let Some(labels) = data.labels() {
        assert!(labels.iter().all(|label| *label < data.classes()), "{labels:?}");
    }
}

const IDX: &str = "format = \"idx\"\nclasses = 3\nimages = \"i\"\nlabels = \"l\"\n";
/// Two pictures of 3 × 2, and their labels.
const IDX_IMAGES: &[u8] = include_bytes!("../../corpus/idx/good-images");
const IDX_LABELS: &[u8] = include_bytes!("../../corpus/idx/good-labels");

/// Labels where the type says one dimension, and pictures otherwise.
fn idx(bytes: &[u8], folder: &Path) -> Verdict {
    match bytes.get(3) {
        Some(1) => read(folder, IDX, &[("i", IDX_IMAGES), ("l", bytes)]),
        _ => read(folder, IDX, &[("i", bytes), ("l", IDX_LABELS)]),
    }
}

/// By the first byte: labels of ten classes, of groups, of a hundred.
fn cifar(bytes: &[u8], folder: &Path) -> Verdict {
    let Some((how, bytes)) = bytes.split_first() else { return Verdict::Refused };
    let variant = ["cifar10", "cifar100_coarse", "cifar100_fine"][usize::from(how % 3)];
    let table = format!("format = \"cifar\"\nfile = \"a\"\nvariant = \"{variant}\"\n");
    read(folder, &table, &[("a", bytes)])
}

const TABLE: &str = "file = \"a\"\nclasses = 2\nlabel_column = \"sick\"\nmissing = \"flag\"\n\
                     fill = 0.0\nmissing_words = [\"\", \"?\"]\n";

fn csv(bytes: &[u8], folder: &Path) -> Verdict {
    read(folder, &format!("format = \"csv\"\n{TABLE}"), &[("a", bytes)])
}

/// Texts in the second column, to predict each next token.
fn tsv(bytes: &[u8], folder: &Path) -> Verdict {
    let table = "format = \"tsv\"\nfile = \"a\"\ntext_column = 1\nheader = false\nsteps = 3\n\
                 [tokens]\nby = \"words\"\nlowercase = true\nvocabulary = [\"good\", \"bad\"]\n";
    read(folder, table, &[("a", bytes)])
}

fn jsonl(bytes: &[u8], folder: &Path) -> Verdict {
    let table = "format = \"jsonl\"\nfile = \"a\"\nclasses = 2\nlabel_column = \"y\"\n\
                 text_column = \"x\"\nsteps = 3\n[tokens]\nby = \"characters\"\n\
                 alphabet = \"ascii\"\n";
    read(folder, table, &[("a", bytes)])
}

fn parquet(bytes: &[u8], folder: &Path) -> Verdict {
    let table = "format = \"parquet\"\nfile = \"a\"\nclass_names = [\"no\", \"yes\"]\n\
                 label_column = \"sick\"\nmissing = \"constant\"\nfill = -1\n";
    read(folder, table, &[("a", bytes)])
}

fn text(bytes: &[u8], folder: &Path) -> Verdict {
    let table = "format = \"text\"\nfile = \"a\"\nsteps = 3\n[tokens]\nby = \"characters\"\n\
                 alphabet = \"ascii\"\n";
    read(folder, table, &[("a", bytes)])
}

/// A `tokenizer.json` over a text that is right.
fn tokenizer(bytes: &[u8], folder: &Path) -> Verdict {
    let table = "format = \"text\"\nfile = \"a\"\nsteps = 3\n[tokens]\nby = \"tokenizer\"\n\
                 file = \"t\"\n";
    read(folder, table, &[("a", b"good and bad, bad and good"), ("t", bytes)])
}

fn npy(bytes: &[u8], folder: &Path) -> Verdict {
    let table = "format = \"npy\"\ninputs = \"a\"\ntargets = \"a\"\n";
    read(folder, table, &[("a", bytes)])
}

/// An archive where the bytes begin as one does; otherwise an array, which is packed in one, so that its
/// checksum is right.
fn npz(bytes: &[u8], folder: &Path) -> Verdict {
    let table = "format = \"npz\"\nfile = \"a\"\ninputs = \"x\"\ntargets = \"x\"\n";
    if bytes.starts_with(b"PK") {
        return read(folder, table, &[("a", bytes)]);
    }
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let packed = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("x.npy", packed).expect("an entry");
    archive.write_all(bytes).expect("in memory");
    let archive = archive.finish().expect("an archive").into_inner();
    read(folder, table, &[("a", &archive)])
}

/// A stream where the bytes begin as one does; otherwise rows, which are packed.
fn gz(bytes: &[u8], folder: &Path) -> Verdict {
    let table = format!("format = \"csv\"\n{TABLE}");
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return read(folder, &table, &[("a", bytes)]);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    read(folder, &table, &[("a", &encoder.finish().expect("in memory"))])
}
