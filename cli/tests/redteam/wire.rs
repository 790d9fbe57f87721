//! Bytes on the wire that no client of ours would send: calls without a certificate, garbage and
//! mutated messages, on every method that there is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes};
use hyper_util::rt::TokioIo;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tributary_proto::fault::reason;

use crate::fields::{Draw, Protocol};
use crate::scenes::Scenes;
use crate::world::{PATIENCE, World, shake};

/// Mutations of each method's message. They are drawn from a fixed seed: a failure comes again.
const MUTATIONS: usize = 60;

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
    for (path, _) in Protocol::read().methods {
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

/// Flips, cuts, repeats or inserts bytes, whatever they mean.
fn damage(draw: &mut Draw, message: &[u8]) -> Vec<u8> {
    let (mut bytes, place) = (message.to_vec(), draw.below(message.len() + 1));
    match draw.below(4) {
        0 => bytes.truncate(place),
        1 => bytes.extend_from_slice(message),
        2 => {
            // A length that is not there.
            let field = [draw.bytes(1)[0] | 2, 0xff, 0xff, 0xff, 0xff, 0x0f];
            bytes.splice(place..place, field);
        }
        _ => {
            for _ in 0..4 {
                let place = draw.below(bytes.len());
                let drawn = draw.bytes(1)[0];
                bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= drawn);
            }
        }
    }
    bytes
}

/// Panics of this process that are no test's: where they were.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn panics() -> std::sync::MutexGuard<'static, Vec<String>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The coordinator runs in this process, so that its panics come by here.
fn watch_for_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if !place.contains("tests/") {
            panics().push(format!("{place}: {panic}"));
        }
        before(panic);
    }));
}

/// How often something was refused, and taken.
type Tally = BTreeMap<String, (usize, usize)>;

fn count(tally: &mut Tally, what: &str, refused: bool) {
    let counts = tally.entry(what.to_owned()).or_default();
    counts.0 += usize::from(refused);
    counts.1 += usize::from(!refused);
}

/// A refusal is a status of ours: a panic in a service would end its call with `Unknown` or `Cancelled`,
/// or the connection, and what the store or the disk says is no peer's doing.
fn is_status(status: &Status) -> bool {
    match status.code() {
        Code::Unknown | Code::Cancelled | Code::Unavailable | Code::DeadlineExceeded => false,
        // What is no message at all.
        Code::Internal => status.message().contains("decode"),
        _ => true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_messages_get_a_status_on_every_method() {
    let world = World::start(|config| {
        config.limits.requests_per_s = 100_000;
        config.limits.unknown_requests_per_s = 100_000;
    })
    .await;
    watch_for_panics();
    let nobody = nobody(&world).await;
    let mut scenes = Scenes::set(world, nobody).await;
    let (protocol, mut draw) = (Protocol::read(), Draw::new(5));
    let (mut by_method, mut by_kind) = (Tally::new(), Tally::new());
    for (path, input) in &protocol.methods {
        let base = scenes.base(path).await;
        let good = base.messages.iter().cloned().map(Bytes::from).collect();
        let answer = call(&base.channel, path, good).await;
        assert!(answer.is_ok(), "{path} as it should be: {answer:?}");
        for _ in 0..MUTATIONS {
            let base = scenes.base(path).await;
            let mut messages = base.messages;
            let which = draw.below(messages.len());
            let fields = protocol.decode(input, &messages[which]);
            let mut fields = fields.expect("an honest message");
            let kind = match draw.below(5) {
                0 => {
                    messages[which] = damage(&mut draw, &messages[which]);
                    "damaged bytes"
                }
                _ => {
                    let mut kind = protocol.mutate(&mut draw, input, &mut fields);
                    if draw.below(4) == 0 {
                        kind = protocol.mutate(&mut draw, input, &mut fields);
                    }
                    messages[which] = fields.encode();
                    kind
                }
            };
            let sent: Vec<Bytes> = messages.iter().cloned().map(Bytes::from).collect();
            let answer = call(&base.channel, path, sent).await;
            if let Err(status) = &answer {
                let shown = messages[which].iter().take(200).map(|b| format!("{b:02x}"));
                let shown: String = shown.collect();
                assert!(is_status(status), "{path}, {kind}: {status:?}\n{shown}");
            }
            count(&mut by_method, path, answer.is_err());
            count(&mut by_kind, kind, answer.is_err());
        }
    }
    println!("(refused, taken) by method: {by_method:#?}\nby kind: {by_kind:#?}");
    let sum = |tally: &Tally| tally.values().map(|counts| counts.0 + counts.1).sum::<usize>();
    assert_eq!(sum(&by_method), protocol.methods.len() * MUTATIONS);
    assert_eq!(sum(&by_kind), sum(&by_method));
    // A message without a field has hardly anything to refuse, and one of numbers alone little.
    for (path, input) in &protocol.methods {
        let refused = by_method.get(path).map_or(0, |counts| counts.0);
        let least = if protocol.is_empty(input) { 0 } else { MUTATIONS / 20 };
        assert!(refused >= least, "{path}: {refused} of {MUTATIONS} are refused");
    }
    assert!(by_kind.len() >= 9 && by_kind.values().all(|(refused, _)| *refused > 0), "{by_kind:?}");
    scenes.a_round_still_completes().await;
    assert!(panics().is_empty(), "{:#?}", panics());
}
