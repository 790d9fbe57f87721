//! The guard over child processes: lines, signals, and nothing left behind.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tributary_testing::Process;

const SOON: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Process {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    Process::spawn(command).expect("start a shell")
}

/// Whether a process runs (a zombie does not).
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}

fn wait_until_gone(pid: &str) {
    let deadline = Instant::now() + SOON;
    while runs(pid) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn lines_of_output_and_errors_are_found() {
    let mut process = shell("echo first; echo second >&2; echo third; exit 3");
    for word in ["first", "second", "third"] {
        assert_eq!(process.wait_for_line(word, SOON).expect(word), word);
    }
    assert_eq!(process.wait(SOON).expect("end").code(), Some(3));
    assert_eq!(process.line_count(), 3);
    let error = process.wait_for_line("fourth", SOON).expect_err("never said").to_string();
    assert!(error.contains("its output ended") && error.contains("| third"), "{error}");
}

#[test]
fn a_mark_skips_what_was_said_before() {
    let process = shell("echo ready; sleep 0.2; echo ready again; sleep 60");
    process.wait_for_line("ready", SOON).expect("first");
    let mark = process.line_count();
    assert_eq!(process.wait_for_line_after(mark, "ready", SOON).expect("second"), "ready again");
}

#[test]
fn waiting_ends_when_the_time_is_up() {
    let mut process = shell("echo here; sleep 60");
    process.wait_for_line("here", SOON).expect("started");
    let short = Duration::from_millis(50);
    let error = process.wait_for_line("there", short).expect_err("silent").to_string();
    assert!(error.contains("the time is up"), "{error}");
    process.wait(short).expect_err("still runs");
    assert!(process.is_running().expect("state"));
}

#[test]
fn a_term_can_be_handled_and_a_kill_cannot() {
    let loops = "while :; do sleep 0.01; done";
    let mut gentle = shell(&format!("trap 'echo bye; exit 7' TERM; echo up; {loops}"));
    gentle.wait_for_line("up", SOON).expect("started");
    gentle.sigterm().expect("term");
    assert_eq!(gentle.wait(SOON).expect("end").code(), Some(7));
    gentle.sigterm().expect("no error after the end");

    let mut stubborn = shell(&format!("trap '' TERM; echo up; {loops}"));
    stubborn.wait_for_line("up", SOON).expect("started");
    stubborn.sigterm().expect("term");
    assert_eq!(stubborn.sigkill().expect("kill").code(), None);
    assert!(!stubborn.is_running().expect("state"));
}

#[test]
fn dropping_kills_the_whole_group() {
    let process = shell("sleep 600 & echo child $!; wait");
    let line = process.wait_for_line("child", SOON).expect("started");
    let grandchild = line.strip_prefix("child ").expect("id").to_owned();
    let child = process.pid().to_string();
    assert!(runs(&child) && runs(&grandchild));
    drop(process);
    wait_until_gone(&child);
    wait_until_gone(&grandchild);
}

/// Run by the next test in a process of its own, which is then killed.
#[test]
fn started_by_the_killed_process() {
    if std::env::var_os("TRIBUTARY_TESTING_VICTIM").is_none() {
        return;
    }
    let process = shell("echo up; sleep 600");
    process.wait_for_line("up", SOON).expect("started");
    println!("\nvictim {}", process.pid());
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_test_process_leaves_no_child() {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "started_by_the_killed_process", "--nocapture"]);
    command.env("TRIBUTARY_TESTING_VICTIM", "1");
    // Not by the guard, which kills the group: the watchdog alone must clean up.
    let mut victim = command.stdout(std::process::Stdio::piped()).spawn().expect("start");
    let output = std::io::BufReader::new(victim.stdout.take().expect("piped"));
    let line = std::io::BufRead::lines(output)
        .map_while(Result::ok)
        .find(|line| line.starts_with("victim "))
        .expect("the victim speaks");
    let pid = line.strip_prefix("victim ").expect("id");
    assert!(runs(pid));
    victim.kill().expect("kill");
    victim.wait().expect("reap");
    wait_until_gone(pid);
}
