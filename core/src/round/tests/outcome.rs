//! What becomes of receipts: one outcome each, in the step that ends their round or job.

use super::{Run, facts, pooled, roster};
use crate::round::divergence::NORM_ONE;
use crate::round::{Event, FoldFacts, JobStatus, Outcome, Phase, TaskKind};

/// A job whose first round has updates of all but `missing` of its clients.
fn trained(missing: usize) -> Run {
    let mut run = Run::new(1);
    let all = roster(6, |_| true);
    run.tick(&all);
    let open = run.open(TaskKind::Train);
    for id in open.iter().skip(missing) {
        run.accept(id).expect("accepted");
    }
    run.tick(&all);
    run
}

fn aggregating() -> Run {
    let run = trained(0);
    assert_eq!(run.phase(), Some(Phase::Aggregating));
    run
}

fn cancel() -> Event {
    Event::Cancel { reason: "enough".to_owned() }
}

/// The outcomes of all receipts, which are all the same.
fn outcome(run: &Run) -> Option<Outcome> {
    let receipts = run.state.tasks.values().filter(|task| task.accepted.is_some());
    let mut outcomes: Vec<Option<Outcome>> = receipts.map(|task| task.outcome).collect();
    assert!(outcomes.len() >= 2, "receipts");
    outcomes.dedup();
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes[0]
}

#[test]
fn a_receipt_is_open_until_its_round_is_committed() {
    let mut run = aggregating();
    assert_eq!(outcome(&run), None, "the accepted set is fixed, and nothing is folded");
    run.event(Event::Folded(facts(1))).expect("folded");
    assert_eq!(outcome(&run), Some(Outcome::Folded));
}

#[test]
fn a_missed_attempt_leaves_its_receipts_to_the_next_one() {
    let mut run = Run::new(1);
    run.policy.cohort.min_updates = 3;
    let all = roster(6, |_| true);
    run.tick(&all);
    let open = run.open(TaskKind::Train);
    run.accept(&open[0]).expect("accepted");
    run.accept(&open[1]).expect("accepted");
    run.now = 20_000;
    run.tick(&all);
    assert_eq!(run.state.round.as_ref().map(|round| round.attempt), Some(2));
    assert_eq!(outcome(&run), None);
    let open = run.open(TaskKind::Train);
    run.accept(&open[0]).expect("accepted");
    run.now = 40_000;
    run.tick(&all);
    run.event(Event::Folded(facts(1))).expect("folded");
    assert_eq!(outcome(&run), Some(Outcome::Folded));
}

#[test]
fn a_job_that_misses_its_last_attempt_says_so_of_each_receipt() {
    let mut run = Run::new(1);
    run.policy.cohort.min_updates = 3;
    let all = roster(6, |_| true);
    for attempt in 1..=2_u64 {
        run.tick(&all);
        let open = run.open(TaskKind::Train);
        run.accept(&open[0]).expect("accepted");
        run.now = 20_000 * attempt;
    }
    run.tick(&all);
    assert_eq!(run.state.status, JobStatus::Failed);
    assert_eq!(outcome(&run), Some(Outcome::JobFailed));
}

#[test]
fn a_fold_that_cannot_be_done_fails_its_receipts() {
    let mut run = aggregating();
    run.event(Event::FoldFailed { reason: "gone".to_owned() }).expect("failed");
    assert_eq!(outcome(&run), Some(Outcome::JobFailed));
}

#[test]
fn a_job_that_is_cancelled_says_so_of_each_receipt() {
    for mut run in [trained(1), aggregating()] {
        run.event(cancel()).expect("cancelled");
        assert_eq!(outcome(&run), Some(Outcome::JobCancelled));
    }
}

#[test]
fn a_job_that_diverges_says_so_of_each_receipt() {
    let mut run = aggregating();
    run.event(Event::Diverged { reason: "NaN".to_owned() }).expect("diverged");
    assert_eq!(outcome(&run), Some(Outcome::Diverged));
    // By the rule, once a first round has said what is usual.
    let mut run = Run::new(9);
    run.policy.divergence.norm_factor = 2.0;
    let all = roster(6, |_| true);
    for number in 1.. {
        run.tick(&all);
        run.open(TaskKind::Train).iter().for_each(|id| run.accept(id).expect("accepted"));
        run.tick(&all);
        let grown = NORM_ONE << (8 * (number - 1));
        run.event(Event::Folded(FoldFacts { update_norm: grown, ..facts(number) })).expect("told");
        if run.state.status.ended() {
            break;
        }
        assert_eq!(outcome(&run), Some(Outcome::Folded));
    }
    assert_eq!(outcome(&run), Some(Outcome::Diverged));
}

#[test]
fn sums_are_pooled_or_end_with_their_job() {
    let asked = || {
        let mut run = Run::asking(None);
        let three = roster(3, |_| true);
        run.tick(&three);
        run.open(TaskKind::Statistics).iter().for_each(|id| run.accept(id).expect("accepted"));
        assert_eq!(outcome(&run), None);
        run
    };
    let after = |event: Event| {
        let mut run = asked();
        run.event(event).expect("taken");
        outcome(&run)
    };
    assert_eq!(after(pooled()), Some(Outcome::Pooled));
    assert_eq!(after(Event::PoolFailed { reason: "none".into() }), Some(Outcome::JobFailed));
    assert_eq!(after(cancel()), Some(Outcome::JobCancelled));
}

#[test]
fn an_evaluation_counts_when_the_job_is_completed() {
    let evaluating = || {
        let mut run = aggregating();
        run.event(Event::Folded(facts(1))).expect("folded");
        run.tick(&roster(6, |_| true));
        let [id] = run.open(TaskKind::Evaluate).try_into().expect("one holds rows out");
        run.accept(&id).expect("accepted");
        let receipt = run.state.tasks[&id].outcome;
        assert_eq!((receipt, run.state.status), (None, JobStatus::Running));
        (run, id)
    };
    let (mut run, id) = evaluating();
    run.tick(&roster(6, |_| true));
    assert_eq!(run.state.status, JobStatus::Completed);
    assert_eq!(run.state.tasks[&id].outcome, Some(Outcome::Scored));
    let (mut run, id) = evaluating();
    run.event(cancel()).expect("cancelled");
    assert_eq!(run.state.tasks[&id].outcome, Some(Outcome::JobCancelled));
    let folded = |t: &&super::Task| t.outcome == Some(Outcome::Folded);
    assert!(run.state.tasks.values().filter(folded).count() >= 2, "what counted, counts");
}
