//! When a job has diverged: clients that say so, norms and losses that say so, and what must not.

use proptest::collection::vec;
use proptest::proptest;

use super::{Run, cannot, facts, roster};
use crate::digest::Digest;
use crate::metrics::{LOSS_MAX, LOSS_ONE, Statistics};
use crate::round::divergence::{Limits, NORM_ONE, median_loss};
use crate::round::task::{DIVERGED, TaskEvent};
use crate::round::{Event, FoldFacts, JobStatus, Phase, TaskKind};

#[test]
fn a_cohort_that_diverges_ends_the_job_at_once_and_one_site_does_not() {
    let mut run = Run::new(1);
    let all = roster(8, |_| true);
    run.tick(&all);
    let diverged = |reason: &str| {
        let (code, reason) = (DIVERGED.to_owned(), reason.to_owned());
        TaskEvent::Fail { code, reason }
    };
    // Four are asked: two of them are not more than half, and others step in.
    for _ in 0..2 {
        let id = run.open(TaskKind::Train)[0].clone();
        run.task(&id, diverged("the loss is NaN in step 3")).expect("said");
        run.tick(&all);
        assert_eq!((run.state.status, run.phase()), (JobStatus::Running, Some(Phase::Training)));
        assert_eq!(run.open(TaskKind::Train).len(), 4, "another one steps in");
    }
    // Whoever cannot for another reason does not count.
    let id = run.open(TaskKind::Train)[0].clone();
    run.task(&id, cannot("no disk")).expect("said");
    run.tick(&all);
    assert_eq!(run.state.status, JobStatus::Running);
    let id = run.open(TaskKind::Train)[0].clone();
    run.task(&id, diverged("the loss is NaN in step 3")).expect("said");
    run.tick(&all);
    assert_eq!(run.state.status, JobStatus::Failed, "in the first attempt of two");
    let reason = run.state.reason.as_deref().unwrap_or_default();
    assert!(reason.starts_with("diverged: round 1: ") && reason.contains("3 of 4"), "{reason}");
    assert!(reason.contains("NaN in step 3"), "{reason}");
    let round = run.state.round.as_ref().expect("a round");
    assert_eq!((round.phase, round.reason.as_deref()), (Phase::Missed, Some(DIVERGED)));
    assert_eq!(run.state.checkpoint, Digest::of(b"checkpoint 0"), "the last good one stands");
}

#[test]
fn exact_replay_ends_a_cohort_that_diverges_too() {
    let mut run = Run::new(1);
    run.policy.cohort.exact_replay = true;
    let all = roster(6, |_| true);
    run.tick(&all);
    for id in run.open(TaskKind::Train).into_iter().take(2) {
        let (code, reason) = (DIVERGED.to_owned(), "NaN".to_owned());
        run.task(&id, TaskEvent::Fail { code, reason }).expect("said");
    }
    run.tick(&all);
    let reason = run.state.reason.as_deref().unwrap_or_default();
    assert!(reason.starts_with("diverged: round 1: ") && reason.contains("2 of 3"), "{reason}");
}

/// Commits rounds of these norms and losses, as far as the machine lets them.
fn committed(limits: Limits, rounds: &[(u64, i64)]) -> Run {
    let mut run = Run::new(1000);
    run.policy.divergence = limits;
    run.policy.final_evaluation = false;
    let all = roster(6, |_| true);
    for (number, (norm, loss)) in (1..).zip(rounds) {
        run.tick(&all);
        for id in run.open(TaskKind::Train) {
            run.accept(&id).expect("accepted");
        }
        run.tick(&all);
        let facts = FoldFacts { update_norm: *norm, median_loss: Some(*loss), ..facts(number) };
        run.event(Event::Folded(facts)).expect("folded");
        if run.state.status.ended() {
            break;
        }
    }
    run
}

const LIMITS: Limits = Limits { norm_factor: 100.0, loss_factor: 10.0 };

#[test]
fn an_update_that_explodes_is_not_committed_and_ends_the_job() {
    let good = [(NORM_ONE, LOSS_ONE); 5];
    let wild = |norm: u64, loss: i64| [good.as_slice(), &[(norm, loss)]].concat();
    let clamp = LOSS_MAX as i64 * LOSS_ONE;
    for (rounds, says) in [
        (wild(101 * NORM_ONE, LOSS_ONE), "norm is 101.0000, 101 times the median of the last 5"),
        (wild(NORM_ONE, 11 * LOSS_ONE), "loss is 11.0000, the best so far was 1.0000"),
        (wild(NORM_ONE, clamp), "loss is at or above 1024"),
    ] {
        let run = committed(LIMITS, &rounds);
        let reason = run.state.reason.clone().unwrap_or_default();
        assert!(reason.starts_with("diverged: round 6: ") && reason.contains(says), "{reason}");
        assert_eq!(run.state.status, JobStatus::Failed);
        assert_eq!(run.state.checkpoint, facts(5).checkpoint_out, "the last good one stands");
        let round = run.state.round.as_ref().expect("a round");
        assert_eq!((round.phase, round.reason.as_deref()), (Phase::Missed, Some(DIVERGED)));
        assert_eq!((&round.facts, &round.result), (&None, &None));
        let off = Limits { norm_factor: 0.0, loss_factor: 0.0 };
        assert_eq!(committed(off, &rounds).state.status, JobStatus::Running, "0 is off");
    }
    // The first rounds are not judged, nor is growth below a norm that there was.
    let early = [(1, LOSS_ONE), (2, LOSS_ONE), (NORM_ONE, LOSS_ONE)];
    assert_eq!(committed(LIMITS, &early).state.status, JobStatus::Running);
    let mut again = vec![(NORM_ONE, LOSS_ONE); 3];
    again.extend([(1, 1); 6]);
    again.push((NORM_ONE, LOSS_ONE));
    assert_eq!(committed(LIMITS, &again).state.status, JobStatus::Running);
    // Values that are no numbers need no history.
    let mut run = committed(LIMITS, &[]);
    let all = roster(6, |_| true);
    run.tick(&all);
    for id in run.open(TaskKind::Train) {
        run.accept(&id).expect("accepted");
    }
    run.tick(&all);
    run.event(Event::Diverged { reason: "coordinate 3".to_owned() }).expect("told");
    assert_eq!(run.state.reason.as_deref(), Some("diverged: round 1: coordinate 3"));
}

#[test]
fn the_loss_of_the_median_client_counts() {
    let of = |loss: i64| {
        let examples = 4;
        Statistics { examples, loss_sum: loss * examples as i64, ..Statistics::default() }
    };
    let median =
        |losses: &[i64]| median_loss(losses.iter().map(|&l| of(l)).collect::<Vec<_>>().iter());
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[7]), Some(7));
    assert_eq!(median(&[9, 1 << 30, 3]), Some(9), "one site's word moves it no further");
    assert_eq!(median(&[1, 2, 3, 4]), Some(2));
    assert_eq!(median_loss([Statistics::default()].iter()), None, "nobody scored an example");
}

proptest! {
    /// Norms that differ by less than the factor never end a job, in whatever order they come; nor
    /// does one client among others that sends as much as all of them together, again and again.
    #[test]
    fn bounded_norms_and_one_outlier_never_stop_a_job(
        base in 1_u64..1 << 40,
        grown in vec(1_u64..=49, 1..40),
        outliers in vec(proptest::bool::ANY, 40),
        losses in vec(0_i64..10 * LOSS_ONE, 40),
    ) {
        let norm = |(grown, outlier): (&u64, &bool)| base * grown * if *outlier { 2 } else { 1 };
        let norms = grown.iter().zip(&outliers).map(norm);
        let rounds: Vec<_> = norms.zip(losses).collect();
        let run = committed(LIMITS, &rounds);
        assert_eq!(run.state.reason, None);
        assert_eq!(run.state.round.as_ref().map(|r| r.number as usize), Some(rounds.len()));
    }
}
