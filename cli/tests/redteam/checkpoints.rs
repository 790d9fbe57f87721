//! Checkpoints that are none, brought for jobs to start from.

use tonic::{Code, Status};
use tributary_core::checkpoint;
use tributary_core::digest::Digest;
use tributary_core::identity::Role;
use tributary_core::params::ParameterSet;
use tributary_core::spec::JobSpec;
use tributary_proto::fault::reason;
use tributary_proto::v1;
use v1::job_service_client::JobServiceClient;
use v1::upload_checkpoint_request::Message;

use crate::world::{Somebody, World, spec};

const FEATURES: usize = 6;

fn model(of: f32) -> ParameterSet {
    let spec = JobSpec::parse(&spec(FEATURES, 2)).expect("good");
    let schema = spec.model.schema().clone();
    let values = vec![of; schema.len()];
    ParameterSet::new(schema, values).expect("as long")
}

/// The call with these pieces, whatever they are.
async fn send(
    who: &Somebody,
    digest: String,
    total_bytes: u64,
    pieces: Vec<Vec<u8>>,
) -> Result<v1::UploadCheckpointResponse, Status> {
    let header = Message::Header(v1::CheckpointHeader { digest, total_bytes });
    let data = pieces.into_iter().map(|piece| Message::Data(piece.into()));
    let messages: Vec<_> = std::iter::once(header)
        .chain(data)
        .map(|message| v1::UploadCheckpointRequest { message: Some(message) })
        .collect();
    let mut client = JobServiceClient::new(who.channel.clone());
    let answer = client.upload_checkpoint(tokio_stream::iter(messages)).await;
    answer.map(tonic::Response::into_inner)
}

/// A file as it is, in pieces of `piece` bytes.
async fn bring(
    who: &Somebody,
    file: &[u8],
    piece: usize,
) -> Result<v1::UploadCheckpointResponse, Status> {
    let pieces = file.chunks(piece).map(<[u8]>::to_vec).collect();
    send(who, Digest::of(file).to_string(), file.len() as u64, pieces).await
}

fn refused(answer: Result<v1::UploadCheckpointResponse, Status>) -> (Code, String) {
    let status = answer.expect_err("refused");
    (status.code(), reason(&status).unwrap_or_default())
}

fn told(code: Code, word: &str) -> (Code, String) {
    (code, word.to_owned())
}

fn bad() -> (Code, String) {
    told(Code::InvalidArgument, "no_checkpoint")
}

fn good() -> Vec<u8> {
    checkpoint::encode(&model(0.5))
}

/// Whether nothing of a refused file is there to start from.
async fn is_absent(otto: &Somebody, digest: &str) {
    let status = create(otto, named(digest), "early").await.expect_err("it is not there");
    assert_eq!(reason(&status).as_deref(), Some("unknown_checkpoint"));
}

fn named(digest: &str) -> String {
    format!("{}[init]\ncheckpoint = \"{digest}\"\n", spec(FEATURES, 2))
}

async fn create(otto: &Somebody, spec: String, key: &str) -> Result<v1::Job, Status> {
    let request_id = key.to_owned();
    let request = v1::CreateJobRequest { request_id, spec, validate_only: false };
    let answer = JobServiceClient::new(otto.channel.clone()).create_job(request).await?;
    Ok(answer.into_inner().job.expect("a job"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_checkpoint_is_refused_and_leaves_nothing() {
    let world = World::start(|_| {}).await;
    let otto = world.enroll(Role::Operator, "otto").await;
    let good = good();
    let start = checkpoint::data_start(&good).expect("a header");
    // Values that are no numbers, wherever the pieces are cut.
    for (value, piece) in [(f32::NAN, 7), (f32::INFINITY, 1 << 20), (f32::NEG_INFINITY, start + 2)]
    {
        let mut file = good.clone();
        let last = file.len() - 4;
        file[last..].copy_from_slice(&value.to_le_bytes());
        let found = refused(bring(&otto, &file, piece).await);
        assert_eq!(found, told(Code::InvalidArgument, "not_finite"), "{value} by {piece}");
        is_absent(&otto, &Digest::of(&file).to_string()).await;
    }
    // A header that names more than it may, another form of a header, one that is cut, none.
    let mut huge = good.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let spaced = String::from_utf8_lossy(&good[8..start]).replacen('{', "{ ", 1);
    let mut other = (spaced.len() as u64).to_le_bytes().to_vec();
    other.extend_from_slice(spaced.as_bytes());
    other.extend_from_slice(&good[start..]);
    for file in [&huge[..], &other, &good[..start - 3], &[7; 3], &[]] {
        assert_eq!(refused(bring(&otto, file, 64).await), bad(), "{} bytes", file.len());
    }
    // Duplicate tensors, negative shapes, holes, sizes that overflow, halves.
    for header in [
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#,
    ] {
        let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
        let mut file = (padded.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(padded.as_bytes());
        file.extend_from_slice(&[0; 8]);
        assert_eq!(refused(bring(&otto, &file, 64).await), bad(), "{header}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_than_were_announced_are_refused() {
    let world = World::start(|_| {}).await;
    let otto = world.enroll(Role::Operator, "otto").await;
    let (good, malformed) = (good(), || told(Code::InvalidArgument, "malformed"));
    let (digest, len) = (Digest::of(&good).to_string(), good.len() as u64);
    let send_as = async |digest: &str, len: u64, file: Vec<u8>| {
        refused(send(&otto, digest.to_owned(), len, vec![file]).await)
    };
    for len in [len - 4, len + 4, u64::MAX] {
        assert_eq!(send_as(&digest, len, good.clone()).await, malformed(), "{len}");
    }
    assert_eq!(send_as("sha256:12", len, good).await, malformed());
    let zero = checkpoint::encode(&model(0.0));
    let found = send_as(&digest, len, zero).await;
    assert_eq!(found, told(Code::Aborted, "damaged_in_transfer"));
    is_absent(&otto, &digest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_is_an_operator_s_to_bring_and_of_one_model() {
    let world = World::start(|_| {}).await;
    let otto = world.enroll(Role::Operator, "otto").await;
    let good = good();
    let digest = Digest::of(&good).to_string();
    for role in [Role::Client, Role::Viewer] {
        let eve = world.enroll(role, "eve").await;
        let status = bring(&eve, &good, 64).await.expect_err("not hers to bring");
        assert_eq!(status.code(), Code::PermissionDenied, "{role}");
    }
    assert!(!bring(&otto, &good, 64).await.expect("taken").held);
    assert!(bring(&otto, &good, 64).await.expect("taken").held, "it is there now");
    let job = create(&otto, named(&digest), "now").await.expect("created");
    assert_eq!(job.checkpoint_digest, digest);
    let wide = named(&digest).replace(&spec(FEATURES, 2), &spec(FEATURES + 1, 2));
    let status = create(&otto, wide, "wide").await.expect_err("another model's");
    assert_eq!(reason(&status).as_deref(), Some("spec_invalid"));
    let brought = world.actions().await.iter().filter(|a| *a == "checkpoint_uploaded").count();
    assert_eq!(brought, 2, "each time that somebody brought one is in the audit");
}
