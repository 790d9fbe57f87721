//! Every format beyond the budget of memory: the same rows, the same counts, the same draws.

use std::io::Cursor;

use crate::fixture::{Folder, gzip, parse};
use crate::store::Room;
use crate::{Opened, SourceConfig, Wanted, open};

/// Opens a table in memory, and with no memory for values at all.
fn both(folder: &Folder, table: &str) -> (Opened, Opened) {
    let config = parse(table, folder.path()).expect("configuration");
    let scratch = folder.path().join("scratch");
    let room = Room { memory_bytes: 0, scratch_dir: Some(scratch.clone()), ..Room::default() };
    let memory = open(&config, &Wanted::default()).expect("in memory");
    let disk = open(&SourceConfig { room, ..config }, &Wanted::default()).expect("on disk");
    assert!(std::fs::read_dir(scratch).expect("a scratch folder").next().is_none());
    (memory, disk)
}

fn same(folder: &Folder, table: &str) {
    let (memory, disk) = both(folder, table);
    assert_eq!(memory.summary().expect("summary"), disk.summary().expect("summary"), "{table}");
    for (memory, disk) in [(&memory.train, &disk.train), (&memory.evaluate, &disk.evaluate)] {
        let (Some(memory), Some(disk)) = (memory, disk) else {
            assert_eq!(memory.is_none(), disk.is_none());
            continue;
        };
        // The last first, so that reading is not only forwards.
        let rows: Vec<usize> = (0..memory.len()).rev().collect();
        assert_eq!(memory.gather(&rows).expect("rows"), disk.gather(&rows).expect("rows"));
        assert_eq!(memory.writers(), disk.writers());
    }
}

#[test]
fn tables_and_texts_are_the_same_on_disk() {
    let folder = Folder::new();
    let rows: String =
        (0..300).map(|row| format!("{row},{},w{},s{}\n", row % 2, row % 5, row % 3)).collect();
    folder.file("rows.csv", gzip(format!("age,sick,note,site\n{rows}").as_bytes()));
    let table = "format = \"csv\"\nfile = \"rows.csv\"\nlabel_column = \"sick\"\nclasses = 2\n\
                 client_column = \"site\"\n";
    let table = format!("{table}validation_fraction = 0.2\n");
    let numbers = format!("{table}features = [\"age\"]\n");
    same(&folder, &format!("{numbers}[normalise]\nmean = 150\ndeviation = 90\n"));
    let words = format!(
        "{table}text_column = \"note\"\nsteps = 3\n[tokens]\nby = \"words\"\n\
         vocabulary = [\"w1\", \"w2\"]\n"
    );
    same(&folder, &words);
    // Longer than a piece, with a character at its end that is not whole.
    folder.file("long.txt", "äbc\n".repeat(500_000));
    folder.file("short.txt", "cab");
    let running = "format = \"text\"\nfiles = [\"long.txt\", \"short.txt\"]\nsteps = 1000\n\
                   validation_fraction = 0.3\n[tokens]\n";
    same(&folder, &format!("{running}by = \"characters\"\nalphabet = \"äbc\"\n"));
    same(&folder, &format!("{running}by = \"words\"\nvocabulary = [\"äbc\"]\n"));
    let (memory, _) = both(&folder, &format!("{running}by = \"words\"\nvocabulary = [\"äbc\"]\n"));
    let notes = memory.notes.train.expect("notes");
    assert_eq!(notes.unknown_tokens, 1, "no word is cut where a piece ends");
}

#[test]
fn arrays_and_recordings_are_the_same_on_disk() {
    let folder = Folder::new();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 2, 3), }\n";
    let values: Vec<u8> = (0..36).flat_map(|v| (v as f32).to_le_bytes()).collect();
    let length = (header.len() as u16).to_le_bytes();
    folder.file("x.npy", [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), &values].concat());
    folder.file("y.csv", "what\n0\n1\n2\n0\n1\n2\n");
    let array = "format = \"npy\"\ninputs = \"x.npy\"\nlabels = \"y.csv\"\nclasses = 3\n\
                 label_column = \"what\"\ntranspose = true\n";
    same(&folder, array);
    same(&folder, &format!("{array}[normalise]\nmean = [1, 2, 3]\ndeviation = [4, 5, 6]\n"));

    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    for name in ["0/a.wav", "1/b.wav"] {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).expect("writer");
        (0..2000).for_each(|at| writer.write_sample((at * at % 9000) as i16).expect("sample"));
        writer.finalize().expect("finish");
        folder.file(&format!("f/{name}"), bytes.get_ref());
    }
    let wav = "format = \"wav\"\nfolder = \"f\"\nclasses = 2\nsample_rate = 8000\nmels = 4\n\
               steps = 9\n";
    same(&folder, wav);
    same(&folder, &format!("{wav}layout = \"picture\"\n"));
}

#[test]
fn pictures_are_the_same_on_disk() {
    let folder = Folder::new();
    let record = |label: u8| [vec![label], (0..3072).map(|at| (at % 256) as u8).collect()].concat();
    folder.file("batch.bin", (0..5).flat_map(record).collect::<Vec<u8>>());
    let cifar = "format = \"cifar\"\nfile = \"batch.bin\"\nvalidation_fraction = 0.4\n";
    same(&folder, cifar);
    let constants = "[normalise]\nmean = [0.5, 0.4, 0.3]\ndeviation = [0.2, 0.3, 0.4]\n";
    same(&folder, &format!("{cifar}{constants}"));
    let idx = |magic: [u8; 4], sizes: &[u32], values: &[u8]| {
        let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
        magic.into_iter().chain(sizes).chain(values.iter().copied()).collect::<Vec<u8>>()
    };
    folder.file("i.gz", gzip(&idx([0, 0, 8, 3], &[3, 1, 2], &[0, 51, 102, 153, 204, 255])));
    folder.file("l", idx([0, 0, 8, 1], &[3], &[2, 0, 1]));
    same(&folder, "format = \"idx\"\nimages = \"i.gz\"\nlabels = \"l\"\nclasses = 3\n");
    // Bytes are normalised as numbers are: byte ⁄ 255 first, in f64, rounded once.
    let (memory, _) = both(&folder, &format!("{cifar}{constants}"));
    let data = memory.train.expect("train");
    let crate::Inputs::Floats(values) = data.gather(&[0]).expect("row").inputs else { panic!() };
    let expected = |at: usize| {
        let mean = [0.5, 0.4, 0.3][at / 1024];
        let deviation = [0.2, 0.3, 0.4][at / 1024];
        ((f64::from((at % 256) as f32 / 255.0) - mean) / deviation) as f32
    };
    assert!((0..3072).all(|at| values[at] == expected(at)));
}
