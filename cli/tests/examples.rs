//! Every example: its files are good and belong together, and where `TRIBUTARY_DATA` names the data
//! sets, a tiny version of it runs from end to end.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tributary_client::config::ClientConfig;
use tributary_core::digest::Digest;
use tributary_core::spec::JobSpec;
use tributary_testing::data_dir;

/// An example's folder, its specs, the words of its README's command, and its data's folder.
struct Example {
    folder: &'static str,
    specs: &'static [&'static str],
    deal: &'static [&'static str],
    data: &'static str,
}

const EXAMPLES: [Example; 6] = [
    Example {
        folder: "mnist-writers",
        specs: &["job.toml"],
        deal: &["--partition", "writers", "--clients", "50"],
        data: "mnist",
    },
    Example {
        folder: "har-subjects",
        specs: &["job.toml"],
        deal: &["--partition", "clients"],
        data: "uci-har",
    },
    Example {
        folder: "shakespeare-roles",
        specs: &["job.toml"],
        deal: &["--partition", "writers", "--clients", "50"],
        data: "shakespeare",
    },
    Example {
        folder: "sst2-sentiment",
        specs: &["job.toml"],
        deal: &["--partition", "iid", "--clients", "40"],
        data: "sst2",
    },
    Example {
        folder: "heart-hospitals",
        specs: &["job.toml", "mlp.toml", "federated.toml"],
        deal: &["--partition", "clients"],
        data: "heart-disease",
    },
    Example {
        folder: "spoken-digits",
        specs: &["job.toml"],
        deal: &["--partition", "clients"],
        data: "fsdd",
    },
];

fn folder(example: &Example) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example.folder)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_example_s_files_are_good_and_belong_together() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut there: Vec<String> = std::fs::read_dir(root)
        .expect("examples")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    there.sort();
    let mut known = EXAMPLES.map(|example| example.folder.to_owned());
    known.sort();
    assert_eq!(there, known);
    for example in &EXAMPLES {
        let folder = folder(example);
        let site = ClientConfig::load(&folder.join("client.toml"))
            .unwrap_or_else(|error| panic!("{error}"));
        let readme = read(&folder.join("README.md"));
        for spec in example.specs {
            let job = JobSpec::parse(&read(&folder.join(spec)))
                .unwrap_or_else(|faults| panic!("{}/{spec}: {faults}", example.folder));
            assert_eq!(job.data.name.as_deref(), Some(site.data[0].name.as_str()), "{spec}");
            let kind = site.data[0].source.format.kind();
            assert_eq!(kind, Some(job.data.kind), "{}", example.folder);
            assert!(site.data[0].source.format.parts().0 && readme.contains(spec));
        }
        assert!(readme.contains(&example.deal.join(" ")), "{}: its command", example.folder);
    }
}

/// What each example was measured on is what its list of sums says; the README says how to check it.
#[test]
fn every_example_s_sums_are_of_the_files_that_it_was_measured_on() {
    let sums = |example: &Example| read(&folder(example).join("SHA256SUMS"));
    for example in &EXAMPLES {
        assert!(sums(example).lines().count() > 0, "{}", example.folder);
        let said = read(&folder(example).join("README.md"));
        assert!(said.contains("sha256sum -c"), "{}: how to check it", example.folder);
    }
    let Some(root) = data_dir() else { return };
    for example in &EXAMPLES {
        for line in sums(example).lines() {
            // As sha256sum writes it: two spaces.
            let (sum, name) = line.split_once("  ").unwrap_or_else(|| panic!("{line}"));
            let path = root.join(example.data).join(name);
            let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(Digest::of(&bytes).to_string(), format!("sha256:{sum}"), "{name}");
        }
    }
}

fn tributary(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    let output = command.args(args).output().expect("the operator's tool");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tributary {args:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// The folder that the example's command names: as it lies, or prepared as its README says.
fn data(example: &Example, root: &Path, into: &Path) -> PathBuf {
    let from = root.join(example.data);
    let into = into.join(example.folder);
    let (archive, words) = match example.folder {
        "shakespeare-roles" => ("plays.tar.gz", vec!["plays"]),
        "spoken-digits" => ("recordings.tar.gz", vec!["recordings", "--evaluate-below", "5"]),
        _ => return from,
    };
    let (archive, to) = (from.join(archive), into.display().to_string());
    let archive = archive.display().to_string();
    let mut args = vec!["data", "prepare"];
    args.extend(words);
    args.extend([archive.as_str(), "--to", &to]);
    tributary(&args);
    into
}

#[test]
fn every_example_runs_on_its_data() {
    let Some(root) = data_dir() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    for example in &EXAMPLES {
        let data = data(example, &root, scratch.path()).display().to_string();
        for spec in example.specs {
            let path = folder(example).join(spec).display().to_string();
            let dir = scratch.path().join(format!("{}-{spec}", example.folder));
            let (figure, dir) = (dir.join("curve.svg"), dir.display().to_string());
            let figure = figure.display().to_string();
            let mut args = vec!["demo", "--spec", &path, "--data", &data, "--dir", &dir];
            args.extend(example.deal);
            args.extend(["--rounds", "1", "--rows", "300", "--figure", &figure]);
            args.extend(["--output", "json"]);
            let result: Value = serde_json::from_str(&tributary(&args)).expect("JSON");
            assert_eq!(result["rounds"].as_array().map(Vec::len), Some(1), "{result:#}");
            assert!(result["test_examples"].as_u64() > Some(0), "{result:#}");
            // The measure beside the federation and its own evaluation see the same model.
            assert_eq!(result["curve"][0]["accuracy"], result["test_accuracy"], "{result:#}");
            let picture = read(Path::new(&figure));
            let measure = result["curve"][0]["measure"].as_str().expect("what goes up");
            assert!(picture.contains("<polyline") && picture.contains(&format!(">{measure}<")));
            let is_text = example.folder == "shakespeare-roles";
            assert_eq!(measure, if is_text { "perplexity" } else { "accuracy" });
        }
    }
}

/// What a demo cannot do for a job that leaves constants to its sites is said, and not done by halves.
#[test]
fn constants_of_all_sites_need_files_and_a_deal_without_classes() {
    let example = folder(&EXAMPLES[4]);
    let spec = example.join("federated.toml").display().to_string();
    let said = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        let output = command.args(["demo", "--spec", &spec]).args(args).output().expect("the tool");
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let files = said(&[]);
    assert!(files.contains("give --data, and a --config"), "{files}");
    let here = example.display().to_string();
    let deal = said(&["--data", &here, "--partition", "shards"]);
    assert!(
        deal.contains("--partition shards") && deal.contains("iid, writers or clients"),
        "{deal}"
    );
}
