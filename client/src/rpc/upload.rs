//! Sending an update: its header, then the parts that the coordinator does not have yet, read from
//! the file chunk by chunk; of a part that broke off, what is missing of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tributary_core::codec;
use tributary_core::digest::Digest;
use tributary_core::metrics::Statistics;
use tributary_proto::convert::{beginning_from_wire, statistics_to_wire};
use tributary_proto::{CHUNK_BYTES, PIECE_BYTES, v1};

use crate::failpoint::failpoint;

use super::fetch::on_disk;
use super::{CALL, CallError, Client, Me, limited};

/// How long one try of an upload may take; the next one sends only what is missing.
const UPLOAD: Duration = Duration::from_secs(600);
/// How long a receipt may take when everything is on its way: longer than the line for a place at the
/// coordinator, which takes nothing before. A coordinator that is gone is noticed by keep-alives.
const RECEIPT: Duration = Duration::from_secs(300);
/// How often a running upload is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Pieces between the file and the connection.
const PIECES_AHEAD: usize = 2;

/// An update that lies in a file.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) task: String,
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    pub(crate) parts: Vec<Digest>,
    pub(crate) examples: u64,
    pub(crate) statistics: Statistics,
}

/// Sends an update and gives the receipt. `step` is called for each piece.
pub(crate) async fn upload(
    client: &mut Client,
    me: &Me,
    outgoing: &Outgoing,
    step: Arc<dyn Fn() + Send + Sync>,
) -> Result<v1::Receipt, CallError> {
    let mut there = v1::GetUploadResponse::default();
    // A small one is sent as quickly as it is asked for.
    if outgoing.bytes > CHUNK_BYTES as u64 {
        let request = v1::GetUploadRequest {
            caller: me.caller(),
            task_id: outgoing.task.clone(),
            update_digest: outgoing.digest.to_string(),
            bytes: outgoing.bytes,
        };
        there = limited(CALL, client.get_upload(request)).await?;
        if let Some(receipt) = there.receipt {
            return Ok(receipt);
        }
    }
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let reading =
        tokio::spawn(send_parts(me.clone(), outgoing.clone(), there, sender, step.clone()));
    let answer = client.upload_update(ReceiverStream::new(receiver));
    tokio::pin!(answer);
    let result = tokio::select! {
        biased;
        result = &mut answer => result,
        text = stuck(&reading) => Err(tonic::Status::deadline_exceeded(text)),
    };
    reading.abort();
    let read = reading.await;
    let response = match (result, read) {
        (Ok(response), _) => response,
        (Err(_), Ok(Err(error))) => return Err(error),
        (Err(status), _) => return Err(status.into()),
    };
    response
        .into_inner()
        .receipt
        .ok_or_else(|| CallError::Away("the coordinator gave no receipt".to_owned(), None))
}

/// Ends when an upload no longer moves: everything is read and there is no receipt, or the link is so
/// slow that it is better to take the upload up again (the parts that came are kept).
async fn stuck(reading: &JoinHandle<Result<(), CallError>>) -> &'static str {
    let started = Instant::now();
    while !reading.is_finished() {
        if started.elapsed() > UPLOAD {
            return "the upload took too long; it is taken up again";
        }
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(RECEIPT).await;
    "no receipt after the last byte"
}

async fn send_parts(
    me: Me,
    outgoing: Outgoing,
    there: v1::GetUploadResponse,
    sender: mpsc::Sender<v1::UploadUpdateRequest>,
    step: Arc<dyn Fn() + Send + Sync>,
) -> Result<(), CallError> {
    use v1::upload_update_request::Message;
    let beginning = there.beginning.filter(|b| beginning_from_wire(*b, outgoing.bytes).is_ok());
    let header = v1::UploadHeader {
        caller: me.caller(),
        task_id: outgoing.task.clone(),
        update_digest: outgoing.digest.to_string(),
        bytes: outgoing.bytes,
        part_digests: outgoing.parts.iter().map(|d| d.as_bytes().to_vec().into()).collect(),
        examples: outgoing.examples,
        statistics: Some(statistics_to_wire(&outgoing.statistics)),
        beginning,
    };
    let first = v1::UploadUpdateRequest { message: Some(Message::Header(header)) };
    if sender.send(first).await.is_err() {
        return Ok(());
    }
    let path = outgoing.path.clone();
    let file = Arc::new(on_disk(move || File::open(path)).await?);
    for part in 0..codec::part_count(outgoing.bytes) {
        if there.held_parts.contains(&part) {
            continue;
        }
        let Some(range) = codec::part_range(part, outgoing.bytes) else { break };
        let begun = beginning.filter(|b| b.part == part).map_or(0, |b| b.bytes);
        let mut at = range.start + begun;
        while at < range.end {
            let take = (range.end - at).min(CHUNK_BYTES as u64);
            let file = file.clone();
            let read = on_disk(move || {
                let mut data = BytesMut::zeroed(usize::try_from(take).unwrap_or(CHUNK_BYTES));
                file.read_exact_at(&mut data, at).map(|()| data.freeze())
            });
            let mut chunk = read.await?;
            at += take;
            while !chunk.is_empty() {
                let data = chunk.split_to(chunk.len().min(PIECE_BYTES));
                let piece = v1::UploadChunk { part, data };
                let message = v1::UploadUpdateRequest { message: Some(Message::Chunk(piece)) };
                if sender.send(message).await.is_err() {
                    // The coordinator ended the call; its status says why.
                    return Ok(());
                }
                failpoint!("upload.chunk.sent");
                step();
            }
        }
    }
    Ok(())
}
