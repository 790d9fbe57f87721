//! `cargo xtask ci`: its steps, in order, each with its name and how long it took.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;

/// How to get what the `deny` step runs.
const DENY_INSTALL: &str = "cargo install --locked --debug cargo-deny@0.20.2";
/// Compose tools, new and old: the file must please both.
const COMPOSE: &[&[&str]] = &[&["docker", "compose"], &["docker-compose"]];

/// One check.
pub(crate) struct Step {
    name: &'static str,
    run: fn() -> anyhow::Result<Outcome>,
}

/// How a check that did not fail ended.
enum Outcome {
    Passed,
    Skipped(&'static str),
}

const STEPS: &[Step] = &[
    Step { name: "fmt", run: fmt },
    Step { name: "clippy", run: clippy },
    Step { name: "doc", run: doc },
    Step { name: "test", run: test },
    Step { name: "deny", run: deny },
    Step { name: "compose", run: compose },
];

/// The names of all steps.
pub(crate) fn names() -> String {
    STEPS.iter().map(|step| step.name).collect::<Vec<_>>().join(", ")
}

/// The steps that the options leave.
pub(crate) fn choose(options: &[String]) -> anyhow::Result<Vec<&'static Step>> {
    let (mut skipped, mut only) = (Vec::new(), Vec::new());
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let list = match option.as_str() {
            "--skip" => &mut skipped,
            "--only" => &mut only,
            _ => anyhow::bail!("no option {option:?}: expected --skip STEP or --only STEP"),
        };
        let name = options.next().with_context(|| format!("{option} needs a step: {}", names()))?;
        let known = STEPS.iter().any(|step| step.name == name);
        anyhow::ensure!(known, "no step {name:?}: expected one of {}", names());
        list.push(name.as_str());
    }
    let chosen = |step: &&Step| {
        !skipped.contains(&step.name) && (only.is_empty() || only.contains(&step.name))
    };
    Ok(STEPS.iter().filter(chosen).collect())
}

/// Runs the steps until one fails.
pub(crate) fn run(steps: &[&Step]) -> anyhow::Result<()> {
    let begun = Instant::now();
    for step in steps {
        println!("== {}", step.name);
        let started = Instant::now();
        let result = (step.run)();
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(Outcome::Passed) => println!("== {}: passed in {seconds:.1} s", step.name),
            Ok(Outcome::Skipped(why)) => println!("== {}: SKIP {why}", step.name),
            Err(error) => {
                println!("== {}: FAILED after {seconds:.1} s: {error:#}", step.name);
                anyhow::bail!("repeat it alone with: cargo xtask ci --only {}", step.name);
            }
        }
    }
    println!("== all {} steps in {:.1} s", steps.len(), begun.elapsed().as_secs_f64());
    Ok(())
}

fn fmt() -> anyhow::Result<Outcome> {
    succeed(xtask::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> anyhow::Result<Outcome> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    succeed(xtask::cargo().args(arguments))
}

fn doc() -> anyhow::Result<Outcome> {
    let arguments = ["doc", "--workspace", "--no-deps", "--locked"];
    succeed(xtask::cargo().args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
}

/// All tests, those after a failing one too: one run shows everything there is to repair.
fn test() -> anyhow::Result<Outcome> {
    succeed(xtask::cargo().args(["test", "--workspace", "--locked", "--no-fail-fast"]))
}

fn deny() -> anyhow::Result<Outcome> {
    if !answers(xtask::cargo().args(["deny", "--version"])) {
        println!("cargo-deny is not installed; get it with: {DENY_INSTALL}");
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        anyhow::ensure!(!in_ci, "CI=true, so nothing may be skipped: {DENY_INSTALL}");
        return Ok(Outcome::Skipped("cargo-deny is not installed"));
    }
    succeed(xtask::cargo().args(["deny", "--locked", "check", "bans", "licenses", "sources"]))?;
    if let Some(database) = advisories() {
        println!("the advisories of {}", database_date(&database));
        succeed(xtask::cargo().args(["deny", "--locked", "--offline", "check", "advisories"]))
    } else {
        println!(
            "no advisory database on this machine (`cargo deny fetch db` gets one): not checked"
        );
        Ok(Outcome::Passed)
    }
}

/// The database of advisories (a repository in cargo-deny's folder), where one was fetched before.
fn advisories() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let folder = cargo.or_else(home).map(|folder| folder.join("advisory-dbs"));
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let mut folders = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    folders.find(|path| path.join(".git").is_dir())
}

/// When its newest advisory was added: what came later is not checked.
fn database_date(database: &Path) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(database).args(["log", "-1", "--format=%cs"]);
    let said = command.output().ok().filter(|output| output.status.success());
    let date = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    date.filter(|date| !date.is_empty()).unwrap_or_else(|| "an unknown date".to_owned())
}

fn compose() -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Skipped("neither `docker compose` nor `docker-compose` is here");
    for tool in COMPOSE {
        let command = || {
            let mut command = Command::new(tool[0]);
            command.args(&tool[1..]).current_dir(xtask::root());
            command
        };
        if answers(command().arg("version")) {
            outcome = succeed(command().args(["config", "-q"]))?;
        }
    }
    Ok(outcome)
}

/// Whether a program is there and ends well; what it says is thrown away.
fn answers(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a program with our own output streams; an error unless it ends well.
fn succeed(command: &mut Command) -> anyhow::Result<Outcome> {
    let mut line = String::from("$");
    for word in [command.get_program()].into_iter().chain(command.get_args()) {
        let word = word.to_string_lossy();
        // Not the whole path of a program: it differs from machine to machine.
        line.push(' ');
        line.push_str(word.rsplit('/').next().unwrap_or(&word));
    }
    println!("{line}");
    let status = command.status().with_context(|| format!("start {line}"))?;
    anyhow::ensure!(status.success(), "`{}` ended with {status}", line.trim_start_matches("$ "));
    Ok(Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::{STEPS, choose};

    fn chosen(options: &[&str]) -> Result<Vec<&'static str>, String> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let steps = choose(&options).map_err(|error| error.to_string())?;
        Ok(steps.iter().map(|step| step.name).collect())
    }

    #[test]
    fn options_choose_steps() {
        assert_eq!(chosen(&[]).expect("all").len(), STEPS.len());
        let left = chosen(&["--skip", "deny", "--skip", "compose"]).expect("known");
        assert_eq!(left, ["fmt", "clippy", "doc", "test"]);
        assert_eq!(chosen(&["--only", "fmt"]).expect("known"), ["fmt"]);
    }

    #[test]
    fn unknown_words_are_refused() {
        for options in [&["--skip"][..], &["--skip", "tests"], &["--fast"]] {
            chosen(options).expect_err("refused");
        }
    }
}
