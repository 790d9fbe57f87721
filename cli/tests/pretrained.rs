//! Jobs that start from a checkpoint: a pretrained folder trained whole, adapters on a frozen body, and
//! what another job made.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tributary_core::checkpoint;
use tributary_core::digest::Digest;
use tributary_core::spec::JobSpec;
use tributary_learning::Pretrained;

/// A small DistilBERT with Hugging Face's file layout, saved by its own library.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../learning/tests/fixtures/golden/lora/model")
}

const SIZES: &str = "dim = 12, n_heads = 3, n_layers = 2, hidden_dim = 20, \
                     max_position_embeddings = 16, vocab_size = 50";

fn spec(model: &str, rounds: u32) -> String {
    format!(
        "[job]\nname = \"words\"\nrounds = {rounds}\nseed = 5\n\
         [model]\npreset = \"distilbert\"\ninput = {{ tokens = 8 }}\n\
         config = {{ {SIZES}, dropout = 0.0, seq_classif_dropout = 0.0 }}\n{model}\n\
         [data]\nkind = \"text\"\nclasses = 2\nalphabet = \"abcdefghijklmnopqrstuvwxyz\"\n\
         [train]\nlocal_epochs = 2\nbatch_size = 8\n\
         optimizer = {{ kind = \"adam\", learning_rate = 0.01 }}\n\
         [cohort]\nmin_available_clients = 2\nexact_replay = true\n"
    )
}

/// Words in two classes that their first letter tells apart, and a client's file for them.
fn site(dir: &Path) {
    let word = |at: usize| -> String {
        let letter = |place: usize| char::from(b'a' + ((at * 7 + place * 11) % 13) as u8);
        let first = if at.is_multiple_of(2) { 'y' } else { 'z' };
        std::iter::once(first).chain((0..5).map(letter)).collect()
    };
    let line = |at: usize| format!("{{\"text\": \"{}\", \"class\": {}}}\n", word(at), at % 2);
    let rows: String = (0..120).map(line).collect();
    std::fs::write(dir.join("train.jsonl"), rows).expect("written");
    let rows: String = (200..240).map(line).collect();
    std::fs::write(dir.join("held-out.jsonl"), rows).expect("written");
    let text = "coordinator = \"http://127.0.0.1:1\"\nname = \"site\"\n\
                [data]\nname = \"words\"\nformat = \"jsonl\"\nfile = \"train.jsonl\"\n\
                evaluate_file = \"held-out.jsonl\"\ntext_column = \"text\"\n\
                label_column = \"class\"\nclasses = 2\n[data.tokens]\nby = \"characters\"\n";
    std::fs::write(dir.join("client.toml"), text).expect("written");
}

fn demo(dir: &Path, spec: &str, more: &[&str]) -> Output {
    site(dir);
    std::fs::write(dir.join("job.toml"), spec).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    command.args(["demo", "--spec", "job.toml", "--data", ".", "--clients", "2", "--dir", "run"]);
    command.args(["--output", "json"]).args(more).current_dir(dir);
    command.output().expect("the demo")
}

fn result(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn error(output: &Output) -> String {
    assert!(!output.status.success(), "it should fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn accuracy(result: &Value) -> f64 {
    result["test_accuracy"].as_f64().expect("an accuracy")
}

#[test]
fn a_pretrained_model_is_trained_whole_and_keeps_its_names() {
    let home = tempfile::tempdir().expect("a folder");
    let dir = home.path();
    let trained = result(&demo(dir, &spec("", 6), &["--init", &path(&folder())]));
    assert!(accuracy(&trained) > 0.9, "{trained:#}");

    // The job's spec names what it started from: the folder's tensors.
    let text = std::fs::read_to_string(dir.join("run/job.toml")).expect("the spec");
    let spec = JobSpec::parse(&text).expect("good");
    let start = Pretrained::open(&folder()).expect("opened").start(&spec.model, spec.seed);
    let start = start.expect("the folder's tensors");
    assert_eq!(spec.init, Some(Digest::of(&checkpoint::encode(&start))));

    // What came out has all of the folder's names, so that it can be loaded where that came from.
    let bytes = std::fs::read(dir.join("run/model.safetensors")).expect("a model");
    let model = checkpoint::decode(&bytes).expect("safetensors");
    assert_eq!(model.schema().tensors(), start.schema().tensors());
    let base = std::fs::read(folder().join("model.safetensors")).expect("the base");
    let base = checkpoint::decode(&base).expect("safetensors");
    let names = |set: &tributary_core::params::ParameterSet| {
        let names = set.schema().tensors().iter().map(|tensor| tensor.name.clone());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert!(names(&base).is_subset(&names(&model)));
    let word = "distilbert.embeddings.word_embeddings.weight";
    let values = |set: &tributary_core::params::ParameterSet| {
        let tensors = set.schema().tensors();
        let tensor = tensors.iter().find(|tensor| tensor.name == word).expect("a table");
        set.values()[tensor.offset..tensor.offset + tensor.len].to_vec()
    };
    assert_ne!(values(&model), values(&base), "the body is trained, too");
    // And it is where another job can start.
    let more = home.path().join("more");
    std::fs::create_dir(&more).expect("a folder");
    let init = path(&dir.join("run/model.safetensors"));
    let warm = result(&demo(&more, &self::spec("", 1), &["--init", &init]));
    let rounds = |result: &Value| result["rounds"].as_array().cloned().expect("rounds");
    let loss = |result: &Value, round: usize| rounds(result)[round]["loss"].as_f64().expect("loss");
    assert!(loss(&warm, 0) < loss(&trained, 0), "warm {warm:#}, cold {trained:#}");
}

#[test]
fn adapters_train_on_a_body_that_never_travels() {
    let home = tempfile::tempdir().expect("a folder");
    let dir = home.path();
    let base = Pretrained::open(&folder()).expect("opened").digest();
    let lora = format!("lora = {{ base = \"{base}\", rank = 2, alpha = 8 }}");
    let text = spec(&lora, 10);
    let trained = result(&demo(dir, &text, &["--model", &path(&folder())]));
    assert!(accuracy(&trained) > 0.9, "{trained:#}");

    let spec = JobSpec::parse(&text).expect("good");
    let (adapters, body) = (spec.model.schema(), spec.model.frozen_schema().expect("a body"));
    let bytes = std::fs::read(dir.join("run/model.safetensors")).expect("a model");
    let model = checkpoint::decode(&bytes).expect("safetensors");
    assert_eq!(model.schema().tensors(), adapters.tensors());
    // Two updates of a header and four bytes an adapter's value: nothing of the body is in them.
    let update = tributary_core::codec::update_len(adapters.len());
    for round in trained["rounds"].as_array().expect("rounds") {
        assert_eq!(round["bytes_up"].as_u64(), Some(2 * update), "{round:#}");
    }
    assert!(adapters.len() < body.len() / 4, "{} of {}", adapters.len(), body.len());

    // A curve is drawn with the body, too.
    let figure = home.path().join("figure");
    std::fs::create_dir(&figure).expect("a folder");
    let model = path(&folder());
    let more = ["--model", &model, "--figure", "curve.svg", "--rounds", "2"];
    let drawn = result(&demo(&figure, &text, &more));
    assert_eq!(drawn["curve"].as_array().map(Vec::len), Some(2), "{drawn:#}");
}

#[test]
fn what_a_job_cannot_start_from_is_named() {
    let home = tempfile::tempdir().expect("a folder");
    let dir = home.path();
    let base = Pretrained::open(&folder()).expect("opened").digest();
    let lora = spec(&format!("lora = {{ base = \"{base}\", rank = 2 }}"), 1);
    let told = error(&demo(dir, &lora, &["--init", &path(&folder())]));
    assert!(told.contains("trained whole, found adapters"), "{told}");

    let wide = spec("", 1).replace("hidden_dim = 20", "hidden_dim = 24");
    let told = error(&demo(dir, &wide, &["--init", &path(&folder())]));
    assert!(told.contains("expected hidden_dim = 24") && told.contains("found 20"), "{told}");

    let named = format!("{}[init]\ncheckpoint = \"{base}\"\n", spec("", 1));
    let told = error(&demo(dir, &named, &["--init", &path(&folder())]));
    assert!(told.contains("expected init.checkpoint of the spec"), "{told}");
    let told = error(&demo(dir, &named, &[]));
    for part in ["init.checkpoint: expected a checkpoint that is here", "--init FILE"] {
        assert!(told.contains(part), "{part:?} is missing in: {told}");
    }

    // A folder's own tokeniser is the one that its model knows.
    let home = tempfile::tempdir().expect("a folder");
    let copy = home.path();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(folder().join(name), copy.join(name)).expect("copied");
    }
    std::fs::write(copy.join("tokenizer.json"), "{}").expect("written");
    let cut = format!("vocabulary = 50\ntokenizer = \"{}\"", Digest::of(b"another"));
    let other = spec("", 1).replace("alphabet = \"abcdefghijklmnopqrstuvwxyz\"", &cut);
    let told = error(&demo(dir, &other, &["--init", &path(copy)]));
    assert!(told.contains("data.tokenizer: expected that of"), "{told}");

    std::fs::write(dir.join("cut.safetensors"), [9; 40]).expect("written");
    let told = error(&demo(dir, &spec("", 1), &["--init", "cut.safetensors"]));
    assert!(told.contains("cut.safetensors") && told.contains("damaged"), "{told}");
}
