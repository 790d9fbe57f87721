//! Specs that are right, and specs whose faults must all be named.

use super::JobSpec;

const GOOD: &str = r#"
[job]
name = "digits-cnn"
rounds = 20
seed = 7

[model]
input = { shape = [1, 8, 8] }
layers = [
  { conv2d = { out = 4, kernel = 3, padding = 1 } }, "relu", { max_pool2d = 2 },
  "flatten", { linear = 10 },
]
loss = "cross_entropy"

[data]
kind = "image"
classes = 10

[train]
local_epochs = 1
batch_size = 16
optimizer = { kind = "sgd", learning_rate = 0.1 }

[cohort]
min_available_clients = 4
"#;

#[test]
fn a_good_spec_reads_with_its_defaults() {
    let spec = JobSpec::parse(GOOD).expect("good");
    assert_eq!((spec.rounds, spec.seed, spec.cohort.min_updates), (20, 7, 2));
    assert_eq!(spec.strategy.max_abs_update(), 64.0);
    assert!(spec.final_evaluation);
    assert_eq!(spec.job_id(0x7f3a).expect("id").as_str(), "digits-cnn-00007f3a");
}

#[test]
fn every_fault_is_named_with_path_expectation_and_value() {
    let text = GOOD
        .replace("rounds = 20", "rounds = 0\nround = 3")
        .replace("\"digits-cnn\"", "\"Digits CNN\"")
        .replace("min_available_clients = 4", "min_available_clients = 4\nmin_updates = 3")
        .replace("kind = \"sgd\"", "kind = \"sdg\"");
    let faults = JobSpec::parse(&text).expect_err("faulty");
    let paths: Vec<&str> = faults.0.iter().map(|f| f.path.as_str()).collect();
    for path in ["job.name", "job.rounds", "job.round", "cohort.min_updates"] {
        assert!(paths.contains(&path), "{path} is missing in {faults}");
    }
    assert!(faults.to_string().contains("\"sdg\""), "{faults}");
    assert!(faults.to_string().contains("did you mean `rounds`?"), "{faults}");
}

fn with_data(lines: &str) -> Result<JobSpec, crate::fault::Faults> {
    let text = GOOD.replace("kind = \"image\"\nclasses = 10", lines);
    JobSpec::parse(&text)
}

#[test]
fn what_all_sites_read_their_rows_with_is_the_job_s() {
    let spec = with_data(
        "kind = \"image\"\nclasses = 10\n[data.normalise]\nmean = 0.1307\ndeviation = [0.3081]",
    );
    let spec = spec.expect("good");
    assert_eq!(spec.constants.normalise, Some((vec![0.1307], vec![0.3081])));
    let names: Vec<String> = (0..10).map(|digit| format!("\"n{digit}\"")).collect();
    let names = format!("kind = \"image\"\nclass_names = [{}]", names.join(", "));
    let spec = with_data(&names).expect("ten names are ten classes");
    assert_eq!(spec.data.measure(), crate::metrics::Measure::Classes(10));

    let text = "kind = \"text\"\nalphabet = \"ascii\"";
    let model = "preset = \"char_lstm\"\n";
    let start = GOOD.find("input =").expect("model");
    let end = GOOD.find("[data]").expect("data");
    let spec = GOOD.replace(&GOOD[start..end], model);
    let spec = spec.replace("kind = \"image\"\nclasses = 10", text);
    let spec = JobSpec::parse(&spec).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((spec.data.vocabulary, spec.constants.vocabulary()), (98, Some(98)));
}

#[test]
fn what_cannot_be_read_with_is_refused() {
    for (lines, part) in [
        ("kind = \"image\"\nclasses = 3\nclass_names = [\"a\", \"b\"]", "data.classes: expected"),
        ("kind = \"image\"\nclass_names = [\"a\", \"a\"]", "2 to 2048 different names"),
        ("kind = \"image\"\nclasses = 10\nwords = \"a b\"", "only where kind = \"text\""),
        ("kind = \"text\"\nvocabulary = 3\nwords = \"a b c\"", "data.vocabulary: expected"),
        ("kind = \"text\"\nwords = \"a b a\"", "without repetitions, found 3 entries"),
        ("kind = \"text\"\nwords = \"a\"\nalphabet = \"b\"", "either `words` or `alphabet`"),
        (
            "kind = \"image\"\nclasses = 10\n[data.normalise]\nmean = 1\ndeviation = 0",
            "data.normalise.deviation: expected numbers other than 0",
        ),
        (
            "kind = \"image\"\nclasses = 10\n[data.normalise]\nmean = []\ndeviation = 1",
            "data.normalise.mean: expected a number, or one for each feature",
        ),
    ] {
        let faults = with_data(lines).expect_err("faulty").to_string();
        assert!(faults.contains(part), "{part:?} is missing in {faults}");
    }
}
