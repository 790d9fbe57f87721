//! Tributary's wire: the generated code of `tributary.v1`, and the checks that every peer's bytes
//! pass before they become anything of ours (`convert`). Refuses nothing by itself but what is
//! malformed; what a well-formed request may do is the round machine's to say.

pub mod convert;
pub mod fault;

use std::time::Duration;

/// The generated code of the package `tributary.v1`.
#[allow(unreachable_pub, missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("tributary.v1");
}

/// The descriptors of the package, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("tributary_descriptor");

/// The newest protocol that this build speaks. It understands this one and the one before.
pub const PROTOCOL_VERSION: u32 = 2;
/// The oldest protocol that this build understands.
pub const PROTOCOL_VERSION_MIN: u32 = 1;
/// Largest message on either side: a spec or a statistics message fits, an update does not; those
/// stream in chunks.
pub const MESSAGE_BYTES_MAX: usize = 36 << 20;
/// Size of the chunks that blobs stream in.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of an update or a checkpoint in one message: a second of a slow link (1 Mbit/s). That much
/// is lost when it breaks, and a heartbeat waits behind no more.
pub const PIECE_BYTES: usize = 128 << 10;
/// Bytes that a socket takes before the link has sent them (`TCP_NOTSENT_LOWAT`): two pieces. More
/// would stand between a keep-alive and its answer, and a slow link would look dead.
pub const UNSENT_BYTES: u32 = 256 << 10;
/// When a connection that brought nothing is asked for a sign of life, and how long that may take: some
/// seconds of it are a slow link's. A peer that is gone is noticed within both together.
pub const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// Longest wait of a poll, in milliseconds: below what proxies cut idle calls at.
pub const POLL_WAIT_MS_MAX: u32 = 30_000;
/// HTTP/2 windows: a stream and a connection can keep a fast, long link busy.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// See [`STREAM_WINDOW_BYTES`].
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A task's kind as a word, in JSON.
fn task_kind<S: serde::Serializer>(kind: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match v1::TaskKind::try_from(*kind) {
        Ok(v1::TaskKind::Train) => "train",
        Ok(v1::TaskKind::Evaluate) => "evaluate",
        Ok(v1::TaskKind::Statistics) => "statistics",
        _ => "unspecified",
    })
}
