//! Every sample that the documentation points at is one that the program reads.

use std::path::{Path, PathBuf};

use tributary_client::config::ClientConfig;
use tributary_coordinator::config::{Config, Flags};
use tributary_core::spec::JobSpec;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn job_specs_are_good() {
    for path in ["docs/samples/job.toml", "cli/src/demo/digits.toml", "cli/src/demo/mnist.toml"] {
        let text = std::fs::read_to_string(root().join(path)).expect(path);
        JobSpec::parse(&text).unwrap_or_else(|faults| panic!("{path}: {faults}"));
    }
}

/// Each block of the models' page is a spec, or becomes one with the parts that it leaves out.
#[test]
fn models_of_the_documentation_are_good() {
    let text = std::fs::read_to_string(root().join("docs/models.md")).expect("read");
    let blocks: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
        .collect();
    assert!(blocks.len() >= 9, "{}", blocks.len());
    for block in blocks {
        let mut spec = block.to_owned();
        let parts = [
            ("[job]", "name = \"model\"\nrounds = 3"),
            ("[data]", "kind = \"image\"\nclasses = 10"),
            ("[model]", "preset = \"mnist_2nn\""),
            ("[train]", "batch_size = 8\noptimizer = { kind = \"sgd\", learning_rate = 0.1 }"),
        ];
        for (section, lines) in parts {
            if !block.contains(section) {
                spec += &format!("\n{section}\n{lines}\n");
            }
        }
        JobSpec::parse(&spec).unwrap_or_else(|faults| panic!("{block}: {faults}"));
    }
}

#[test]
fn the_sample_of_a_job_is_the_paper_s_cnn() {
    let text = std::fs::read_to_string(root().join("docs/samples/job.toml")).expect("read");
    let spec = JobSpec::parse(&text).expect("good");
    assert_eq!(spec.model.schema().len(), 1_663_370);
}

#[test]
fn the_coordinator_s_sample_says_its_defaults() {
    let config = root().join("docs/samples/coordinator.toml");
    let sample = Flags { config: Some(config), ..Flags::default() };
    let sample = Config::load(&sample, std::iter::empty()).expect("good");
    let default = Config::load(&Flags::default(), std::iter::empty()).expect("good");
    assert_eq!(sample, default);
}

#[test]
fn the_client_s_sample_is_good() {
    let config = ClientConfig::load(&root().join("docs/samples/client.toml")).expect("good");
    assert_eq!(config.agent.name.as_str(), "hospital-a");
    assert_eq!(config.data[0].source.format.parts(), (true, false));
    // The job of the samples is one that the site of the samples agrees to.
    let job = std::fs::read_to_string(root().join("docs/samples/job.toml")).expect("read");
    let job = JobSpec::parse(&job).expect("good");
    assert!(config.policy.refuses(&job, "operator/eve").is_some(), "not whose jobs it takes");
    assert_eq!(config.policy.refuses(&job, "operator/otto"), None);
    assert_eq!(config.policy.refuses_statistics(&job), None);
}
