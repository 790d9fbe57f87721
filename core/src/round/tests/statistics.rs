//! Before round 1: sites are asked for their sums, and what came in time is pooled.

use super::{CONSTANTS, Run, pooled, roster};
use crate::digest::Digest;
use crate::round::cohort::Roster;
use crate::round::task::{TaskEvent, UNABLE};
use crate::round::{Effect, Event, JobStatus, Phase, Rejection, TaskKind, TaskState};

fn due(run: &mut Run, roster: &Roster) -> bool {
    let event = Event::Tick { roster: Some(roster.clone()) };
    run.event(event).expect("a tick is never refused").contains(&Effect::Pool)
}

#[test]
fn the_sites_are_asked_for_their_sums_before_the_first_round() {
    let mut run = Run::asking(Some(10_000));
    run.tick(&roster(4, |i| i < 2));
    assert!(run.state.round.is_none() && run.state.tasks.is_empty(), "too few are present");
    let all = roster(4, |_| true);
    run.tick(&all);
    let open = run.open(TaskKind::Statistics);
    assert_eq!(open.len(), 4, "everybody, whatever the cohort");
    assert!(matches!(run.event(pooled()), Err(Rejection::WrongState { .. })), "nobody answered");
    for id in &open[..3] {
        run.task(id, TaskEvent::Take).expect("take");
        run.accept(id).expect("accept");
        assert!(!due(&mut run, &all), "one is still open");
    }
    run.accept(&open[3].clone()).expect("accept");
    assert!(due(&mut run, &all) && due(&mut run, &all), "until it is done");
    let before = run.state.result;
    run.event(pooled()).expect("pooled");
    assert_ne!(run.state.result, before, "rounds' digests cover the constants");
    assert_eq!(run.state.constants, Some(Digest::of(CONSTANTS)));
    assert!(matches!(run.event(pooled()), Err(Rejection::WrongState { .. })), "once");
    run.event(Event::Tick { roster: None }).expect("tick");
    assert_eq!((run.phase(), run.state.tasks.len()), (Some(Phase::Selecting), 0));
    run.tick(&all);
    assert_eq!(run.phase(), Some(Phase::Training));
}

#[test]
fn the_result_does_not_depend_on_who_came_first() {
    let result = |order: [usize; 3]| {
        let mut run = Run::asking(None);
        let three = roster(3, |_| true);
        run.tick(&three);
        let open = run.open(TaskKind::Statistics);
        for at in order {
            run.accept(&open[at]).expect("accept");
            run.tick(&three);
        }
        run.event(pooled()).expect("pooled");
        run.state.result
    };
    assert_eq!(result([0, 1, 2]), result([2, 0, 1]));
}

#[test]
fn sums_that_are_late_stay_out_and_too_few_fail_the_job() {
    let all = roster(5, |_| true);
    let mut run = Run::asking(Some(10_000));
    run.tick(&all);
    let open = run.open(TaskKind::Statistics);
    for id in &open[..3] {
        run.accept(id).expect("accept");
    }
    run.now = 2000;
    run.task(&open[3], TaskEvent::Heartbeat { progress: 1, total: 9 }).expect("alive");
    run.now = 3500;
    run.tick(&all);
    assert_eq!(run.state.tasks[&open[4]].state, TaskState::Lapsed, "no progress, no lease");
    assert_eq!(run.open(TaskKind::Statistics), open[3..4], "progress keeps it");
    run.now = 10_000;
    run.tick(&all);
    assert!(due(&mut run, &all), "three are enough");
    let late = run.accept(&open[3].clone());
    assert!(matches!(late, Err(Rejection::TaskEnded { .. })), "{late:?}");
    run.event(pooled()).expect("pooled");

    let mut few = Run::asking(Some(10_000));
    few.tick(&all);
    let open = few.open(TaskKind::Statistics);
    few.accept(&open[0]).expect("accept");
    few.accept(&open[1]).expect("accept");
    few.task(&open[2], failed("no disk")).expect("said");
    few.now = 10_000;
    few.tick(&all);
    let reason = few.state.reason.clone().unwrap_or_default();
    assert_eq!(few.state.status, JobStatus::Failed);
    for part in ["statistics_floor: 2 sites", "min_clients is 3", "no disk"] {
        assert!(reason.contains(part), "{part:?} is missing in: {reason}");
    }
    assert!(matches!(few.event(pooled()), Err(Rejection::JobEnded { .. })));
}

#[test]
fn a_site_that_comes_back_is_asked_again_while_there_is_time() {
    let three = roster(3, |_| true);
    let mut run = Run::asking(Some(10_000));
    run.tick(&three);
    let open = run.open(TaskKind::Statistics);
    run.accept(&open[0]).expect("accept");
    run.accept(&open[1]).expect("accept");
    run.now = 3500;
    run.tick(&roster(3, |_| false));
    assert_eq!(run.open(TaskKind::Statistics).len(), 0, "lapsed, and nobody is present");
    assert_eq!(run.state.status, JobStatus::Running);
    run.tick(&three);
    assert_eq!(run.open(TaskKind::Statistics), open[2..], "the same task again");

    let mut exact = Run::asking(None);
    exact.tick(&three);
    let open = exact.open(TaskKind::Statistics);
    exact.now = 1_000_000_000;
    exact.tick(&three);
    assert_eq!(exact.open(TaskKind::Statistics), open, "without a deadline all are waited for");
    exact.task(&open[0], failed("too few rows")).expect("said");
    exact.accept(&open[1]).expect("accept");
    exact.accept(&open[2]).expect("accept");
    exact.tick(&three);
    assert_eq!(exact.state.status, JobStatus::Failed, "two of three, and all have answered");
}

#[test]
fn sums_that_give_no_constants_end_the_job_and_a_pause_does_not_undo_them() {
    let three = roster(3, |_| true);
    let run = || {
        let mut run = Run::asking(None);
        run.tick(&three);
        for id in run.open(TaskKind::Statistics) {
            run.accept(&id).expect("accept");
        }
        run
    };
    let mut failed = run();
    let reason = "expected 3 classes, found 2".to_owned();
    failed.event(Event::PoolFailed { reason }).expect("failed");
    assert_eq!(
        failed.state.reason.as_deref(),
        Some("statistics_failed: expected 3 classes, found 2")
    );
    let mut paused = run();
    paused.event(Event::Pause).expect("pause");
    paused.event(pooled()).expect("pooled");
    let constants = Some(Digest::of(CONSTANTS));
    assert_eq!((paused.state.status, paused.state.constants), (JobStatus::Paused, constants));
    paused.event(Event::Resume).expect("resume");
    paused.tick(&three);
    assert_eq!(paused.phase(), Some(Phase::Training));
}

fn failed(reason: &str) -> TaskEvent {
    TaskEvent::Fail { code: UNABLE.to_owned(), reason: reason.to_owned() }
}
