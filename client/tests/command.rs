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
