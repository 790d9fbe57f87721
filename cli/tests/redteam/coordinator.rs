//! A coordinator that is the attacker: tasks and checkpoints that no honest one sends, and what an agent
//! makes of them. It reports each of them and goes on; nothing of it reaches a trainer.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tributary_client::agent::Agent;
use tributary_client::config::ClientConfig;
use tributary_client::observer::Log;
use tributary_client::trainer::{Control, Order, Trained, Trainer, TrainerError};
use tributary_core::binding::Binding;
use tributary_core::checkpoint;
use tributary_core::digest::Digest;
use tributary_core::metrics::Statistics;
use tributary_core::params::ParameterSet;
use tributary_core::spec::JobSpec;
use tributary_proto::v1;
use v1::participant_service_server::{ParticipantService, ParticipantServiceServer};

use crate::world::{PATIENCE, spec};

/// A task of the attacker's, and the bytes that it gives for its checkpoint.
#[derive(Clone)]
struct Lie {
    task: v1::Task,
    checkpoint: Vec<u8>,
}

/// What it was told, task by task.
type Told = Arc<Mutex<Vec<(String, String)>>>;

#[derive(Clone)]
struct Attacker {
    lies: Arc<Vec<Lie>>,
    told: Told,
    all_told: CancellationToken,
}

impl Attacker {
    /// The next lie that the agent has not answered.
    fn next(&self) -> Option<Lie> {
        let answered = self.told.lock().expect("no panic").len();
        self.lies.get(answered).cloned()
    }

    fn tell(&self, task: String, reason: String) {
        let mut told = self.told.lock().expect("no panic");
        told.push((task, reason));
        if told.len() == self.lies.len() {
            self.all_told.cancel();
        }
    }
}

#[tonic::async_trait]
impl ParticipantService for Attacker {
    async fn poll(
        &self,
        _: Request<v1::PollRequest>,
    ) -> Result<Response<v1::PollResponse>, Status> {
        let answer = match self.next() {
            Some(lie) => v1::poll_response::Answer::Task(lie.task),
            None => v1::poll_response::Answer::Wait(v1::Wait { retry_after_ms: 50 }),
        };
        Ok(Response::new(v1::PollResponse { protocol_version: 1, answer: Some(answer) }))
    }

    async fn heartbeat(
        &self,
        _: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let action = v1::heartbeat_response::Action::Continue.into();
        Ok(Response::new(v1::HeartbeatResponse { action, reason: String::new() }))
    }

    type FetchBlobStream =
        Pin<Box<dyn Stream<Item = Result<v1::FetchBlobResponse, Status>> + Send>>;

    async fn fetch_blob(
        &self,
        request: Request<v1::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        let offset = request.into_inner().offset;
        let data = self.next().map(|lie| lie.checkpoint).unwrap_or_default();
        let total_bytes = data.len() as u64;
        let data = data.get(offset as usize..).unwrap_or_default().to_vec().into();
        let chunk = v1::FetchBlobResponse { offset, total_bytes, data };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(chunk)]))))
    }

    async fn get_upload(
        &self,
        _: Request<v1::GetUploadRequest>,
    ) -> Result<Response<v1::GetUploadResponse>, Status> {
        Err(Status::unimplemented("nothing is to come to this"))
    }

    async fn upload_update(
        &self,
        _: Request<Streaming<v1::UploadUpdateRequest>>,
    ) -> Result<Response<v1::UploadUpdateResponse>, Status> {
        Err(Status::unimplemented("nothing is to come to this"))
    }

    async fn submit_evaluation(
        &self,
        _: Request<v1::SubmitEvaluationRequest>,
    ) -> Result<Response<v1::SubmitEvaluationResponse>, Status> {
        Err(Status::unimplemented("nothing is to come to this"))
    }

    async fn submit_statistics(
        &self,
        _: Request<v1::SubmitStatisticsRequest>,
    ) -> Result<Response<v1::SubmitStatisticsResponse>, Status> {
        Err(Status::unimplemented("nothing is to come to this"))
    }

    async fn report_failure(
        &self,
        request: Request<v1::ReportFailureRequest>,
    ) -> Result<Response<v1::ReportFailureResponse>, Status> {
        let request = request.into_inner();
        self.tell(request.task_id, request.reason);
        Ok(Response::new(v1::ReportFailureResponse {}))
    }
}

/// A trainer that nothing may reach.
struct Untouched;

impl Trainer for Untouched {
    fn bindings(&self) -> Vec<Binding> {
        Vec::new()
    }

    fn train(&self, _: &Order<'_>, _: &dyn Control) -> Result<Trained, TrainerError> {
        panic!("an attacker's checkpoint came to the trainer")
    }

    fn evaluate(&self, _: &Order<'_>, _: &dyn Control) -> Result<Statistics, TrainerError> {
        panic!("an attacker's checkpoint came to the trainer")
    }
}

/// A task that is as it should be, whose checkpoint is these bytes.
fn lie(number: usize, spec: &str, checkpoint: Vec<u8>) -> Lie {
    let task = v1::Task {
        task_id: format!("{number:032x}"),
        kind: v1::TaskKind::Train.into(),
        job_id: "redteam-1".to_owned(),
        round: 1,
        attempt: 1,
        spec: spec.to_owned(),
        spec_digest: Digest::of(spec.as_bytes()).to_string(),
        checkpoint_digest: Digest::of(&checkpoint).to_string(),
        checkpoint_bytes: checkpoint.len() as u64,
        heartbeat_ms: 1000,
        examples_max: 5,
        submitted_by: "admin/eve".to_owned(),
        ..v1::Task::default()
    };
    Lie { task, checkpoint }
}

/// The header of a checkpoint with another text in it, as long as before.
fn with_header(good: &[u8], from: &str, to: &str) -> Vec<u8> {
    let start = checkpoint::data_start(good).expect("a header");
    let json = std::str::from_utf8(&good[8..start]).expect("JSON");
    assert!(json.contains(from), "{json}");
    let changed = json.replace(from, to);
    let changed = format!("{:<1$}", changed.trim_end(), json.len());
    assert_eq!(changed.len(), json.len(), "{changed}");
    [&good[..8], changed.as_bytes(), &good[start..]].concat()
}

/// What is sent, and what the agent says of it.
fn lies() -> Vec<(Lie, &'static str)> {
    let text = spec(3, 1);
    let parsed = JobSpec::parse(&text).expect("good");
    let good = checkpoint::encode(&ParameterSet::zeros(parsed.model.schema().clone()));
    let start = checkpoint::data_start(&good).expect("a header");
    let mut infinite = good.clone();
    infinite[start..start + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let mut endless = good.clone();
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let checkpoints = [
        // Shorter names leave room for what else is said.
        (with_header(&good, "layers.0.weight", "layers.0.bias"), "twice"),
        (with_header(&good, "[2,3]", "[-2,3]").to_vec(), "header"),
        (with_header(&good, "[2,3]", "[0,3]"), "expected"),
        (with_header(&good, "\"F32\"", "\"I64\""), "dtype"),
        (infinite, "finite"),
        (endless, "header"),
    ];
    let mut lies: Vec<_> = checkpoints
        .into_iter()
        .enumerate()
        .map(|(at, (bytes, said))| (lie(at + 1, &text, bytes), said))
        .collect();
    let mut other = |said, change: fn(&mut v1::Task)| {
        let mut made = lie(lies.len() + 1, &text, good.clone());
        change(&mut made.task);
        lies.push((made, said));
    };
    other("checkpoint of", |task| task.checkpoint_bytes = u64::MAX);
    other("spec's digest", |task| task.spec.push('\n'));
    other("kind", |task| task.kind = 99);
    other("checkpoint_digest", |task| task.checkpoint_digest = "../../etc/passwd".to_owned());
    other("the spec has", |task| {
        task.spec = task.spec.replace("[3]", "[-3]");
        task.spec_digest = Digest::of(task.spec.as_bytes()).to_string();
    });
    lies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_coordinator_s_tasks_and_checkpoints_are_reported_and_never_trained_on() {
    let expected = lies();
    let attacker = Attacker {
        lies: Arc::new(expected.iter().map(|(lie, _)| lie.clone()).collect()),
        told: Told::default(),
        all_told: CancellationToken::new(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = format!("http://{}", listener.local_addr().expect("an address"));
    let stop = CancellationToken::new();
    let serving = {
        let (service, stop) = (ParticipantServiceServer::new(attacker.clone()), stop.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(async move {
            server.serve_with_incoming_shutdown(incoming, stop.cancelled()).await
        })
    };
    let home = tempfile::tempdir().expect("a folder");
    let file = format!(
        "coordinator = {at:?}\nname = \"site-a\"\nstate_dir = \"state\"\nthreads = 1\n\
         [data]\nformat = \"csv\"\nfile = \"rows.csv\"\nlabel_column = \"y\"\nclasses = 2\n"
    );
    let config =
        ClientConfig::parse(&file, home.path()).unwrap_or_else(|faults| panic!("{faults}"));
    let agent = Agent::new(config.agent, Arc::new(Untouched), Arc::new(Log));
    let running = {
        let stop = stop.clone();
        tokio::spawn(async move { Box::pin(agent.run(stop)).await })
    };
    let all = tokio::time::timeout(PATIENCE, attacker.all_told.cancelled()).await;
    let told = attacker.told.lock().expect("no panic").clone();
    assert!(all.is_ok(), "{} of {}: {told:?}", told.len(), expected.len());
    stop.cancel();
    tokio::time::timeout(PATIENCE, running)
        .await
        .expect("it stops")
        .expect("it ran")
        .expect("well");
    serving.abort();
    for ((lie, said), (task, reason)) in expected.iter().zip(&told) {
        assert_eq!(*task, lie.task.task_id);
        assert!(reason.contains(said), "expected {said:?} in {reason:?}");
    }
    // What an attacker's digests are called is a file's name at most.
    let kept = std::fs::read_dir(home.path().join("state/checkpoints")).expect("listed");
    assert!(kept.flatten().all(|file| file.file_name().len() == 64));
}
