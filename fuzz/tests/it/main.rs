//! The short run: every target in a process of its own, with its corpus and with mutations of a fixed
//! seed, so that a failure comes again. `TRIBUTARY_FUZZ_RUNS` and `TRIBUTARY_FUZZ_SEED` make it longer or
//! another one.

use std::process::Command;

use tributary_fuzz::targets;

/// Mutations of each target: all of them take a minute or so, unoptimised, on a busy machine.
const RUNS: &str = "300";

/// What a target's process printed. A target that overflows its stack, or whose allocation the system
/// refuses, ends its own process alone.
fn tried(target: &str) -> Result<String, String> {
    let findings = tempfile::tempdir().expect("a folder");
    let setting = |name: &str, or: &str| std::env::var(name).unwrap_or_else(|_| or.to_owned());
    let output = Command::new(env!("CARGO_BIN_EXE_tributary-fuzz"))
        .arg(target)
        .args(["--runs", &setting("TRIBUTARY_FUZZ_RUNS", RUNS)])
        .args(["--seed", &setting("TRIBUTARY_FUZZ_SEED", "1")])
        .arg("--findings")
        .arg(findings.path())
        .output()
        .expect("it runs");
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // The folder goes when the test ends: what is in it is shown.
    let kept = std::fs::read_dir(findings.path()).expect("listed").flatten();
    let kept = kept.map(|entry| {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let name = entry.file_name().to_string_lossy().into_owned();
        format!("{name}: {}", hex::encode(&bytes[..bytes.len().min(2048)]))
    });
    let kept: Vec<String> = kept.collect();
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{target}: {}\n{said}\n{}", output.status, kept.join("\n")))
}

#[test]
fn every_target_stands_its_corpus_and_mutations_of_it() {
    let mut failed = Vec::new();
    for target in targets::all() {
        match tried(target.name) {
            Ok(said) => {
                println!("{}", said.trim());
                let number = |before: &str| {
                    let words: Vec<&str> = said.split_whitespace().collect();
                    let at = words.iter().position(|word| *word == before);
                    at.and_then(|at| words[at - 1].parse::<u32>().ok()).expect("a number")
                };
                assert!(number("refused") > 0, "{}: nothing is refused", target.name);
            }
            Err(text) => failed.push(text),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn a_target_that_is_none_is_named() {
    let error = tried("nothing").expect_err("unknown");
    assert!(error.contains("expected a target"), "{error}");
}
