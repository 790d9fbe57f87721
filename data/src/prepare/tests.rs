//! Archives turned into files that the readers know, and archives that nobody should unpack.

use super::{PlayOptions, RecordingOptions, prepare_plays, prepare_recordings};
use crate::fixture::{Folder, gzip, message, says, tokens};

fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        // Written by hand: the library refuses names that a hostile archive has.
        let field = &mut header.as_mut_bytes()[..100];
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        builder.append(&header, *bytes).expect("entry");
    }
    builder.into_inner().expect("archive")
}

const PLAY: &str = "<?xml version=\"1.0\"?>\n<!DOCTYPE PLAY SYSTEM \"play.dtd\">\n<PLAY>\
    <TITLE>A Play</TITLE>\
    <SPEECH><SPEAKER>ANN</SPEAKER><LINE>one</LINE><LINE>two <STAGEDIR>aside</STAGEDIR></LINE></SPEECH>\
    <SPEECH><SPEAKER>BOB</SPEAKER><LINE>only</LINE></SPEECH>\
    <SPEECH><SPEAKER>ANN</SPEAKER><SPEAKER>BOB</SPEAKER><LINE>three</LINE></SPEECH></PLAY>";
const TEI: &str = "<TEI xmlns=\"http://www.tei-c.org/ns/1.0\"><title>B</title><sp who=\"#eve\">\
    <l>a</l></sp><sp><speaker>Eve</speaker><p>b</p></sp><sp who=\"#eve\"><l>c</l></sp></TEI>";

#[test]
fn plays_become_one_text_a_role_cut_by_time() {
    let folder = Folder::new();
    let entries: [(&str, &[u8]); 3] =
        [("p/a.xml", PLAY.as_bytes()), ("p/b.xml", TEI.as_bytes()), ("p/README", b"hello")];
    let archive = folder.file("plays.tar.gz", gzip(&tar(&entries)));
    let out = folder.path().join("out");
    let options = PlayOptions { speeches_min: 2, evaluate_fraction: 0.4 };
    let prepared = prepare_plays(&archive, &out, &options).expect("plays");
    assert_eq!((prepared.clients, prepared.skipped), (3, 1));
    assert_eq!((prepared.train_rows, prepared.evaluate_rows), (3, 1));
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect("written");
    let train = "{\"client\":\"A Play/ANN\",\"text\":\"one\\ntwo\\n\"}\n\
                 {\"client\":\"A Play/BOB\",\"text\":\"only\\nthree\\n\"}\n\
                 {\"client\":\"B/eve\",\"text\":\"a\\nc\\n\"}\n";
    assert_eq!(read("train.jsonl"), train);
    assert_eq!(read("evaluate.jsonl"), "{\"client\":\"A Play/ANN\",\"text\":\"three\\n\"}\n");

    let table = "format = \"jsonl\"\nfile = \"out/train.jsonl\"\ntext_column = \"text\"\n\
                 client_column = \"client\"\nclient = \"B/eve\"\nsteps = 2\n[tokens]\n\
                 by = \"characters\"\nalphabet = \"ac\\n\"\n";
    assert_eq!(tokens(&folder.train(table)), [2, 4, 3, 0]);
}

#[test]
fn recordings_become_indexes_by_what_their_names_say() {
    let folder = Folder::new();
    let entries: [(&str, &[u8]); 4] = [
        ("r/7_theo_12.wav", b"RIFF1"),
        ("r/7_theo_0.wav", b"RIFF2"),
        ("r/3_a,b_5.wav", b"RIFF3"),
        ("r/LICENSE", b"free"),
    ];
    let archive = folder.file("r.tar", tar(&entries));
    let out = folder.path().join("out");
    let pattern = "{label}_{client}_{index}".parse().expect("pattern");
    let options = RecordingOptions { pattern, evaluate_below: 5 };
    let prepared = prepare_recordings(&archive, &out, &options).expect("recordings");
    assert_eq!((prepared.train_rows, prepared.evaluate_rows, prepared.clients), (2, 1, 2));
    let index = std::fs::read_to_string(out.join("train.csv")).expect("written");
    let expected = "file,label,client\n\"recordings/3_a,b_5.wav\",3,\"a,b\"\n\
                    recordings/7_theo_12.wav,7,theo\n";
    assert_eq!(index, expected);
    let recording = std::fs::read(out.join("recordings/7_theo_0.wav")).expect("written");
    assert_eq!(recording, b"RIFF2");

    let other =
        RecordingOptions { pattern: "{client}-{label}".parse().expect("pattern"), ..options };
    let refused = message(prepare_recordings(&archive, &out, &other));
    says(&refused, &["in `7_theo_12.wav`: expected a name as {client}-{label}.wav"]);
    for wrong in ["", "{client}", "{label}{client}", "{label", "{lable}"] {
        assert!(wrong.parse::<super::recordings::Pattern>().is_err(), "{wrong}");
    }
}

#[test]
fn an_archive_that_reaches_out_of_its_folder_is_refused() {
    let folder = Folder::new();
    let refused = |name: &str| {
        let archive = folder.file("bad.tar", tar(&[(name, b"<PLAY/>")]));
        message(prepare_plays(&archive, &folder.path().join("out"), &PlayOptions::default()))
    };
    says(&refused("../../evil.xml"), &["expected a relative name without `..`", "do not use"]);
    says(&refused("/evil.xml"), &["expected a relative name without `..`"]);
    says(&refused("a.xml"), &["bad.tar in `a.xml`: expected a play in XML, found no speech"]);
    let bytes = tar(&[("a.xml", PLAY.as_bytes())]);
    let cut = folder.file("cut.tar", &bytes[..600]);
    let message = message(prepare_plays(&cut, folder.path(), &PlayOptions::default()));
    says(&message, &["cut.tar", "expected a sound tar archive", "fetch or copy"]);
}

#[test]
fn entities_that_grow_are_refused() {
    let folder = Folder::new();
    let mut play = "<!DOCTYPE PLAY [<!ENTITY a \"ha\">".to_owned();
    for (name, of) in ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip("abcdefgh".chars()) {
        play += &format!("<!ENTITY {name} \"{}\">", format!("&{of};").repeat(20));
    }
    play += "]><PLAY><SPEECH><SPEAKER>A</SPEAKER><LINE>&i;</LINE></SPEECH></PLAY>";
    let archive = folder.file("bomb.tar", tar(&[("a.xml", play.as_bytes())]));
    let refused = message(prepare_plays(&archive, folder.path(), &PlayOptions::default()));
    says(&refused, &["bomb.tar in `a.xml`: expected a play in XML"]);
}
