//! Messages and headers that cost their sender little and whoever takes them much.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Service, ServiceExt};
use tributary_core::identity::Role;
use tributary_proto::fault::{reason, retry_after};
use tributary_proto::v1;

use crate::world::{PATIENCE, Somebody, World, caller, shake};

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A call whose body is these characters, as they are.
async fn send(channel: &Channel, path: &str, encoding: &str, body: String) -> Status {
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", encoding)
        .body(Body::new(body))
        .expect("a request");
    let mut channel = channel.clone();
    let answer = async { channel.ready().await?.call(request).await };
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time");
    let answer = answer.expect("an answer");
    Status::from_header_map(answer.headers()).expect("refused at once, in the headers")
}

/// gRPC's header of a message, and the message: `length` characters of a text without end.
fn message(length: u32, of: &str) -> String {
    let [a, b, c, d] = length.to_be_bytes();
    assert!([a, b, c, d].iter().all(u8::is_ascii), "it is sent as text");
    let mut text: String = [0, a, b, c, d].map(char::from).iter().collect();
    text.extend(of.chars().cycle().take(length as usize));
    text
}

/// 24 MiB of empty bindings: a gigabyte and a half of memory, were they decoded.
const BINDINGS: u32 = 0x017f_0000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_nothing_are_refused_before_they_are_decoded() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    let small = [
        ("/tributary.v1.ParticipantService/Poll", "\x22\0"),
        ("/tributary.v1.ParticipantService/Heartbeat", "\x22\0"),
        ("/tributary.v1.ParticipantService/FetchBlob", "\x22\0"),
        ("/tributary.v1.ParticipantService/ReportFailure", "\x22\0"),
    ];
    for (path, of) in small {
        let refused = send(&a.channel, path, "identity", message(BINDINGS, of)).await;
        let found = (refused.code(), reason(&refused).unwrap_or_default());
        assert_eq!(found, (Code::OutOfRange, "message_too_large".to_owned()), "{path}");
        // The length alone is enough: nothing else has to come.
        let announced = message(BINDINGS, of)[..5].to_owned();
        let refused = send(&a.channel, path, "identity", announced).await;
        assert_eq!(reason(&refused).as_deref(), Some("message_too_large"), "{path}");
    }
    // Two messages where one is asked for.
    let twice = message(2, "\x22\0") + &message(2, "\x22\0");
    let refused =
        send(&a.channel, "/tributary.v1.ParticipantService/Poll", "identity", twice).await;
    assert_eq!(reason(&refused).as_deref(), Some("malformed"));
    still_there(&a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_large_messages_are_taken_at_once() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    // Each announces statistics of three megabytes and sends none of them.
    let mut waiting = tokio::task::JoinSet::new();
    let mut held = Vec::new();
    for _ in 0..6 {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, Status>>(1);
        let announced = message(0x0030_0000, "x")[..5].to_owned();
        sender.send(Ok(announced)).await.expect("sent");
        held.push(sender);
        let body = Body::new(StreamOfText(receiver));
        let request = http::Request::post("/tributary.v1.ParticipantService/SubmitEvaluation")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .expect("a request");
        let mut channel = a.channel.clone();
        waiting.spawn(async move { channel.ready().await?.call(request).await });
    }
    for _ in 0..4 {
        let answer = tokio::time::timeout(PATIENCE, waiting.join_next()).await.expect("in time");
        let answer = answer.expect("one").expect("it ran").expect("an answer");
        let refused = Status::from_header_map(answer.headers()).expect("refused");
        assert_eq!(reason(&refused).as_deref(), Some("too_many_large_messages"));
        assert!(retry_after(&refused) > Some(Duration::ZERO), "it may come again");
    }
    assert_eq!(waiting.len(), 2, "the places of large messages");
    still_there(&a).await;
}

/// A body whose pieces come when they are sent.
struct StreamOfText(tokio::sync::mpsc::Receiver<Result<String, Status>>);

impl http_body::Body for StreamOfText {
    type Data = bytes::Bytes;
    type Error = Status;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
        let next = self.0.poll_recv(context);
        next.map(|piece| piece.map(|piece| piece.map(|text| http_body::Frame::data(text.into()))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_messages_are_not_unpacked() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    // The flag says compressed, the header says gzip.
    let mut packed = message(9, "\x1f\x0b\x08");
    packed.replace_range(0..1, "\x01");
    let refused = send(&a.channel, "/tributary.v1.ParticipantService/Poll", "gzip", packed).await;
    assert!(matches!(refused.code(), Code::Unimplemented | Code::Internal), "{refused:?}");
    still_there(&a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_headers_and_those_that_unpack_to_long_ones_are_refused() {
    let world = World::start(|_| {}).await;
    let a = world.enroll(Role::Client, "site-a").await;
    let long = world.connect(&a.credential).await;
    let mut request = tonic::Request::new(v1::HeartbeatRequest::default());
    let value = "x".repeat(1 << 20).parse().expect("a value");
    request.metadata_mut().insert("x-long", value);
    let mut client = v1::participant_service_client::ParticipantServiceClient::new(long);
    let answer = tokio::time::timeout(PATIENCE, client.heartbeat(request)).await;
    let refused = answer.expect("an answer in time").expect_err("a megabyte of headers");
    assert_eq!(reason(&refused), None, "no service has seen it: {refused:?}");
    bomb(&world).await;
    still_there(&a).await;
}

/// A header of 3,900 characters, put into the table of the connection once and named 12,000 times
/// after it: 16 kB on the wire, 47 MB unpacked.
async fn bomb(world: &World) {
    let port = world.coordinator.address().port();
    let trust = world.config.ca_dir.join("current.pem");
    let mut stream = shake(port, TLS13, None, &trust).await.expect("anybody's handshake");
    let mut block = vec![0x83, 0x87];
    for (index, text) in [(0x04, "/grpc.health.v1.Health/Check"), (0x01, "localhost")] {
        block.push(index);
        block.push(text.len() as u8);
        block.extend(text.bytes());
    }
    // Literal with indexing, a new name; lengths above 126 go on in the next bytes, seven bits each.
    block.extend([0x40, 1, b'x', 0x7f]);
    let mut rest = 3900 - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    block.push(rest as u8);
    block.extend(vec![b'x'; 3900]);
    block.extend(vec![0x80 | 62; 12_000]);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend(&(block.len() as u32).to_be_bytes()[1..]);
    // HEADERS, the end of them and of the stream; stream 1.
    bytes.extend([0x01, 0x05, 0, 0, 0, 1]);
    bytes.extend(block);
    stream.write_all(&bytes).await.expect("sent");
    // What comes back for stream 1 is no answer of a service (which begins with `:status: 200`).
    let refused = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return true;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if stream.read_exact(&mut payload).await.is_err() {
                return true;
            }
            match head[3] {
                // HEADERS, RST_STREAM, GOAWAY.
                0x01 => return payload.first() != Some(&0x88),
                0x03 | 0x07 => return true,
                _ => {}
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("an answer in time");
    assert!(refused, "the headers were taken");
}

/// Who behaves is served over the connection that is there.
async fn still_there(who: &Somebody) {
    let heartbeat = v1::HeartbeatRequest {
        caller: caller("site-a"),
        task_id: "0".repeat(32),
        progress: 1,
        progress_total: 1,
    };
    let answer = who.participant().heartbeat(heartbeat).await.expect("answered").into_inner();
    assert_eq!(answer.reason, "unknown_task");
}
