//! Two that write at once: drivers against drivers, acceptances against closes.

use std::time::Duration;

use sqlx::Connection;
use tributary_coordinator::store::{Holder, JobChanges, StoreError};
use tributary_core::digest::Digest;
use tributary_core::round::{Event, Phase, Rejection, TaskState};

use crate::fixture::{Fixture, open_tasks};

const LONG: Duration = Duration::from_secs(60);

fn by(owner: &str) -> Holder<'_> {
    Holder { owner, lock: None }
}

pub(crate) async fn a_stale_token_cannot_write(fixture: &Fixture) {
    let job = fixture.job("fence").await;
    let stale =
        fixture.store.acquire_lease(&job, by("a"), LONG).await.expect("store").expect("free");
    let fresh =
        fixture.store.acquire_lease(&job, by("a"), LONG).await.expect("store").expect("own");
    let change = |mut state: tributary_core::round::JobState, _| {
        state.clock_ms += 1;
        Ok((state, JobChanges::default(), ()))
    };
    let late = fixture.store.update_job(&job, Some(&stale), |_| false, change).await;
    assert!(matches!(late, Err(StoreError::Fenced { .. })), "{late:?}");
    assert_eq!(fixture.stored(&job).await.clock_ms, 0);
    fixture
        .store
        .update_job(&job, Some(&fresh), |_| false, change)
        .await
        .expect("store")
        .expect("not refused");
    assert_eq!(fixture.stored(&job).await.clock_ms, 1);
}

pub(crate) async fn leases_expire_and_owners_take_their_own_back(fixture: &Fixture) {
    let job = fixture.job("lease").await;
    let short = Duration::from_millis(100);
    let first =
        fixture.store.acquire_lease(&job, by("a"), short).await.expect("store").expect("free");
    assert_eq!(fixture.store.acquire_lease(&job, by("b"), LONG).await.expect("store"), None);
    tokio::time::sleep(short * 2).await;
    let second =
        fixture.store.acquire_lease(&job, by("b"), LONG).await.expect("store").expect("past");
    assert!(!fixture.store.renew_lease(&job, &first, None, LONG).await.expect("store"));
    assert!(fixture.store.renew_lease(&job, &second, None, LONG).await.expect("store"));
    fixture.store.release_lease(&job, &first).await.expect("a stale release does nothing");
    assert_eq!(fixture.store.acquire_lease(&job, by("a"), LONG).await.expect("store"), None);
    fixture.store.release_lease(&job, &second).await.expect("release");
    assert!(fixture.store.acquire_lease(&job, by("a"), LONG).await.expect("store").is_some());
}

pub(crate) async fn a_lease_is_free_once_its_holders_session_is_gone(fixture: &Fixture) {
    let key = 0x1234_5678_9abc_def0;
    let Some(mut session) = fixture.store.session().await.expect("session") else {
        return; // SQLite serves one process
    };
    assert!(session.lock(key).await.expect("store"), "nobody has it");
    let job = fixture.job("session").await;
    let holder = Holder { owner: "a", lock: Some(key) };
    fixture.store.acquire_lease(&job, holder, LONG).await.expect("store").expect("free");
    assert_eq!(fixture.store.acquire_lease(&job, by("b"), LONG).await.expect("store"), None);
    assert!(fixture.store.takeable_jobs("b").await.expect("store").is_empty());
    drop(session);
    let deadline = std::time::Instant::now() + LONG;
    while fixture.store.takeable_jobs("b").await.expect("store").is_empty() {
        assert!(std::time::Instant::now() < deadline, "the session's end frees the lease");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(fixture.store.acquire_lease(&job, by("b"), LONG).await.expect("store").is_some());
}

pub(crate) async fn hints_reach_other_sessions(fixture: &Fixture) {
    let Some(mut session) = fixture.store.session().await.expect("session") else { return };
    fixture.store.notify("job x").await.expect("notify");
    assert_eq!(session.next().await.expect("store").as_deref(), Some("job x"));
}

pub(crate) async fn an_acceptance_is_in_the_accepted_set_or_refused(fixture: &Fixture) {
    let (mut counted, mut refused) = (0, 0);
    for i in 0..25_u64 {
        let job = fixture.job(&format!("race {i}")).await;
        let state = fixture.settle(&job, 10).await;
        let tasks = open_tasks(&state);
        // One is in before the race, so that the close has something to fold.
        fixture.accept(&tasks[0], Digest::of(b"0")).await.expect("accept");
        let close = fixture.event(&job, 100_010, Event::Tick { roster: None });
        let late = |k: usize| {
            let task = &tasks[k];
            async move {
                tokio::time::sleep(Duration::from_micros(i * 37 * k as u64 % 1500)).await;
                fixture.accept(task, Digest::of(task.as_str().as_bytes())).await
            }
        };
        let (closed, a, b, c) = tokio::join!(close, late(1), late(2), late(3));
        closed.expect("close");
        let stored = fixture.stored(&job).await;
        let round = stored.round.expect("a round");
        assert_eq!(round.phase, Phase::Aggregating);
        for (k, result) in [(1, a), (2, b), (3, c)] {
            match result {
                Ok(()) => {
                    counted += 1;
                    assert!(
                        round.accepted.contains(&tasks[k]),
                        "a receipt that counts for nothing"
                    );
                }
                Err(Rejection::RoundClosed { .. } | Rejection::TaskEnded { .. }) => {
                    refused += 1;
                    assert!(!round.accepted.contains(&tasks[k]));
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(
            fixture.store.accepted_updates(&job, 1).await.expect("rows").len(),
            round.accepted.len()
        );
    }
    assert_eq!(counted + refused, 75, "every one had an answer");
}

pub(crate) async fn sums_are_in_the_pool_or_refused(fixture: &Fixture) {
    let fixture = &fixture.asking();
    let mut answered = 0;
    for i in 0..20_u64 {
        let job = fixture.job(&format!("pool {i}")).await;
        let tasks = open_tasks(&fixture.settle(&job, 10).await);
        for task in &tasks[..3] {
            fixture.accept(task, Digest::of(task.as_str().as_bytes())).await.expect("accept");
        }
        let close = fixture.event(&job, 200_000, Event::Tick { roster: None });
        let late = async {
            tokio::time::sleep(Duration::from_micros(i * 97 % 1500)).await;
            fixture.accept(&tasks[3], Digest::of(b"late")).await
        };
        let (closed, late) = tokio::join!(close, late);
        closed.expect("close");
        let stored = fixture.stored(&job).await;
        assert!(stored.tasks.values().all(|task| !task.state.open()), "nothing comes behind");
        let counted = stored.tasks[&tasks[3]].state == TaskState::Accepted;
        match late {
            Ok(()) => assert!(counted, "a receipt that counts for nothing"),
            Err(Rejection::TaskEnded { .. }) => assert!(!counted),
            Err(other) => panic!("{other:?}"),
        }
        let sums = fixture.store.site_sums(&job).await.expect("sums");
        assert_eq!(sums.len(), 3 + usize::from(counted));
        answered += 1;
    }
    assert_eq!(answered, 20);
}

pub(crate) async fn passes_and_acceptances_take_their_locks_in_one_order(fixture: &Fixture) {
    for i in 0..10 {
        let job = fixture.job(&format!("order {i}")).await;
        let tasks = open_tasks(&fixture.settle(&job, 10).await);
        let pass = || async {
            for _ in 0..20 {
                fixture.event(&job, 20, Event::Tick { roster: None }).await.expect("a pass");
            }
        };
        let accept = |k: usize| {
            let task = &tasks[k];
            async move {
                tokio::time::sleep(Duration::from_millis(2 * k as u64)).await;
                fixture.accept(task, Digest::of(task.as_str().as_bytes())).await.expect("accept");
            }
        };
        tokio::join!(pass(), pass(), accept(0), accept(1), accept(2));
    }
    assert_eq!(deadlocks(fixture).await, 0, "a deadlock costs a second and a retry");
}

/// How often Postgres had to break a deadlock in this database; SQLite has one writer.
async fn deadlocks(fixture: &Fixture) -> i64 {
    if fixture.url.starts_with("sqlite") {
        return 0;
    }
    // A session's counts reach the statistics at the latest a second after its last transaction.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut shell = sqlx::PgConnection::connect(&fixture.url).await.expect("connect");
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(&mut shell).await.expect("statistics")
}

pub(crate) async fn the_same_update_twice_is_one_row(fixture: &Fixture) {
    let job = fixture.job("twice").await;
    let tasks = open_tasks(&fixture.settle(&job, 10).await);
    let digest = Digest::of(b"update");
    let (a, b) = tokio::join!(fixture.accept(&tasks[0], digest), fixture.accept(&tasks[0], digest));
    a.expect("one");
    b.expect("the other");
    let other = fixture.accept(&tasks[0], Digest::of(b"other")).await;
    assert_eq!(other, Err(Rejection::AlreadyAccepted { accepted: digest }));
    let rows = fixture.store.updates(&job, 1).await.expect("rows");
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].0.digest, rows[0].1), (digest, None), "no place before the close");
}
