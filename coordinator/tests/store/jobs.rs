//! Jobs from creation to completion, as they come back from the database.

use std::time::Duration;

use tributary_coordinator::store::{CreatedJob, Greeting, Holder};
use tributary_core::digest::Digest;
use tributary_core::instance::Instance;
use tributary_core::round::task::{DIVERGED, TaskEvent};
use tributary_core::round::{Event, JobStatus, Phase, Rejection, TaskKind};

use crate::fixture::{Fixture, facts, hello, new_job, open_tasks};

pub(crate) async fn creating_is_idempotent(fixture: &Fixture) {
    let job = fixture.job("one").await;
    let again = fixture.store.create_job(&new_job("one")).await.expect("again");
    assert_eq!(again, CreatedJob::Existing(job.clone()));
    let mut other = new_job("one");
    other.spec = other.spec.replace("rounds = 2", "rounds = 3");
    let conflict = fixture.store.create_job(&other).await.expect("conflict");
    assert_eq!(conflict, CreatedJob::Conflict(job.clone()));
    let spec = new_job("one").spec;
    let earlier = |id: &'static str, spec: String| {
        let store = fixture.store.clone();
        async move { store.earlier_job(id, &spec).await.expect("looked") }
    };
    assert_eq!(earlier("one", spec.clone()).await, Some(CreatedJob::Existing(job.clone())));
    assert_eq!(earlier("one", other.spec).await, Some(CreatedJob::Conflict(job.clone())));
    assert_eq!(earlier("two", spec).await, None);
    // Another request whose job would have the same id.
    let mut collides = new_job("two");
    collides.state.id = job.clone();
    let taken = fixture.store.create_job(&collides).await.expect("answered");
    assert_eq!(taken, CreatedJob::Taken(job.clone()));
    let lines = fixture.store.audit_lines(0, 100).await.expect("the audit");
    let made: Vec<&str> = lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(made, ["job_created"], "with the job, once");
    assert_eq!(fixture.store.takeable_jobs("a").await.expect("open"), vec![job.clone()]);
    let events = fixture.store.events(&job, 0, 10).await.expect("events");
    assert_eq!(events.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["job_submitted"]);
}

pub(crate) async fn a_whole_job_is_stored_step_by_step(fixture: &Fixture) {
    let job = fixture.job("walk").await;
    for round in 1..=2 {
        let state = fixture.settle(&job, 1000 * u64::from(round)).await;
        assert_eq!(state, fixture.stored(&job).await);
        assert_eq!(
            state.round.as_ref().map(|r| (r.number, r.phase)),
            Some((round, Phase::Training))
        );
        for task in open_tasks(&state) {
            let client = &state.tasks[&task].client;
            assert_eq!(fixture.store.open_task(client).await.expect("open"), Some(task.clone()));
            fixture.accept(&task, Digest::of(task.as_str().as_bytes())).await.expect("accept");
        }
        let closed = fixture.settle(&job, 1000 * u64::from(round) + 500).await;
        assert_eq!(closed.round.as_ref().map(|r| r.phase), Some(Phase::Aggregating));
        assert_eq!(closed, fixture.stored(&job).await);
        let accepted = fixture.store.accepted_updates(&job, round).await.expect("accepted");
        let clients: Vec<&str> = accepted.iter().map(|u| u.client.as_str()).collect();
        assert_eq!(clients, ["site-0", "site-1", "site-2", "site-3"], "sorted by client name");
        let event = Event::Folded(facts(round));
        let committed = fixture.event(&job, 1000 * u64::from(round) + 600, event).await;
        assert_eq!(committed.expect("committed"), fixture.stored(&job).await);
    }
    let done = fixture.settle(&job, 9000).await;
    assert_eq!(done.status, JobStatus::Completed, "no client has held-out rows");
    let rounds = fixture.store.rounds(&job, None, 10).await.expect("rounds");
    assert_eq!(rounds.len(), 2);
    assert!(rounds.iter().all(|r| r.state.accepted.len() == 4 && r.state.result.is_some()));
    assert_eq!(rounds[0].state.facts, Some(facts(1)), "numbers up to 2^63 − 1 come back");
    let row = fixture.store.find_job("contract").await.expect("find").expect("a row");
    assert_eq!((row.id.clone(), row.checkpoint), (job.clone(), facts(2).checkpoint_out));
    let last = fixture.store.checkpoint(&job, 2).await.expect("read").expect("a row");
    let same = fixture.store.checkpoint_by_digest(&last.digest).await.expect("read");
    assert_eq!(same, Some(last));
    assert_eq!(fixture.store.verify_events(&job).await.expect("verify"), None);
}

pub(crate) async fn an_unchanged_state_writes_nothing(fixture: &Fixture) {
    let job = fixture.job("quiet").await;
    fixture.settle(&job, 10).await;
    let row = fixture.store.job(&job).await.expect("row").expect("a row");
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    fixture.stored(&job).await;
    let same = fixture.store.job(&job).await.expect("row").expect("a row");
    assert_eq!(row.updated_at_us, same.updated_at_us);
    let ticked = fixture.event(&job, 5000, Event::Tick { roster: None }).await.expect("tick");
    assert_eq!(ticked.clock_ms, 5000);
    assert_eq!(fixture.stored(&job).await.clock_ms, 5000, "the clock alone is written");
}

pub(crate) async fn jobs_are_listed_newest_first_in_pages(fixture: &Fixture) {
    let mut made = Vec::new();
    for i in 0..5 {
        made.push(fixture.job(&format!("job {i}")).await);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    made.reverse();
    let mut listed = Vec::new();
    let mut before = None;
    loop {
        let page = fixture.store.jobs(None, before, 2).await.expect("page");
        let Some(last) = page.last() else { break };
        before = Some((last.created_at_us, last.id.clone()));
        listed.extend(page.into_iter().map(|row| row.id));
    }
    assert_eq!(listed, made);
    let ended = fixture.store.jobs(Some(JobStatus::Completed), None, 9).await.expect("page");
    assert!(ended.is_empty());
}

pub(crate) async fn a_page_of_rounds_ends_with_a_whole_round(fixture: &Fixture) {
    let job = fixture.job("missed").await;
    fixture.settle(&job, 10).await;
    // Nobody sends anything until the deadline: the attempt is missed, and another one begins.
    let missed = fixture.event(&job, 200_000, Event::Tick { roster: None }).await.expect("tick");
    assert_eq!(missed.round.map(|round| round.phase), Some(Phase::Missed));
    let again = fixture.settle(&job, 200_000).await;
    assert_eq!(again.round.map(|round| (round.number, round.attempt)), Some((1, 2)));
    let page = fixture.store.rounds(&job, None, 1).await.expect("rounds");
    let attempts: Vec<u32> = page.iter().map(|row| row.state.attempt).collect();
    assert_eq!(attempts, [1, 2], "the next page begins behind round 1");
    assert!(fixture.store.rounds(&job, Some(1), 1).await.expect("rounds").is_empty());
}

pub(crate) async fn a_refused_change_leaves_no_trace(fixture: &Fixture) {
    let job = fixture.job("refused").await;
    let before = fixture.stored(&job).await;
    let refused = fixture.event(&job, 99, Event::Resume).await;
    assert!(matches!(refused, Err(Rejection::WrongState { .. })), "{refused:?}");
    assert_eq!(fixture.stored(&job).await, before);
    let nobody = "nobody-00000000".parse().expect("an id");
    assert!(fixture.store.job(&nobody).await.expect("read").is_none());
    assert!(fixture.store.find_job("nothing").await.expect("read").is_none());
}

pub(crate) async fn clients_are_rosters_and_quiet_polls_are_not_written(fixture: &Fixture) {
    assert_eq!(fixture.store.hello(&hello(1)).await.expect("hello"), Greeting::Changed, "new");
    let first = fixture.store.clients().await.expect("clients");
    assert_eq!(fixture.store.hello(&hello(1)).await.expect("hello"), Greeting::Known);
    let second = fixture.store.clients().await.expect("clients");
    assert_eq!(first[0].last_seen_us, second[0].last_seen_us, "not written again so soon");
    assert!(first[0].present);
    // A client whose data is of another shape is in nobody's roster.
    let mut other = hello(2);
    other.bindings[0].shape = vec![4];
    fixture.store.hello(&other).await.expect("hello");
    let new = new_job("roster");
    fixture.store.create_job(&new).await.expect("create");
    let roster = fixture
        .store
        .update_job(
            &new.state.id,
            None,
            |_| true,
            |state, roster| Ok((state, Default::default(), roster)),
        )
        .await
        .expect("store")
        .expect("not refused")
        .expect("a roster");
    let names: Vec<&str> = roster.trainers().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["site-1"]);
}

pub(crate) async fn a_second_agent_of_an_identity_is_refused_and_a_restart_is_not(
    fixture: &Fixture,
) {
    let process = |copy, start| {
        let instance = Instance::new(copy, start).to_string();
        tributary_coordinator::store::ClientHello { instance, ..hello(1) }
    };
    let greet = |copy, start| {
        let store = fixture.store.clone();
        async move { store.hello(&process(copy, start)).await.expect("hello") }
    };
    assert_eq!(greet(1, 10).await, Greeting::Changed);
    assert_eq!(greet(2, 99).await, Greeting::InUse, "a copy elsewhere");
    assert_eq!(greet(1, 11).await, Greeting::Changed, "a restart, at once");
    assert_eq!(
        greet(1, 10).await,
        Greeting::InUse,
        "a process of a moment ago that is still there"
    );
    assert_eq!(greet(1, 11).await, Greeting::Known);
    let held = fixture.store.clients().await.expect("clients");
    assert_eq!(held[0].hello.instance, process(1, 11).instance, "the first one is undisturbed");
    // Of many at once, one.
    let mut greeting = tokio::task::JoinSet::new();
    for copy in 10..20 {
        let (store, mut new) = (fixture.store.clone(), process(copy, 1));
        new.name = "site-7".parse().expect("a name");
        greeting.spawn(async move { store.hello(&new).await.expect("hello") });
    }
    let greetings = greeting.join_all().await;
    let taken = greetings.iter().filter(|found| **found != Greeting::InUse).count();
    assert_eq!(taken, 1, "{greetings:?}");
}

pub(crate) async fn sums_are_asked_for_and_pooled_before_the_first_round(fixture: &Fixture) {
    let fixture = &fixture.asking();
    let job = fixture.job("sums").await;
    let state = fixture.settle(&job, 10).await;
    assert_eq!(state, fixture.stored(&job).await);
    assert!(state.pooling() && state.round.is_none());
    let tasks = open_tasks(&state);
    assert_eq!(tasks.len(), 4);
    for task in &tasks {
        let view = fixture.store.task(task).await.expect("read").expect("a view without a round");
        assert_eq!((view.task.kind, view.task.round), (TaskKind::Statistics, 0));
        assert_eq!((view.constants, view.checkpoint), (None, state.checkpoint));
        let open = fixture.store.open_task(&view.task.client).await.expect("open");
        assert_eq!(open.as_ref(), Some(task));
        fixture.accept(task, Digest::of(task.as_str().as_bytes())).await.expect("accept");
    }
    let sums = fixture.store.site_sums(&job).await.expect("sums");
    let clients: Vec<&str> = sums.iter().map(|row| row.client.as_str()).collect();
    assert_eq!(clients, ["site-0", "site-1", "site-2", "site-3"], "sorted by client name");
    assert_eq!(fixture.settle(&job, 20).await, fixture.stored(&job).await);
    let constants = Digest::of(b"constants");
    let pooled = fixture.event(&job, 30, Event::Pooled { constants, rows: 28 }).await;
    let pooled = pooled.expect("pooled");
    assert_eq!(pooled, fixture.stored(&job).await);
    assert_eq!(pooled.round, None, "what became of the sums is stored before they are left");
    let row = fixture.store.job(&job).await.expect("read").expect("a row");
    assert_eq!((row.constants, row.result), (Some(constants), pooled.result));
    let training = fixture.settle(&job, 40).await;
    assert_eq!(training, fixture.stored(&job).await);
    let train = open_tasks(&training);
    let view = fixture.store.task(&train[0]).await.expect("read").expect("a task");
    assert_eq!((view.task.kind, view.constants), (TaskKind::Train, Some(constants)));
    let late = fixture.accept(&tasks[0], Digest::of(b"other")).await;
    assert!(matches!(late, Err(Rejection::AlreadyAccepted { .. })), "{late:?}");
    assert_eq!(fixture.store.verify_events(&job).await.expect("verify"), None);
}

pub(crate) async fn clients_of_an_older_protocol_are_in_no_roster_of_such_a_job(fixture: &Fixture) {
    let mut new = new_job("newer");
    new.data_need.protocol = 2;
    fixture.store.create_job(&new).await.expect("create");
    for i in 0..4 {
        let mut hello = hello(i);
        hello.protocol = if i < 3 { 2 } else { 1 };
        let greeting = fixture.store.hello(&hello).await.expect("hello");
        assert_eq!(greeting, Greeting::Changed, "new, or changed");
    }
    let state = fixture.settle(&new.state.id, 10).await;
    assert_eq!(state.round.as_ref().map(|r| r.phase), Some(Phase::Selecting), "three of four");
    let mut fourth = hello(3);
    fourth.protocol = 2;
    let greeting = fixture.store.hello(&fourth).await.expect("hello");
    assert_eq!(greeting, Greeting::Changed, "it was updated");
    let state = fixture.settle(&new.state.id, 20).await;
    assert_eq!(open_tasks(&state).len(), 4);
    let clients = fixture.store.clients().await.expect("clients");
    assert!(clients.iter().all(|row| row.hello.protocol == 2));
}

pub(crate) async fn what_a_driver_waits_for_stands_until_its_next_step(fixture: &Fixture) {
    let (job, store) = (fixture.job("waits").await, &fixture.store);
    let ttl = Duration::from_secs(60);
    let holder = |owner| Holder { owner, lock: None };
    let token = store.acquire_lease(&job, holder("a"), ttl).await.expect("lease").expect("free");
    store.note_wait(&job, &token, "waiting to fold round 1").await.expect("noted");
    let waits_for = async || store.job(&job).await.expect("job").expect("a row").waits_for;
    assert_eq!(waits_for().await.as_deref(), Some("waiting to fold round 1"));
    // Whoever lost the lease says nothing any more.
    store.release_lease(&job, &token).await.expect("released");
    store.acquire_lease(&job, holder("b"), ttl).await.expect("lease").expect("free");
    store.note_wait(&job, &token, "stale").await.expect("no error");
    assert_eq!(waits_for().await.as_deref(), Some("waiting to fold round 1"));
    fixture.settle(&job, 1000).await;
    assert_eq!(waits_for().await, None);
}

pub(crate) async fn a_failed_task_keeps_its_code(fixture: &Fixture) {
    let job = fixture.job("codes").await;
    let state = fixture.settle(&job, 1000).await;
    let task = open_tasks(&state)[0].clone();
    let (code, reason) = (DIVERGED.to_owned(), "NaN".to_owned());
    let event = Event::Task {
        client: state.tasks[&task].client.clone(),
        task: task.clone(),
        instance: "a".to_owned(),
        event: TaskEvent::Fail { code, reason },
    };
    fixture.event(&job, 1100, event).await.expect("failed");
    let stored = fixture.stored(&job).await;
    assert_eq!(stored.tasks[&task].code.as_deref(), Some(DIVERGED));
    let tasks = fixture.store.tasks(&job, 1).await.expect("tasks");
    let codes: Vec<_> = tasks.iter().filter_map(|t| t.code.as_deref()).collect();
    assert_eq!(codes, [DIVERGED]);
}
