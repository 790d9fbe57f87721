//! The client's command line: what it says before it ever reaches a network.

use std::process::{Command, Output};

fn client(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary-client"));
    command.args(args).env("NO_COLOR", "1").output().expect("the client runs")
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn all_faults_of_a_file_are_named_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("client.toml");
    std::fs::write(&path, "coordinator = \"nowhere\"\nnames = \"a\"\n[data]\nformat = \"idx\"\n")
        .expect("written");
    let error = error(&client(&["run", "--config", &path.display().to_string()]));
    for part in ["client.toml", "coordinator:", "`names`", "data.images", "data.classes"] {
        assert!(error.contains(part), "{part} is missing in {error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = error(&client(&["check", "--config", "/nonexistent/client.toml"]));
    assert!(error.contains("/nonexistent/client.toml"), "{error}");
}

#[test]
fn the_help_teaches() {
    let output = client(&["--help"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("never rows"), "{text}");
}

/// A table of two classes that a line cuts, and a job for it.
fn table(folder: &std::path::Path) -> (String, String) {
    let rows: String = (0..60).map(|at| format!("{},{},{}\n", at, 60 - at, at / 30)).collect();
    std::fs::write(folder.join("rows.csv"), format!("up,down,late\n{rows}")).expect("written");
    let site = "coordinator = \"http://127.0.0.1:7443\"\nname = \"site-a\"\nthreads = 1\n[data]\n\
                format = \"csv\"\nfile = \"rows.csv\"\nlabel_column = \"late\"\n\
                validation_fraction = 0.2\n";
    let job = "[job]\nname = \"late\"\nrounds = 5\n[data]\nkind = \"table\"\nclasses = 2\n\
               [data.normalise]\nmean = 30\ndeviation = 17\n\
               [model]\npreset = \"logistic_regression\"\ninput = { shape = [2] }\n\
               [train]\nlocal_epochs = 5\nbatch_size = 8\n\
               optimizer = { kind = \"sgd\", learning_rate = 0.3 }\n";
    let paths = ["client.toml", "job.toml"].map(|name| folder.join(name));
    std::fs::write(&paths[0], site).expect("written");
    std::fs::write(&paths[1], job).expect("written");
    let [site, job] = paths.map(|path| path.display().to_string());
    (site, job)
}

#[test]
fn a_site_trains_alone_to_compare() {
    let folder = tempfile::tempdir().expect("a folder");
    let (site, job) = table(folder.path());
    let out = folder.path().join("model.safetensors");
    let out = out.display().to_string();
    let args = ["train-local", "--config", &site, "--spec", &job, "--out", &out];
    let output = client(&args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().filter(|line| line.starts_with("round ")).count(), 5, "{text}");
    let last = text.lines().rfind(|line| line.starts_with("round ")).expect("a line");
    let score: f64 = last
        .split_once("validation:")
        .and_then(|(_, held)| held.split_once("accuracy "))
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .expect("an accuracy");
    assert!(score > 0.8 && last.contains("on 12 rows"), "{text}");
    let first = std::fs::read(&out).expect("a model");
    let model = tributary_core::checkpoint::decode(&first).expect("safetensors");
    assert_eq!(model.schema().len(), 6);
    assert!(client(&args).status.success());
    assert_eq!(std::fs::read(&out).expect("a model"), first, "the same bytes again");
}

#[test]
fn data_are_checked_against_a_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let (site, job) = table(folder.path());
    let output = client(&["check", "--config", &site, "--spec", &job]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("rows        48"), "{text}");
    // Without the job the classes stand open, and rows are counted.
    let output = client(&["check", "--config", &site]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("rows are only counted"), "{told}");
    let other = std::fs::read_to_string(&job).expect("read").replace("shape = [2]", "shape = [3]");
    std::fs::write(&job, other).expect("written");
    let error = error(&client(&["check", "--config", &site, "--spec", &job]));
    assert!(error.contains("another shape: expected [3], found [2]"), "{error}");
}
