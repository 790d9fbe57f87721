//! A fresh store of each engine, and the shortest way to a job in training.

use tributary_coordinator::store::{
    By, CheckpointRow, ClientHello, CreatedJob, JobChanges, NewJob, Store, UpdateRow,
};
use tributary_core::binding::{Binding, DataNeed};
use tributary_core::digest::Digest;
use tributary_core::metrics::Statistics;
use tributary_core::name::{ClientName, JobId, TaskId};
use tributary_core::round::policy::StatisticsPolicy;
use tributary_core::round::step::{needs_roster, step, task_context};
use tributary_core::round::task::{Accepted, TaskEvent};
use tributary_core::round::{Effect, Event, FoldFacts, JobState, Policy, Rejection, TaskState};
use tributary_core::spec::JobSpec;
use tributary_testing::Postgres;

/// A migrated store that nobody else uses.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) url: String,
    pub(crate) policy: Policy,
    _folder: Option<tempfile::TempDir>,
}

const SPEC: &str = r#"
[job]
name = "contract"
rounds = 2
[data]
kind = "image"
classes = 2
[model]
input = { shape = [3] }
layers = [{ linear = 2 }]
[train]
local_epochs = 1
batch_size = 1
optimizer = { kind = "sgd", learning_rate = 0.1 }
[cohort]
min_available_clients = 4
min_train_clients = 2
min_updates = 1
deadline_s = 100
"#;

pub(crate) fn spec() -> JobSpec {
    JobSpec::parse(SPEC).expect("a good spec")
}

pub(crate) async fn sqlite() -> Option<Fixture> {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/s.sqlite", folder.path().display());
    Some(fixture(url, Some(folder)).await)
}

/// `None` where no Postgres is installed; with CI=true that fails instead.
pub(crate) async fn postgres() -> Option<Fixture> {
    let start = || Postgres::shared().and_then(|p| p.map(Postgres::database).transpose());
    let url = tokio::task::spawn_blocking(start).await.expect("join").expect("postgres")?;
    Some(fixture(url, None).await)
}

async fn fixture(url: String, folder: Option<tempfile::TempDir>) -> Fixture {
    let store = Store::open(&url).await.expect("open");
    store.migrate().await.expect("migrate");
    store.check_schema().await.expect("schema");
    Fixture { store, url, policy: Policy::from(&spec()), _folder: folder }
}

pub(crate) fn new_job(request_id: &str) -> NewJob {
    let spec = spec();
    let digest = Digest::of_fields("test", [request_id.as_bytes()]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    let id = spec.job_id(u32::from_be_bytes([a, b, c, d])).expect("an id");
    let checkpoint = Digest::of(b"checkpoint 0");
    NewJob {
        state: JobState::submitted(id, spec.digest, checkpoint),
        name: spec.name.clone(),
        request_id: request_id.to_owned(),
        data_need: DataNeed::of(&spec),
        spec: SPEC.to_owned(),
        checkpoint: CheckpointRow { digest: checkpoint, key: "k".to_owned(), bytes: 9, round: 0 },
        by: By { who: "operator/otto".to_owned(), address: "local".to_owned() },
    }
}

pub(crate) fn hello(i: usize) -> ClientHello {
    let binding = Binding {
        name: "data".to_owned(),
        kind: "image".to_owned(),
        classes: 2,
        shape: vec![3],
        train_examples: 10 + i as u64,
        evaluate_examples: 0,
        targets: 0,
        vocabulary: 0,
    };
    ClientHello {
        name: format!("site-{i}").parse().expect("a name"),
        instance: "first".to_owned(),
        version: "test".to_owned(),
        protocol: 1,
        bindings: vec![binding],
    }
}

pub(crate) fn update(task: &TaskId, client: &ClientName, round: u32) -> UpdateRow {
    UpdateRow {
        task: task.clone(),
        client: client.clone(),
        round,
        digest: Digest::of(task.as_str().as_bytes()),
        examples: 7,
        bytes: 100,
        statistics: Statistics::new(2).expect("statistics"),
    }
}

pub(crate) fn facts(round: u32) -> FoldFacts {
    FoldFacts {
        checkpoint_out: Digest::of(format!("checkpoint {round}").as_bytes()),
        checkpoint_bytes: 9,
        examples: 7,
        statistics: Statistics::new(2).expect("statistics"),
        bytes_up: i64::MAX as u64,
        bytes_down: 1,
        update_norm: 3,
        median_loss: Some(-5),
        fold_ms: 1,
    }
}

impl Fixture {
    /// The same store, for jobs that ask their sites for sums before round 1.
    pub(crate) fn asking(&self) -> Self {
        let statistics = StatisticsPolicy { min_clients: 3, deadline_ms: Some(100_000) };
        Self {
            store: self.store.clone(),
            url: self.url.clone(),
            policy: Policy { statistics: Some(statistics), ..self.policy.clone() },
            _folder: None,
        }
    }

    /// A job, submitted, with four clients that could take part.
    pub(crate) async fn job(&self, request_id: &str) -> JobId {
        for i in 0..4 {
            self.store.hello(&hello(i)).await.expect("hello");
        }
        let new = new_job(request_id);
        let created = self.store.create_job(&new).await.expect("create");
        assert_eq!(created, CreatedJob::New);
        new.state.id
    }

    /// One event in one transaction; the state that was stored.
    pub(crate) async fn event(
        &self,
        job: &JobId,
        now_ms: u64,
        event: Event,
    ) -> Result<JobState, Rejection> {
        let checkpoint = match &event {
            Event::Folded(facts) => Some(facts.clone()),
            _ => None,
        };
        let change = |state: JobState, roster| {
            let event = match event.clone() {
                Event::Tick { .. } => Event::Tick { roster },
                event => event,
            };
            let (after, effects) = step(&state, &self.policy, now_ms, event)?;
            let mut changes = JobChanges::default();
            for effect in effects {
                if let Effect::Record(line) = effect {
                    changes.history.push(line);
                }
            }
            if let (Some(facts), Some(round)) = (&checkpoint, &after.round) {
                let key = format!("k{}", round.number);
                let (digest, bytes) = (facts.checkpoint_out, facts.checkpoint_bytes);
                changes.checkpoints.push(CheckpointRow { digest, key, bytes, round: round.number });
            }
            Ok((after.clone(), changes, after))
        };
        self.store.update_job(job, None, needs_roster, change).await.expect("store")
    }

    /// Ticks until nothing moves.
    pub(crate) async fn settle(&self, job: &JobId, now_ms: u64) -> JobState {
        let mut last = self.event(job, now_ms, Event::Tick { roster: None }).await.expect("tick");
        for _ in 0..9 {
            let next = self.event(job, now_ms, Event::Tick { roster: None }).await.expect("tick");
            if next == last {
                break;
            }
            last = next;
        }
        last
    }

    /// The state as it stands in the database.
    pub(crate) async fn stored(&self, job: &JobId) -> JobState {
        self.store
            .update_job(
                job,
                None,
                |_| false,
                |state, _| Ok((state.clone(), JobChanges::default(), state)),
            )
            .await
            .expect("store")
            .expect("not refused")
    }

    /// A client's update is accepted, or refused.
    pub(crate) async fn accept(&self, task: &TaskId, digest: Digest) -> Result<(), Rejection> {
        self.store
            .update_task(task, |view| {
                let mut context = task_context(&submitted_like(view), &self.policy);
                context.phase = view.phase;
                context.round = view.round;
                context.examples_max = 100;
                context.pooling = view.constants.is_none();
                let event = TaskEvent::Accept(Accepted { digest, examples: 7 });
                let after = view.task.step(&context, &view.task.client, "first", event)?;
                let mut row = update(task, &view.task.client, view.task.round);
                row.digest = digest;
                Ok((after, Some(row), ()))
            })
            .await
            .expect("store")
            .expect("a task")
    }
}

fn submitted_like(view: &tributary_coordinator::store::TaskView) -> JobState {
    let zero = Digest::of(b"");
    let mut state = JobState::submitted(view.job.clone(), zero, zero);
    state.status = view.status;
    state.clock_ms = view.clock_ms;
    state
}

pub(crate) fn open_tasks(state: &JobState) -> Vec<TaskId> {
    let open = state.tasks.values().filter(|t| t.state == TaskState::Offered);
    open.map(|t| t.id.clone()).collect()
}
