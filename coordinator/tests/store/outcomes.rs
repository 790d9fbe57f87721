//! What becomes of receipts, as it stands in the database: written where their round or job ends.

use std::collections::BTreeSet;
use std::time::Duration;

use tributary_core::digest::Digest;
use tributary_core::name::JobId;
use tributary_core::round::{Event, JobStatus, Outcome, Phase, Rejection};

use crate::fixture::{Fixture, facts, open_tasks};

/// The outcomes of a round's receipts in the database; none for one that is open.
async fn outcomes(fixture: &Fixture, job: &JobId, round: u32) -> BTreeSet<Option<Outcome>> {
    let tasks = fixture.store.tasks(job, round).await.expect("tasks");
    tasks.iter().filter(|task| task.accepted.is_some()).map(|task| task.outcome).collect()
}

/// A job whose first round is about to be folded.
async fn aggregating(fixture: &Fixture, key: &str) -> JobId {
    let job = fixture.job(key).await;
    let state = fixture.settle(&job, 10).await;
    for task in open_tasks(&state) {
        fixture.accept(&task, Digest::of(task.as_str().as_bytes())).await.expect("accept");
    }
    let closed = fixture.settle(&job, 20).await;
    assert_eq!(closed.round.map(|round| round.phase), Some(Phase::Aggregating));
    assert_eq!(outcomes(fixture, &job, 1).await, [None].into(), "it goes on");
    job
}

pub(crate) async fn each_end_writes_its_outcome_beside_the_receipts(fixture: &Fixture) {
    let ends: [(&str, Event, Outcome); 4] = [
        ("folded", Event::Folded(facts(1)), Outcome::Folded),
        ("cancelled", Event::Cancel { reason: "enough".into() }, Outcome::JobCancelled),
        ("failed", Event::FoldFailed { reason: "gone".into() }, Outcome::JobFailed),
        ("diverged", Event::Diverged { reason: "NaN".into() }, Outcome::Diverged),
    ];
    for (key, event, outcome) in ends {
        let job = aggregating(fixture, key).await;
        let state = fixture.event(&job, 30, event).await.expect("taken");
        assert_eq!(outcomes(fixture, &job, 1).await, [Some(outcome)].into(), "{key}");
        let stored = fixture.stored(&job).await;
        assert_eq!(state.tasks, stored.tasks, "they come back as they were written");
    }
    // The rounds before keep theirs.
    let job = aggregating(fixture, "second").await;
    fixture.event(&job, 30, Event::Folded(facts(1))).await.expect("folded");
    let state = fixture.settle(&job, 40).await;
    for task in open_tasks(&state) {
        fixture.accept(&task, Digest::of(b"2")).await.expect("accept");
    }
    fixture.event(&job, 50, Event::Cancel { reason: "enough".into() }).await.expect("cancelled");
    assert_eq!(outcomes(fixture, &job, 1).await, [Some(Outcome::Folded)].into());
    assert_eq!(outcomes(fixture, &job, 2).await, [Some(Outcome::JobCancelled)].into());
}

pub(crate) async fn sums_are_settled_before_the_first_round_opens(fixture: &Fixture) {
    let fixture = &fixture.asking();
    let asked = async |key: &str| {
        let job = fixture.job(key).await;
        for task in open_tasks(&fixture.settle(&job, 10).await) {
            fixture.accept(&task, Digest::of(task.as_str().as_bytes())).await.expect("accept");
        }
        assert_eq!(outcomes(fixture, &job, 0).await, [None].into());
        job
    };
    let job = asked("pooled").await;
    let constants = Digest::of(b"constants");
    fixture.event(&job, 20, Event::Pooled { constants, rows: 28 }).await.expect("pooled");
    fixture.settle(&job, 30).await;
    assert_eq!(outcomes(fixture, &job, 0).await, [Some(Outcome::Pooled)].into());
    let job = asked("held").await;
    fixture.event(&job, 20, Event::Cancel { reason: "enough".into() }).await.expect("cancelled");
    assert_eq!(outcomes(fixture, &job, 0).await, [Some(Outcome::JobCancelled)].into());
}

pub(crate) async fn an_acceptance_that_meets_a_cancel_is_settled_or_refused(fixture: &Fixture) {
    let (mut settled, mut refused) = (0, 0);
    for i in 0..25_u64 {
        let job = fixture.job(&format!("race {i}")).await;
        let tasks = open_tasks(&fixture.settle(&job, 10).await);
        let cancel = fixture.event(&job, 20, Event::Cancel { reason: "enough".into() });
        let late = |k: usize| {
            let task = &tasks[k];
            async move {
                tokio::time::sleep(Duration::from_micros(i * 37 * k as u64 % 1500)).await;
                fixture.accept(task, Digest::of(task.as_str().as_bytes())).await
            }
        };
        let (ended, a, b, c) = tokio::join!(cancel, late(0), late(1), late(2));
        assert_eq!(ended.expect("cancelled").status, JobStatus::Cancelled);
        let stored = fixture.stored(&job).await;
        for (task, result) in tasks.iter().zip([a, b, c]) {
            let outcome = stored.tasks[task].outcome;
            match result {
                Ok(()) => {
                    settled += 1;
                    assert_eq!(outcome, Some(Outcome::JobCancelled), "a receipt without an end");
                }
                Err(Rejection::JobEnded { .. } | Rejection::RoundClosed { .. }) => {
                    refused += 1;
                    assert_eq!(outcome, None, "no receipt");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(settled + refused, 75, "every one had an answer");
}
