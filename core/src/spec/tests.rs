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
