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
fn a_checkpoint_to_start_from_is_named_by_its_digest() {
    let digest = crate::digest::Digest::of(b"a checkpoint");
    let with = |line: &str| JobSpec::parse(&format!("{GOOD}\n[init]\n{line}"));
    let spec = with(&format!("checkpoint = \"{digest}\"")).expect("good");
    assert_eq!((spec.init, JobSpec::parse(GOOD).expect("good").init), (Some(digest), None));
    for (line, fault) in [
        ("checkpoint = \"sha256:12\"", "init.checkpoint: expected"),
        ("checkpoint = 7", "init.checkpoint: expected a text in quotes, found 7"),
        ("", "init.checkpoint: expected a text in quotes, found nothing"),
        ("file = \"model.safetensors\"", "init.file"),
    ] {
        let faults = with(line).expect_err("faulty").to_string();
        assert!(faults.contains(fault), "{line}: {faults}");
    }
}

#[test]
fn texts_are_cut_by_one_tokeniser_or_one_list() {
    let digest = crate::digest::Digest::of(b"a tokenizer.json");
    let with = |more: &str| {
        let lines = format!("kind = \"text\"\nclasses = 2\ntokenizer = \"{digest}\"\n{more}");
        JobSpec::parse(&GOOD.replace("kind = \"image\"\nclasses = 10", &lines))
    };
    for more in ["words = \"a b\"", "alphabet = \"ascii\"", "words = { federated = true }"] {
        let faults = with(more).expect_err("two").to_string();
        assert!(faults.contains("data.tokenizer: expected one of"), "{more}: {faults}");
    }
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

fn federated(data: &str, cohort: &str) -> Result<JobSpec, crate::fault::Faults> {
    let text = GOOD.replace("kind = \"image\"\nclasses = 10", data);
    JobSpec::parse(&text.replace("min_available_clients = 4", cohort))
}

#[test]
fn constants_can_be_left_to_all_sites_together() {
    use crate::binding::{DataNeed, STATISTICS_PROTOCOL};
    use crate::round::Policy;
    let data = "kind = \"image\"\nclasses = 10\nclass_names = \"federated\"\n\
                normalise = \"federated\"\n[data.statistics]\nmin_clients = 4\nmin_sites = 3";
    let spec = federated(data, "min_available_clients = 4").expect("good");
    let statistics = spec.statistics.as_ref().expect("asked for");
    let features = statistics.asked.features.expect("channels");
    assert_eq!((features.count, features.per_row), (1, 64), "a picture has channels");
    assert!(statistics.asked.names && statistics.asked.tokens.is_none());
    assert_eq!((statistics.min_clients, statistics.min_sites), (4, 3));
    assert_eq!(spec.constants, super::Constants::default());
    assert_eq!(DataNeed::of(&spec).protocol, STATISTICS_PROTOCOL);
    let deadline = |spec: &JobSpec| Policy::from(spec).statistics.expect("asked").deadline_ms;
    assert_eq!(deadline(&spec), Some(600_000));
    let exact = federated(data, "exact_replay = true").expect("good");
    assert_eq!(deadline(&exact), None, "everybody is waited for");
    let plain = JobSpec::parse(GOOD).expect("good");
    assert!(plain.statistics.is_none() && DataNeed::of(&plain).protocol == 0);
    assert!(Policy::from(&plain).statistics.is_none());
}

#[test]
fn what_cannot_be_left_to_the_sites_is_refused() {
    let image = "kind = \"image\"\nclasses = 10\n";
    let text = "kind = \"text\"\n";
    for (data, part) in [
        (format!("{image}words = {{ federated = true }}"), "only where kind = \"text\""),
        (format!("{image}[data.statistics]\nmin_clients = 3"), "data.statistics: expected nothing"),
        (
            format!("{image}normalise = \"federated\"\n[data.statistics]\nmin_clients = 1"),
            "data.statistics.min_clients: expected",
        ),
        (
            format!(
                "{image}normalise = \"federated\"\n[data.statistics]\nmin_clients = 2\nmin_sites = 3"
            ),
            "data.statistics.min_sites: expected at most min_clients (2)",
        ),
        (
            format!("{image}normalise = \"federated\"\nstatistics = {{ floor = 3 }}"),
            "data.statistics.floor",
        ),
        (format!("{text}words = {{ federated = true }}"), "data.vocabulary"),
        (
            format!("{text}vocabulary = 2\nwords = {{ federated = true }}"),
            "data.vocabulary: expected more than 2",
        ),
        (
            format!("{text}vocabulary = 9\nwords = {{ lowercase = true }}"),
            "data.words.federated: expected true",
        ),
        (
            format!("{text}vocabulary = 9\nwords = {{ federated = true }}\nalphabet = \"ascii\""),
            "either `words` or `alphabet`",
        ),
        (format!("{text}vocabulary = 9\nnormalise = \"federated\""), "data.normalise: expected"),
        (
            format!("{text}vocabulary = 9\nclass_names = \"federated\""),
            "data.classes: expected the number of classes",
        ),
    ] {
        let faults = federated(&data, "min_available_clients = 4").expect_err("faulty").to_string();
        assert!(faults.contains(part), "{part:?} is missing in {faults}");
    }
    let timed = format!("{image}normalise = \"federated\"\n[data.statistics]\ndeadline_s = 60");
    let faults = federated(&timed, "exact_replay = true").expect_err("timed").to_string();
    assert!(faults.contains("data.statistics.deadline_s: expected nothing"), "{faults}");
}
