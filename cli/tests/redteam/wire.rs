//! Bytes on the wire that no client of ours would send: calls without a certificate, garbage and
//! mutated messages, on every method that there is.

use bytes::{Buf, BufMut, Bytes};
use hyper_util::rt::TokioIo;
use proptest::prelude::Rng;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tributary_core::identity::Role;
use tributary_proto::fault::reason;
use tributary_proto::v1;

use crate::world::{PATIENCE, World, caller, shake, spec};

/// Mutations of each method's message. They are drawn from a fixed seed: a failure comes again.
const MUTATIONS: usize = 40;

/// Bytes as they are.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// The next bytes of a seed.
fn bytes_of(runner: &mut TestRunner, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    runner.rng().fill_bytes(&mut bytes);
    bytes
}

/// One call with these messages, to its first answer.
async fn call(channel: &Channel, path: &str, messages: Vec<Bytes>) -> Result<(), Status> {
    let calling = async {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = http::uri::PathAndQuery::try_from(path).expect("a path");
        let request = tonic::Request::new(tokio_stream::iter(messages));
        let mut answers = client.streaming(request, path, Raw).await?.into_inner();
        answers.message().await.map(|_| ())
    };
    tokio::time::timeout(PATIENCE, calling).await.expect("an answer in time")
}

/// Every method of ours.
fn methods() -> Vec<String> {
    let set = tributary_proto::FILE_DESCRIPTOR_SET;
    let set = prost_types::FileDescriptorSet::decode(set).expect("descriptors");
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    assert!(paths.len() > 25, "{paths:?}");
    paths
}

/// A connection that shows no certificate.
async fn nobody(world: &World) -> Channel {
    let port = world.coordinator.address().port();
    let trust = world.config.ca_dir.join("current.pem");
    let connector = tower::service_fn(move |_: http::Uri| {
        let trust = trust.clone();
        async move {
            let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
            shake(port, versions, None, &trust).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.expect("the handshake is for anybody")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_only_enrolling_and_health_answer() {
    let world = World::start(|config| config.limits.unknown_requests_per_s = 1000).await;
    let channel = nobody(&world).await;
    for path in methods() {
        let status = call(&channel, &path, vec![Bytes::new()]).await.expect_err("nobody's");
        let found = (status.code(), reason(&status).unwrap_or_default());
        let expected = match path.as_str() {
            "/tributary.v1.EnrollmentService/Enroll" => (Code::PermissionDenied, "token_refused"),
            _ => (Code::Unauthenticated, "certificate_needed"),
        };
        assert_eq!((found.0, found.1.as_str()), expected, "{path}");
    }
    call(&channel, "/grpc.health.v1.Health/Check", vec![Bytes::new()]).await.expect("health");
    for path in [
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/tributary.v1.JobService/DropTables",
        "/tributary.v1.EnrollmentService/enroll",
    ] {
        let status = call(&channel, path, vec![Bytes::new()]).await.expect_err("nobody's");
        assert_eq!(status.code(), Code::Unauthenticated, "{path}");
    }
}

/// A message of each kind that is as it should be, for mutations to begin from.
fn honest(path: &str, task: &v1::Task, job: &str) -> Vec<Bytes> {
    let (task_id, job) = (task.task_id.clone(), job.to_owned());
    let caller = caller("site-a");
    let one = |message: Vec<u8>| vec![Bytes::from(message)];
    match path.rsplit('/').next().unwrap_or_default() {
        "Poll" => one(v1::PollRequest {
            caller,
            protocol_version: 1,
            software: "x".to_owned(),
            bindings: vec![v1::Binding::default()],
            wait_ms: 0,
            reconsider: false,
        }
        .encode_to_vec()),
        "Heartbeat" => {
            one(v1::HeartbeatRequest { caller, task_id, progress: 1, progress_total: 2 }
                .encode_to_vec())
        }
        "FetchBlob" => {
            one(v1::FetchBlobRequest { caller, digest: task.checkpoint_digest.clone(), offset: 3 }
                .encode_to_vec())
        }
        "GetUpload" => one(v1::GetUploadRequest {
            caller,
            task_id,
            update_digest: task.checkpoint_digest.clone(),
            bytes: 96,
        }
        .encode_to_vec()),
        "UploadUpdate" => {
            use v1::upload_update_request::Message as Part;
            let header = v1::UploadHeader {
                caller,
                task_id,
                update_digest: task.checkpoint_digest.clone(),
                bytes: 96,
                part_digests: vec![vec![1; 32].into()],
                examples: 5,
                statistics: Some(v1::Statistics::default()),
            };
            let chunk = v1::UploadChunk { part: 0, data: vec![7; 96].into() };
            let message = |part| v1::UploadUpdateRequest { message: Some(part) }.encode_to_vec();
            vec![message(Part::Header(header)).into(), message(Part::Chunk(chunk)).into()]
        }
        "SubmitEvaluation" => one(v1::SubmitEvaluationRequest {
            caller,
            task_id,
            statistics: Some(v1::Statistics { confusion: vec![1; 4], ..Default::default() }),
        }
        .encode_to_vec()),
        "SubmitStatistics" => one(honest_sums(caller, task_id)),
        "ReportFailure" => one(v1::ReportFailureRequest {
            caller,
            task_id: "0".repeat(32),
            reason: "x".to_owned(),
            refused_by_site: true,
            code: "unable".to_owned(),
        }
        .encode_to_vec()),
        method => operators(method, job),
    }
}

fn honest_sums(caller: Option<v1::Caller>, task_id: String) -> Vec<u8> {
    let sums = v1::SiteSums {
        rows: 5,
        features: vec![vec![1; 48].into()],
        tokens: vec![v1::TokenCount { token: "x".to_owned(), count: 3 }],
        left_out: 1,
        names: vec!["ill".to_owned()],
    };
    v1::SubmitStatisticsRequest { caller, task_id, sums: Some(sums) }.encode_to_vec()
}

/// The operators' and everybody's messages.
fn operators(method: &str, job: String) -> Vec<Bytes> {
    let one = |message: Vec<u8>| vec![Bytes::from(message)];
    match method {
        "CreateJob" => one(v1::CreateJobRequest {
            request_id: "one".to_owned(),
            spec: spec(3, 2),
            validate_only: true,
        }
        .encode_to_vec()),
        "Enroll" => {
            one(v1::EnrollRequest { secret: vec![7; 32].into(), csr: vec![0x30; 64].into() }
                .encode_to_vec())
        }
        "Renew" => one(v1::RenewRequest { csr: vec![0x30; 64].into() }.encode_to_vec()),
        "CreateToken" => one(v1::CreateTokenRequest {
            role: "viewer".to_owned(),
            name: "eve".to_owned(),
            ttl_s: 60,
        }
        .encode_to_vec()),
        "RevokeIdentity" => one(v1::RevokeIdentityRequest {
            role: "viewer".to_owned(),
            name: "nobody".to_owned(),
            reason: "x".to_owned(),
        }
        .encode_to_vec()),
        // The others name a job, or nothing.
        _ => one(v1::GetRoundRequest { job, number: 1 }.encode_to_vec()),
    }
}

/// Flips, cuts, repeats or inserts bytes.
fn mutate(runner: &mut TestRunner, message: &Bytes) -> Bytes {
    let mut bytes = message.to_vec();
    let drawn = bytes_of(runner, 16);
    let at = |i: usize, len: usize| {
        usize::from(u16::from_le_bytes([drawn[i], drawn[i + 1]])) % len.max(1)
    };
    match drawn[0] % 5 {
        0 => bytes.truncate(at(1, bytes.len())),
        1 => bytes.extend_from_slice(&message.clone()),
        2 => bytes = bytes_of(runner, 1 + at(1, 300)),
        3 => {
            let place = at(1, bytes.len() + 1);
            // A field of the largest number, or of a length that is not there.
            let field = [drawn[3] | 2, 0xff, 0xff, 0xff, 0xff, 0x0f];
            bytes.splice(place..place, field);
        }
        _ => {
            for i in 0..4 {
                let place = at(1 + 2 * i, bytes.len());
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= drawn[10 + i];
                }
            }
        }
    }
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_messages_get_a_status_on_every_method() {
    let world = World::start(|config| config.limits.requests_per_s = 100_000).await;
    let client = world.enroll(Role::Client, "site-a").await;
    let admin = world.enroll(Role::Admin, "boss").await;
    let job = world.submit(3, 1).await;
    let task = client.poll("site-a", 3, 20_000).await.expect("polled").expect("a task");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut refused = 0;
    for path in methods() {
        let channel = match path.contains("ParticipantService") {
            true => &client.channel,
            false => &admin.channel,
        };
        let good = honest(&path, &task, &job);
        for _ in 0..MUTATIONS {
            let which = usize::from(bytes_of(&mut runner, 1)[0]) % good.len();
            let mut messages = good.clone();
            messages[which] = mutate(&mut runner, &good[which]);
            // Somebody who says less than they announced ends the stream there.
            let Err(status) = call(channel, &path, messages).await else { continue };
            // A panic in a service ends its call with `Unknown` or `Cancelled`, or the connection.
            let code = status.code();
            assert!(
                !matches!(code, Code::Unknown | Code::Cancelled | Code::Unavailable),
                "{path}: {status:?}"
            );
            refused += 1;
        }
    }
    assert!(refused > 300, "most of it is refused: {refused}");
    // The round that was there goes on.
    let again = client.poll("site-a", 3, 0).await.expect("polled");
    assert!(again.is_some_and(|again| again.task_id == task.task_id), "the task stands");
}
