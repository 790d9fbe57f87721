//! The machine by examples and by properties: no sequence of events reaches an impossible state, and
//! the same events give the same state.

mod outcome;
mod statistics;

use std::collections::BTreeSet;

use proptest::prelude::{Strategy, prop_oneof};
use proptest::{collection::vec, proptest};

use super::cohort::{Member, Roster, draw};
use super::divergence::{Limits, NORM_ONE};
use super::policy::StatisticsPolicy;
use super::task::{Accepted, DIVERGED, TaskEvent, UNABLE};
use super::{
    Effect, Event, FoldFacts, JobState, JobStatus, Phase, Policy, Rejection, Task, TaskKind,
    TaskState, step,
};
use crate::digest::Digest;
use crate::instance::Instance;
use crate::metrics::{LOSS_ONE, Statistics};
use crate::name::{ClientName, TaskId};
use crate::spec::cohort::CohortSpec;

mod divergence;

fn policy(rounds: u32) -> Policy {
    Policy {
        rounds,
        seed: 7,
        cohort: CohortSpec {
            fraction_train: 0.5,
            min_available_clients: 3,
            min_train_clients: 3,
            min_updates: 2,
            max_examples: 1000,
            deadline_s: 10,
            lease_s: 3,
            max_attempts: 2,
            over_selection: 1.0,
            exact_replay: false,
        },
        divergence: Limits { norm_factor: 100.0, loss_factor: 10.0 },
        final_evaluation: true,
        spec: Digest::of(b"spec"),
        statistics: None,
    }
}

fn name(i: usize) -> ClientName {
    format!("site-{i}").parse().expect("a name")
}

fn roster(count: usize, present: impl Fn(usize) -> bool) -> Roster {
    let member = |i| Member {
        name: name(i),
        train_examples: 100 + i as u64,
        evaluate_examples: u64::from(i == 0) * 10,
        present: present(i),
    };
    Roster::new((0..count).map(member).collect())
}

fn submitted() -> JobState {
    let id = "job-1".parse().expect("a job id");
    JobState::submitted(id, Digest::of(b"spec"), Digest::of(b"checkpoint 0"))
}

fn facts(round: u32) -> FoldFacts {
    FoldFacts {
        checkpoint_out: Digest::of(format!("checkpoint {round}").as_bytes()),
        checkpoint_bytes: 1,
        examples: 1,
        statistics: Statistics::new(2).expect("statistics"),
        bytes_up: 1,
        bytes_down: 1,
        update_norm: NORM_ONE,
        median_loss: Some(LOSS_ONE),
        fold_ms: 1,
    }
}

fn cannot(reason: &str) -> TaskEvent {
    TaskEvent::Fail { code: UNABLE.to_owned(), reason: reason.to_owned() }
}

/// A job under test, with the shortest words for what happens to it.
struct Run {
    state: JobState,
    policy: Policy,
    now: u64,
}

impl Run {
    fn new(rounds: u32) -> Self {
        Self { state: submitted(), policy: policy(rounds), now: 0 }
    }

    /// A job that asks its sites for sums before round 1.
    fn asking(deadline_ms: Option<u64>) -> Self {
        let mut run = Self::new(1);
        run.policy.statistics = Some(StatisticsPolicy { min_clients: 3, deadline_ms });
        run
    }

    fn event(&mut self, event: Event) -> Result<Vec<Effect>, Rejection> {
        let (state, effects) = step(&self.state, &self.policy, self.now, event)?;
        self.state = state;
        Ok(effects)
    }

    /// Ticks until nothing moves.
    fn tick(&mut self, roster: &Roster) {
        for _ in 0..10 {
            let before = self.state.clone();
            let event = Event::Tick { roster: Some(roster.clone()) };
            let effects = self.event(event).expect("a tick is never refused");
            let due = effects.contains(&Effect::Fold) || effects.contains(&Effect::Pool);
            if before == self.state || due {
                break;
            }
        }
    }

    fn open(&self, kind: TaskKind) -> Vec<TaskId> {
        let open = self.state.tasks.values().filter(|t| t.kind == kind && t.state.open());
        open.map(|t| t.id.clone()).collect()
    }

    fn task(&mut self, id: &TaskId, event: TaskEvent) -> Result<(), Rejection> {
        let client = self.state.tasks[id].client.clone();
        let instance = "a".to_owned();
        self.event(Event::Task { task: id.clone(), client, instance, event }).map(|_| ())
    }

    fn accept(&mut self, id: &TaskId) -> Result<(), Rejection> {
        let digest = Digest::of(id.as_str().as_bytes());
        self.task(id, TaskEvent::Accept(Accepted { digest, examples: 10 }))
    }

    fn phase(&self) -> Option<Phase> {
        self.state.round.as_ref().map(|r| r.phase)
    }
}

#[test]
fn a_job_runs_from_submission_to_completion() {
    let mut run = Run::new(2);
    let all = roster(6, |_| true);
    for round in 1..=2 {
        run.tick(&all);
        assert_eq!(run.phase(), Some(Phase::Training));
        let open = run.open(TaskKind::Train);
        assert_eq!(open.len(), 3, "half of six");
        for id in &open {
            run.task(id, TaskEvent::Take).expect("take");
            run.accept(id).expect("accept");
        }
        run.tick(&all);
        assert_eq!(run.phase(), Some(Phase::Aggregating));
        run.event(Event::Folded(facts(round))).expect("folded");
        assert_eq!(run.state.checkpoint, facts(round).checkpoint_out);
    }
    run.tick(&all);
    let evaluate = run.open(TaskKind::Evaluate);
    assert_eq!(evaluate.len(), 1);
    run.accept(&evaluate[0]).expect("evaluated");
    run.tick(&all);
    assert_eq!(run.state.status, JobStatus::Completed);
}

#[test]
fn a_job_waits_until_enough_clients_are_present() {
    let mut run = Run::new(1);
    run.tick(&roster(6, |i| i < 2));
    assert_eq!(run.phase(), Some(Phase::Selecting));
    run.tick(&roster(6, |i| i < 3));
    assert_eq!(run.phase(), Some(Phase::Training));
}

#[test]
fn the_draw_depends_on_seed_round_and_attempt_alone() {
    let (here, away) = (roster(20, |_| true), roster(20, |i| i.is_multiple_of(2)));
    let none = BTreeSet::new();
    let drawn = draw(&here, &none, 5, (7, 1, 1));
    assert_eq!(drawn, draw(&away, &none, 5, (7, 1, 1)), "presence does not matter");
    assert_ne!(drawn, draw(&here, &none, 5, (7, 2, 1)));
    assert_ne!(drawn, draw(&here, &none, 5, (8, 1, 1)));
}

#[test]
fn a_lapsed_lease_is_replaced_and_progress_keeps_one() {
    let mut run = Run::new(1);
    let all = roster(6, |_| true);
    run.tick(&all);
    let open = run.open(TaskKind::Train);
    run.now = 2000;
    run.task(&open[0], TaskEvent::Heartbeat { progress: 1, total: 9 }).expect("alive");
    run.task(&open[1], TaskEvent::Heartbeat { progress: 0, total: 9 }).expect("alive");
    run.now = 3500;
    run.tick(&all);
    assert!(run.state.tasks[&open[0]].state.open(), "progress keeps the lease");
    for id in &open[1..] {
        assert_eq!(run.state.tasks[id].state, TaskState::Lapsed, "no progress, no lease");
    }
    assert_eq!(run.open(TaskKind::Train).len(), 3, "two replacements");
    assert!(matches!(run.accept(&open[1]), Err(Rejection::TaskEnded { .. })));
}

#[test]
fn a_client_that_comes_back_is_asked_again_where_nobody_else_is_left() {
    let mut run = Run::new(1);
    let three = roster(3, |_| true);
    run.tick(&three);
    let open = run.open(TaskKind::Train);
    assert_eq!(open.len(), 3);
    run.accept(&open[0]).expect("accept");
    run.accept(&open[1]).expect("accept");
    run.now = 3500;
    run.tick(&roster(3, |i| i != 1 && i != 0 && i != 2));
    assert_eq!(run.open(TaskKind::Train).len(), 0, "lapsed, and nobody is present");
    run.tick(&three);
    assert_eq!(run.open(TaskKind::Train), vec![open[2].clone()], "the same task again");
}

#[test]
fn at_the_deadline_enough_updates_close_and_too_few_try_again() {
    let mut run = Run::new(1);
    let all = roster(6, |_| true);
    run.tick(&all);
    let first = run.open(TaskKind::Train);
    run.accept(&first[0]).expect("accept");
    run.now = 10_000;
    run.tick(&all);
    let round = run.state.round.clone().expect("a round");
    assert_eq!((round.attempt, round.phase), (2, Phase::Training));
    assert_eq!(round.reason, None, "the first attempt's is in its own row");
    assert_eq!(run.open(TaskKind::Train).len(), 2, "the accepted update is kept");
    let late = run.accept(&first[1]);
    assert!(matches!(late, Err(Rejection::TaskEnded { .. })), "{late:?}");
    let second = run.open(TaskKind::Train);
    run.accept(&second[0]).expect("accept");
    run.now = 20_000;
    run.tick(&all);
    assert_eq!(run.phase(), Some(Phase::Aggregating));
    assert_eq!(run.state.round.as_ref().map(|r| r.accepted.len()), Some(2));
    assert_eq!(run.state.round.as_ref().and_then(|r| r.reason.as_deref()), Some("deadline"));
}

#[test]
fn attempts_end_and_say_why() {
    let mut run = Run::new(1);
    let three = roster(3, |_| true);
    for _ in 0..2 {
        run.tick(&three);
        for id in run.open(TaskKind::Train) {
            let reason = "no disk".to_owned();
            run.task(&id, TaskEvent::Fail { code: UNABLE.to_owned(), reason }).expect("failed");
        }
        run.tick(&three);
    }
    assert_eq!(run.state.status, JobStatus::Failed);
    let reason = run.state.reason.expect("a reason");
    assert!(reason.starts_with("max_attempts") && reason.contains("no disk"), "{reason}");
    assert_eq!(run.state.checkpoint, Digest::of(b"checkpoint 0"), "the last good one stands");
}

#[test]
fn one_task_has_one_update() {
    let mut run = Run::new(1);
    run.tick(&roster(6, |_| true));
    let id = run.open(TaskKind::Train)[0].clone();
    run.accept(&id).expect("first");
    run.accept(&id).expect("the same again");
    let accepted = Digest::of(id.as_str().as_bytes());
    let other = Accepted { digest: Digest::of(b"other"), examples: 10 };
    let again = run.task(&id, TaskEvent::Accept(other));
    assert_eq!(again, Err(Rejection::AlreadyAccepted { accepted }));
    let next = run.open(TaskKind::Train)[0].clone();
    let greedy = Accepted { digest: Digest::of(b"x"), examples: 1001 };
    let found = run.task(&next, TaskEvent::Accept(greedy));
    assert_eq!(found, Err(Rejection::ExamplesOutOfRange { max: 128, found: 1001 }));
}

#[test]
fn a_newer_process_takes_the_task_over() {
    let mut run = Run::new(1);
    run.tick(&roster(6, |_| true));
    let id = run.open(TaskKind::Train)[0].clone();
    let client = run.state.tasks[&id].client.clone();
    let mut act = |instance: &str, event: TaskEvent| {
        let (task, client, instance) = (id.clone(), client.clone(), instance.to_owned());
        run.event(Event::Task { task, client, instance, event }).map(|_| ())
    };
    act("old", TaskEvent::Take).expect("take");
    act("new", TaskEvent::Take).expect("take over");
    let beat = TaskEvent::Heartbeat { progress: 1, total: 2 };
    assert_eq!(act("old", beat.clone()), Err(Rejection::Superseded));
    act("new", beat).expect("alive");
    let fail = cannot("old disk");
    assert_eq!(act("old", fail), Err(Rejection::Superseded));
    // What a killed process finished, the next one sends before it has taken anything.
    let finished = Accepted { digest: Digest::of(b"finished"), examples: 10 };
    act("newest", TaskEvent::Accept(finished)).expect("the client's own update");
    let stranger = Event::Task {
        task: id.clone(),
        client: name(99),
        instance: "x".to_owned(),
        event: TaskEvent::Take,
    };
    assert_eq!(run.event(stranger), Err(Rejection::NotYourTask));
}

#[test]
fn an_earlier_process_takes_no_task_back() {
    let mut run = Run::new(1);
    run.tick(&roster(6, |_| true));
    let id = run.open(TaskKind::Train)[0].clone();
    let client = run.state.tasks[&id].client.clone();
    let [killed, started] = [1, 2].map(|start| Instance::new(7, start).to_string());
    let mut act = |instance: &str, event: TaskEvent| {
        let (task, client, instance) = (id.clone(), client.clone(), instance.to_owned());
        run.event(Event::Task { task, client, instance, event }).map(|_| ())
    };
    act(&started, TaskEvent::Take).expect("take");
    assert_eq!(act(&killed, TaskEvent::Take), Err(Rejection::Superseded));
    act(&started, TaskEvent::Heartbeat { progress: 1, total: 2 }).expect("still its own");
}

#[test]
fn an_outage_eats_nobodys_lease() {
    let mut run = Run::new(1);
    let all = roster(6, |_| true);
    run.tick(&all);
    let open = run.open(TaskKind::Train);
    run.now = 2_999;
    run.event(Event::TakenOver).expect("never refused");
    run.now = 5_998;
    run.tick(&all);
    assert_eq!(run.open(TaskKind::Train), open, "a whole lease from the take-over on");
    run.now = 5_999;
    run.tick(&all);
    assert!(open.iter().all(|id| run.state.tasks[id].state == TaskState::Lapsed));
}

#[test]
fn over_selection_asks_more_and_closes_with_the_first() {
    let mut run = Run::new(1);
    run.policy.cohort.over_selection = 1.5;
    let all = roster(8, |_| true);
    run.tick(&all);
    let asked = run.open(TaskKind::Train);
    assert_eq!(asked.len(), 6, "1.5 times the cohort of four");
    for id in &asked[..4] {
        run.accept(id).expect("in time");
    }
    // A fifth that comes before the close counts: what has its receipt is in the accepted set.
    run.accept(&asked[4]).expect("still open");
    run.tick(&all);
    assert_eq!(run.phase(), Some(Phase::Aggregating));
    assert_eq!(run.state.round.as_ref().map(|r| r.accepted.len()), Some(5));
    let slow = &run.state.tasks[&asked[5]];
    let reason = slow.reason.as_deref();
    assert_eq!((slow.state, reason), (TaskState::Abandoned, Some("round_closed")));
    let late = run.accept(&asked[5].clone());
    assert_eq!(late, Err(Rejection::RoundClosed { phase: "aggregating" }));
}

#[test]
fn an_exact_replay_waits_for_its_whole_cohort_whatever_the_time() {
    let mut run = Run::new(1);
    run.policy.cohort.exact_replay = true;
    let all = roster(8, |_| true);
    run.tick(&all);
    let cohort = run.open(TaskKind::Train);
    for id in &cohort[1..] {
        run.accept(id).expect("in time");
    }
    run.now = 1_000_000_000;
    run.tick(&all);
    assert_eq!(run.open(TaskKind::Train), cohort[..1], "its place, and nobody else's");
    run.accept(&cohort[0].clone()).expect("days later");
    run.tick(&all);
    assert_eq!(run.phase(), Some(Phase::Aggregating));

    let mut failed = Run::new(1);
    failed.policy.cohort.exact_replay = true;
    failed.tick(&all);
    let cohort = failed.open(TaskKind::Train);
    for id in &cohort[1..] {
        failed.accept(id).expect("in time");
    }
    failed.task(&cohort[0], cannot("no disk")).expect("said");
    failed.tick(&all);
    let attempt = failed.state.round.as_ref().map(|r| r.attempt);
    assert_eq!(attempt, Some(2), "a failure is said, not timed: the next attempt draws");
}

#[test]
fn a_paused_job_stands_still() {
    let mut run = Run::new(1);
    let all = roster(6, |_| true);
    run.tick(&all);
    let id = run.open(TaskKind::Train)[0].clone();
    run.event(Event::Pause).expect("pause");
    run.now = 60_000;
    run.tick(&all);
    assert_eq!(run.phase(), Some(Phase::Training), "no deadline passes");
    assert_eq!(run.accept(&id), Err(Rejection::JobPaused));
    run.event(Event::Resume).expect("resume");
    assert!(matches!(run.event(Event::Resume), Err(Rejection::WrongState { .. })));
}

const CONSTANTS: &[u8] = b"constants";

fn pooled() -> Event {
    Event::Pooled { constants: Digest::of(CONSTANTS), rows: 30 }
}

#[derive(Debug, Clone)]
enum Op {
    Tick { after_ms: u64, present: u8 },
    Task { pick: usize, instance: bool, what: u8 },
    Folded,
    FoldFailed,
    Pooled,
    PoolFailed,
    FoldedTo { norm: u64 },
    Diverged,
    Pause,
    Resume,
    Cancel,
    TakenOver,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0_u64..4000, proptest::num::u8::ANY)
            .prop_map(|(after_ms, present)| Op::Tick { after_ms, present }),
        12 => (0_usize..16, proptest::bool::weighted(0.9), 0_u8..8)
            .prop_map(|(pick, instance, what)| Op::Task { pick, instance, what }),
        3 => proptest::strategy::Just(Op::Folded),
        1 => proptest::strategy::Just(Op::FoldFailed),
        3 => proptest::strategy::Just(Op::Pooled),
        1 => proptest::strategy::Just(Op::PoolFailed),
        1 => (0..200_u64).prop_map(|norm| Op::FoldedTo { norm }),
        1 => proptest::strategy::Just(Op::Diverged),
        1 => proptest::strategy::Just(Op::Pause),
        2 => proptest::strategy::Just(Op::Resume),
        1 => proptest::strategy::Just(Op::Cancel),
        1 => proptest::strategy::Just(Op::TakenOver),
    ]
}

fn event_of(op: &Op, state: &JobState) -> Option<Event> {
    Some(match op {
        Op::Tick { present, .. } => {
            Event::Tick { roster: Some(roster(8, |i| present >> i & 1 == 1)) }
        }
        Op::Task { pick, instance, what } => {
            let task = state.tasks.values().nth(*pick)?;
            let digest = Digest::of(&[*what]);
            let event = match what {
                0 => TaskEvent::Take,
                1 | 2 => TaskEvent::Heartbeat { progress: task.progress + 1, total: 9 },
                3 if pick % 2 == 0 => cannot("cannot"),
                3 => TaskEvent::Fail { code: DIVERGED.to_owned(), reason: "NaN".to_owned() },
                _ => TaskEvent::Accept(Accepted { digest, examples: u64::from(*what) }),
            };
            Event::Task {
                task: task.id.clone(),
                client: task.client.clone(),
                instance: if *instance { "a" } else { "b" }.to_owned(),
                event,
            }
        }
        Op::Folded => Event::Folded(facts(state.round.as_ref()?.number)),
        Op::FoldedTo { norm } => {
            let facts = facts(state.round.as_ref()?.number);
            Event::Folded(FoldFacts { update_norm: norm * NORM_ONE, ..facts })
        }
        Op::Diverged => Event::Diverged { reason: "no number".to_owned() },
        Op::FoldFailed => Event::FoldFailed { reason: "gone".to_owned() },
        Op::Pooled => pooled(),
        Op::PoolFailed => Event::PoolFailed { reason: "no classes".to_owned() },
        Op::Pause => Event::Pause,
        Op::Resume => Event::Resume,
        Op::TakenOver => Event::TakenOver,
        Op::Cancel => Event::Cancel { reason: "enough".to_owned() },
    })
}

/// What must hold between a state and the next one.
fn check(before: &JobState, after: &JobState) {
    assert!(after.clock_ms >= before.clock_ms);
    if before.status.ended() {
        let mut same = after.clone();
        same.clock_ms = before.clock_ms;
        assert_eq!(&same, before, "what has ended stays as it is");
    }
    let key = |s: &JobState| s.round.as_ref().map(|r| (r.number, r.attempt));
    assert!(key(after) >= key(before), "rounds go on, never back");
    for task in before.tasks.values().filter(|t| t.state == TaskState::Accepted) {
        match after.tasks.get(&task.id) {
            Some(now) => {
                let outcome = task.outcome.or(now.outcome);
                assert_eq!(*now, Task { outcome, ..task.clone() }, "a receipt stands");
            }
            None => assert!(task.outcome.is_some(), "nothing is forgotten that is open"),
        }
    }
    for task in after.tasks.values().filter(|t| t.outcome.is_some()) {
        assert!(task.accepted.is_some(), "an outcome is a receipt's");
    }
    if after.status.ended() {
        let receipts = |t: &&Task| t.accepted.is_some();
        assert!(after.tasks.values().filter(receipts).all(|t| t.outcome.is_some()));
        assert!(after.tasks.values().all(|t| !t.state.open()), "nothing is open at the end");
    }
    if let Some(constants) = before.constants {
        assert_eq!(after.constants, Some(constants), "constants are fixed once");
    } else if after.constants.is_some() {
        let sums = before.tasks.values().filter(|t| t.state == TaskState::Accepted).count();
        assert!(sums >= 3 && before.pooling(), "min_clients");
        assert!(before.tasks.values().all(|t| !t.state.open()), "nothing can come behind them");
    }
    let Some(round) = &after.round else { return };
    if before.checkpoint != after.checkpoint {
        assert_eq!(round.phase, Phase::Committed, "only a commit makes a checkpoint");
        assert_ne!(before.result, after.result);
    }
    if matches!(round.phase, Phase::Aggregating | Phase::Committed) {
        let accepted: Vec<_> = round.accepted.iter().map(|id| &after.tasks[id]).collect();
        assert!(accepted.len() >= 2, "min_updates");
        assert!(accepted.windows(2).all(|pair| pair[0].client < pair[1].client));
        let counted = |t: &&Task| t.kind == TaskKind::Train && t.state == TaskState::Accepted;
        assert_eq!(accepted.len(), after.tasks.values().filter(counted).count());
    }
}

fn play(ops: &[Op], asks: bool, checked: bool) -> JobState {
    let mut policy = policy(3);
    policy.statistics =
        asks.then_some(StatisticsPolicy { min_clients: 3, deadline_ms: Some(10_000) });
    let mut state = submitted();
    let mut now = 0;
    for op in ops {
        if let Op::Tick { after_ms, .. } = op {
            now += after_ms;
        }
        let Some(event) = event_of(op, &state) else { continue };
        if let Ok((next, _)) = step(&state, &policy, now, event) {
            if checked {
                check(&state, &next);
                assert!(next.round.is_none() || next.constants.is_some() == asks);
            }
            state = next;
        }
    }
    state
}

proptest! {
    #[test]
    fn no_sequence_of_events_reaches_an_impossible_state(
        ops in vec(op(), 0..200),
        asks in proptest::bool::ANY,
    ) {
        let once = play(&ops, asks, true);
        assert_eq!(once, play(&ops, asks, false), "the same events give the same state");
    }
}
