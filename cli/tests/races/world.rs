//! A coordinator and real agents in one process: calls can be held or lose their answers, and a trainer
//! can be told to wait.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};
use tributary_client::agent::{Agent, AgentConfig, AgentError};
use tributary_client::observer::{AgentEvent, Observer};
use tributary_client::rpc::{Answer, Egress, Link};
use tributary_client::trainer::{Control, Order, Trained, Trainer, TrainerError};
use tributary_coordinator::app::Coordinator;
use tributary_coordinator::config::{Config, KeepUpdates};
use tributary_core::binding::Binding;
use tributary_core::metrics::{Scored, Statistics};
use tributary_proto::v1;
use v1::federation_service_client::FederationServiceClient;
use v1::job_service_client::JobServiceClient;
use v1::round_service_client::RoundServiceClient;

/// How long anything may take before the test fails: far more than on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(10);
/// What each update of a stand-in counts for.
const EXAMPLES: u64 = 5;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// What befalls a site's calls of one method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They wait on their way there.
    Held,
    /// They arrive, are answered, and the answer is lost.
    Lost,
}

/// A site's way to the coordinator.
struct Wire {
    channel: Channel,
    fates: Mutex<BTreeMap<&'static str, Fate>>,
    /// Calls that were answered, by method, whether their answers were lost or not.
    answered: Mutex<BTreeMap<String, usize>>,
}

impl Wire {
    fn fate(&self, method: &str) -> Option<Fate> {
        lock(&self.fates).get(method).copied()
    }

    async fn carry(&self, request: http::Request<tonic::body::Body>) -> Carried {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        while self.fate(&method) == Some(Fate::Held) {
            tokio::time::sleep(LOOK).await;
        }
        let mut channel = self.channel.clone();
        let answer = channel.ready().await?.call(request).await?;
        *lock(&self.answered).entry(method.clone()).or_insert(0) += 1;
        if self.fate(&method) == Some(Fate::Lost) {
            return Err("the answer was lost".into());
        }
        Ok(answer)
    }
}

type Carried = Result<http::Response<tonic::body::Body>, tower::BoxError>;

/// What an agent said.
#[derive(Default)]
struct Heard(Mutex<Vec<AgentEvent>>);

impl Observer for Heard {
    fn event(&self, event: AgentEvent) {
        lock(&self.0).push(event);
    }
}

/// A trainer without rows, which notes what it was asked for.
#[derive(Default)]
pub(crate) struct StandIn {
    features: u32,
    orders: Mutex<Vec<(String, u32)>>,
}

impl StandIn {
    pub(crate) fn new(features: u32) -> Arc<Self> {
        Arc::new(Self { features, orders: Mutex::default() })
    }

    /// The jobs and rounds that it trained for, in order.
    pub(crate) fn orders(&self) -> Vec<(String, u32)> {
        lock(&self.orders).clone()
    }

    /// Statistics of rows that are all of class 0, and all known.
    fn statistics() -> Statistics {
        let known = Scored { label: 0, predicted: 0, in_top_k: true, score: 0.0, loss: 0.5 };
        let mut statistics = Statistics::new(2).expect("classes");
        for _ in 0..EXAMPLES {
            statistics.record(known).expect("a row");
        }
        statistics
    }
}

impl Trainer for StandIn {
    fn bindings(&self) -> Vec<Binding> {
        vec![Binding {
            name: "rows".to_owned(),
            kind: "image".to_owned(),
            classes: 2,
            targets: 0,
            vocabulary: 0,
            shape: vec![self.features],
            train_examples: EXAMPLES,
            evaluate_examples: 0,
        }]
    }

    fn train(&self, order: &Order<'_>, control: &dyn Control) -> Result<Trained, TrainerError> {
        lock(&self.orders).push((order.spec.name.clone(), order.round));
        control.progress(1, 1);
        let update = vec![0.01; order.checkpoint.values().len()];
        Ok(Trained { update, examples: EXAMPLES, statistics: Self::statistics() })
    }

    fn evaluate(&self, _: &Order<'_>, _: &dyn Control) -> Result<Statistics, TrainerError> {
        Err(TrainerError::Unable("no rows are held out".to_owned()))
    }
}

/// A site with a running agent.
pub(crate) struct Site {
    wire: Arc<Wire>,
    heard: Arc<Heard>,
    stop: CancellationToken,
    agent: JoinHandle<Result<(), AgentError>>,
}

impl Site {
    /// From now on this befalls its calls of a method; nothing where there is none.
    pub(crate) fn set(&self, method: &'static str, fate: Option<Fate>) {
        let mut fates = lock(&self.wire.fates);
        match fate {
            Some(fate) => fates.insert(method, fate),
            None => fates.remove(method),
        };
    }

    /// Calls of a method that the coordinator has answered.
    pub(crate) fn answered(&self, method: &str) -> usize {
        lock(&self.wire.answered).get(method).copied().unwrap_or(0)
    }

    /// How often it said something of a kind.
    pub(crate) fn heard(&self, of: impl Fn(&AgentEvent) -> bool) -> usize {
        lock(&self.heard.0).iter().filter(|event| of(event)).count()
    }

    pub(crate) fn receipts(&self) -> usize {
        self.heard(|event| matches!(event, AgentEvent::Receipt { .. }))
    }

    /// Stops the agent, as its operator would.
    pub(crate) async fn leave(self) {
        self.stop.cancel();
        self.agent.await.expect("no panic").expect("a clean stop");
    }
}

/// A coordinator in this process.
pub(crate) struct World {
    coordinator: Coordinator,
    channel: Channel,
    dir: tempfile::TempDir,
}

/// A job of so many rounds for whoever has rows of so many numbers; `cohort` ends its spec.
pub(crate) fn spec(name: &str, rounds: u32, features: u32, cohort: &str) -> String {
    format!(
        "[job]\nname = \"{name}\"\nrounds = {rounds}\nseed = 3\n\
         [data]\nkind = \"image\"\nclasses = 2\n\
         [model]\ninput = {{ shape = [{features}] }}\nlayers = [{{ linear = 2 }}]\n\
         [train]\nlocal_epochs = 1\nbatch_size = 1\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n\
         [evaluation]\nfinal = false\n[cohort]\n{cohort}"
    )
}

impl World {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let config = Config { keep_updates: KeepUpdates::Always, ..Config::embedded(dir.path()) };
        let coordinator = Coordinator::start(&config).await.expect("started");
        let at = format!("http://{}", coordinator.address());
        let channel = Channel::from_shared(at).expect("an address").connect().await;
        Self { coordinator, channel: channel.expect("connected"), dir }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a site's agent; what stood in its state folder is there.
    pub(crate) fn site(&self, name: &str, trainer: Arc<dyn Trainer>) -> Site {
        let wire = Arc::new(Wire {
            channel: self.channel.clone(),
            fates: Mutex::default(),
            answered: Mutex::default(),
        });
        let config = AgentConfig {
            coordinator: "http://carried".to_owned(),
            name: name.parse().expect("a name"),
            state_dir: self.dir.path().join(name),
            egress: Egress::default(),
        };
        let (heard, stop) = (Arc::new(Heard::default()), CancellationToken::new());
        let carrying = wire.clone();
        let link = Link::carried(Arc::new(move |request| -> Answer {
            let wire = carrying.clone();
            Box::pin(async move { wire.carry(request).await })
        }));
        let agent = Agent::new(config, trainer, heard.clone()).over(link);
        let agent = tokio::spawn(agent.run(stop.clone()));
        Site { wire, heard, stop, agent }
    }

    fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn submit(&self, spec: &str) -> String {
        let request_id = tributary_core::digest::Digest::of(spec.as_bytes()).to_string();
        let request =
            v1::CreateJobRequest { request_id, spec: spec.to_owned(), validate_only: false };
        let job = self.jobs().create_job(request).await.expect("created").into_inner().job;
        job.expect("a job").job_id
    }

    pub(crate) async fn pause(&self, job: &str) {
        let request = v1::PauseJobRequest { job: job.to_owned() };
        self.jobs().pause_job(request).await.expect("paused");
    }

    pub(crate) async fn resume(&self, job: &str) {
        let request = v1::ResumeJobRequest { job: job.to_owned() };
        self.jobs().resume_job(request).await.expect("resumed");
    }

    pub(crate) async fn cancel(&self, job: &str) {
        let request = v1::CancelJobRequest { job: job.to_owned(), reason: "enough".to_owned() };
        self.jobs().cancel_job(request).await.expect("cancelled");
    }

    pub(crate) async fn job(&self, job: &str) -> v1::Job {
        let request = v1::GetJobRequest { job: job.to_owned() };
        self.jobs().get_job(request).await.expect("a job").into_inner().job.expect("a job")
    }

    pub(crate) async fn completed(&self, job: &str) {
        until("the job is completed", async || {
            let status = self.job(job).await.status;
            assert!(!["failed", "cancelled"].contains(&status.as_str()), "{status}");
            status == "completed"
        })
        .await;
    }

    /// Whether a site has been heard of.
    pub(crate) async fn knows(&self, site: &str) -> bool {
        let mut federation = FederationServiceClient::new(self.channel.clone());
        let clients = federation.list_clients(v1::ListClientsRequest::default()).await;
        clients.expect("listed").into_inner().clients.iter().any(|client| client.client == site)
    }

    /// The checkpoint that a round made.
    pub(crate) async fn checkpoint(&self, job: &str, round: u32) -> Vec<u8> {
        let request = v1::DownloadCheckpointRequest {
            job: job.to_owned(),
            round: Some(round),
            ..v1::DownloadCheckpointRequest::default()
        };
        let mut chunks =
            self.jobs().download_checkpoint(request).await.expect("a model").into_inner();
        let mut whole = Vec::new();
        while let Some(chunk) = chunks.message().await.expect("a chunk") {
            whole.extend_from_slice(&chunk.data);
        }
        whole
    }

    /// A round with its tasks; none before it is there.
    pub(crate) async fn round(&self, job: &str, number: u32) -> Option<v1::Round> {
        let mut rounds = RoundServiceClient::new(self.channel.clone());
        let request = v1::GetRoundRequest { job: job.to_owned(), number };
        rounds.get_round(request).await.ok()?.into_inner().round
    }

    /// The tasks of a site in a round, of all attempts.
    pub(crate) async fn tasks(&self, job: &str, number: u32, site: &str) -> Vec<v1::TaskInfo> {
        let round = self.round(job, number).await.unwrap_or_default();
        round.tasks.into_iter().filter(|task| task.client == site).collect()
    }

    /// Whether a job's current round has an open task for a site.
    pub(crate) async fn offers(&self, job: &v1::Job, site: &str) -> bool {
        let tasks = self.tasks(&job.job_id, job.rounds_committed + 1, site).await;
        tasks.iter().any(|task| ["offered", "leased"].contains(&task.state.as_str()))
    }

    /// The sites whose tasks of a round came to a state.
    pub(crate) async fn sites(&self, job: &str, number: u32, state: &str) -> Vec<String> {
        let tasks = self.round(job, number).await.unwrap_or_default().tasks;
        tasks.into_iter().filter(|task| task.state == state).map(|task| task.client).collect()
    }

    /// The codes of what was refused of a site's for a job.
    pub(crate) async fn refused(&self, job: &str, site: &str) -> Vec<String> {
        let request = v1::ListRejectionsRequest { job: job.to_owned(), page_size: 0 };
        let rows = self.jobs().list_rejections(request).await.expect("listed").into_inner();
        let of_site = rows.rejections.into_iter().filter(|row| row.client == site);
        of_site.map(|row| row.code).collect()
    }

    /// Ends the coordinator.
    pub(crate) async fn end(self) {
        self.coordinator.stop().await.expect("a clean stop");
    }
}
