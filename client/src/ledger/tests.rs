//! One line for each departure, and every change of the file found.

use std::os::unix::fs::PermissionsExt;

use tributary_core::digest::Digest;

use super::{Departure, Ledger, LedgerError, OFFER, REMEMBERED_MAX, path, verify};

fn departure(round: u32) -> Departure {
    Departure {
        what: "update",
        coordinator: "https://localhost:7443".to_owned(),
        job: "digits-1".to_owned(),
        round,
        task: format!("task-{round}"),
        spec: Some(Digest::of(b"spec")),
        content: Digest::of(&round.to_le_bytes()),
        bytes: 100,
        examples: 7,
        privacy: "none",
        detail: String::new(),
    }
}

fn offer(detail: &str) -> Departure {
    let content = Digest::of(detail.as_bytes());
    let task = String::new();
    Departure { what: OFFER, task, spec: None, content, detail: detail.to_owned(), ..departure(0) }
}

fn count(dir: &tempfile::TempDir) -> Result<usize, LedgerError> {
    let mut count = 0;
    verify(dir.path(), |_| count += 1).map(|()| count)
}

#[test]
fn each_result_has_one_line_over_restarts_and_repeats() {
    let dir = tempfile::tempdir().expect("a folder");
    for _ in 0..2 {
        let ledger = Ledger::open(dir.path()).expect("open");
        for round in [1, 2, 1] {
            ledger.record(departure(round)).expect("written");
        }
    }
    assert_eq!(count(&dir).expect("whole"), 2);
    let ledger = Ledger::open(dir.path()).expect("open");
    ledger.record(departure(3)).expect("written");
    assert_eq!(count(&dir).expect("whole"), 3);
    for name in ["ledger.jsonl", "ledger.head"] {
        let mode = std::fs::metadata(dir.path().join(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn an_offer_has_a_line_when_it_changes() {
    let dir = tempfile::tempdir().expect("a folder");
    for offered in ["100 rows", "100 rows", "90 rows", "100 rows"] {
        let ledger = Ledger::open(dir.path()).expect("open");
        ledger.record(offer(offered)).expect("written");
        ledger.record(offer(offered)).expect("nothing new");
    }
    let mut said = Vec::new();
    verify(dir.path(), |entry| said.push(entry.detail)).expect("whole");
    assert_eq!(said, ["100 rows", "90 rows", "100 rows"]);
    let ledger = Ledger::open(dir.path()).expect("open");
    ledger.record(offer(&"é".repeat(10_000))).expect("a long one is cut, its digest is not");
    drop(ledger);
    Ledger::open(dir.path()).expect("and read again");
}

#[test]
fn a_line_cut_by_a_power_loss_goes_and_a_changed_one_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(dir.path()).expect("open");
    (1..=2).for_each(|round| ledger.record(departure(round)).expect("written"));
    let file = path(dir.path());
    let two = std::fs::read_to_string(&file).expect("text");
    let head = std::fs::read(dir.path().join("ledger.head")).expect("a head");
    ledger.record(departure(3)).expect("written");
    drop(ledger);
    // Its line was being written: neither the head nor the coordinator ever heard of it.
    let text = std::fs::read_to_string(&file).expect("text");
    std::fs::write(&file, &text[..text.len() - 20]).expect("cut");
    std::fs::write(dir.path().join("ledger.head"), &head).expect("the one before");
    let ledger = Ledger::open(dir.path()).expect("the cut line goes");
    ledger.record(departure(3)).expect("written again");
    assert_eq!(count(&dir).expect("whole"), 3);
    for (from, to) in [("\"bytes\":100", "\"bytes\":10"), ("\"round\":2", "\"round\":5")] {
        std::fs::write(&file, two.replacen(from, to, 1)).expect("changed");
        assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::Broken { .. })));
    }
    let without: String = text.lines().skip(1).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, without).expect("changed");
    assert!(matches!(count(&dir), Err(LedgerError::Broken { line: 1, .. })));
}

#[test]
fn a_cut_ledger_a_lost_one_and_a_lost_head_are_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, head) = (path(dir.path()), dir.path().join("ledger.head"));
    let ledger = Ledger::open(dir.path()).expect("open");
    (1..=3).for_each(|round| ledger.record(departure(round)).expect("written"));
    drop(ledger);
    let (text, known) = (std::fs::read_to_string(&file).expect("text"), std::fs::read(&head));
    let known = known.expect("a head");
    let broken = |what: &str| {
        let (opened, verified) = (Ledger::open(dir.path()).err(), count(&dir).err());
        assert!(opened.is_some(), "{what}: an agent must not go on");
        verified.unwrap_or_else(|| panic!("{what} verifies")).to_string()
    };
    let two: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, two).expect("cut");
    assert!(broken("a cut tail").contains("expected 3 lines"));
    std::fs::remove_file(&file).expect("gone");
    assert!(broken("a lost file").contains("found 0"));
    std::fs::write(&file, &text).expect("back");
    std::fs::remove_file(&head).expect("gone");
    assert!(broken("a lost head").contains("ledger.head"));
    let other =
        String::from_utf8(known.clone()).expect("text").replace("\"sequence\":3", "\"sequence\":2");
    std::fs::write(&head, other).expect("changed");
    assert!(broken("another head").contains("does not follow"));
    std::fs::write(&head, known).expect("back");
    assert_eq!(count(&dir).expect("whole"), 3);
}

#[test]
fn a_kill_between_a_line_and_its_head_is_no_fault() {
    let dir = tempfile::tempdir().expect("a folder");
    let head = dir.path().join("ledger.head");
    let mut before = None;
    for round in 1..=3 {
        let ledger = Ledger::open(dir.path()).expect("open");
        ledger.record(departure(round)).expect("written");
        drop(ledger);
        match before.replace(std::fs::read(&head).expect("a head")) {
            Some(before) => std::fs::write(&head, before).expect("one behind"),
            None => std::fs::remove_file(&head).expect("none yet"),
        }
        assert_eq!(count(&dir).expect("whole"), round as usize);
        // Sent again, it has its line, and the head comes behind it.
        let ledger = Ledger::open(dir.path()).expect("open");
        ledger.record(departure(round)).expect("known");
        before = Some(std::fs::read(&head).expect("a head"));
        assert_eq!(count(&dir).expect("whole"), round as usize);
    }
}

#[test]
fn what_is_remembered_is_bounded_and_a_long_ledger_opens_at_its_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(dir.path()).expect("open");
    let rounds = REMEMBERED_MAX as u32 + 10;
    (1..=rounds).for_each(|round| ledger.record(departure(round)).expect("written"));
    let remembered = ledger.state.lock().expect("held").recent.len();
    assert_eq!(remembered, REMEMBERED_MAX);
    drop(ledger);
    let file = path(dir.path());
    let head = super::Head::load(dir.path()).expect("a head");
    let mut lines = 0;
    let end =
        super::walk(&file, super::Start::Tail(10_000), head, |_| lines += 1).expect("its end");
    assert_eq!(end.head.sequence, u64::from(rounds));
    assert_eq!(end.bytes, std::fs::metadata(&file).expect("there").len());
    assert!((5..100).contains(&lines), "{lines} of {rounds} were read");
}
