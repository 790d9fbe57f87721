//! A checkpoint that an operator brings: checked as it comes, and stored under its digest.
//!
//! It is taken only in the form that the coordinator writes itself: the header of its schema, then
//! finite values, and nothing else. Whether it fits a model is asked when a job names it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;
use tonic::{Code, Status, Streaming};
use tributary_core::checkpoint::{self, HEADER_BYTES_MAX, LENGTH_BYTES};
use tributary_core::digest::Digest;
use tributary_core::params::PARAMETERS_MAX;
use tributary_proto::convert::{WireFault, digest_from_wire};
use tributary_proto::fault::{retry_status, status};
use tributary_proto::v1;
use tributary_proto::v1::upload_checkpoint_request::Message;

use crate::blobs::{BlobError, CheckpointWriter, initial_key};
use crate::driver::Hub;
use crate::grpc::status::{of_blob, of_store};
use crate::store::By;

/// Checkpoints that come at once: each holds two pieces of 8 MiB, and operators are few.
pub(in crate::grpc) const UPLOADS_MAX: usize = 2;
/// How long the next message is waited for: 1 MiB at 18 kB/s.
const MESSAGE: Duration = Duration::from_secs(60);
/// When to come again where others send theirs.
const BUSY_AFTER: Duration = Duration::from_secs(5);
/// Longest file: the most parameters and the longest header.
const FILE_BYTES_MAX: u64 = (LENGTH_BYTES + HEADER_BYTES_MAX + 4 * PARAMETERS_MAX) as u64;

/// Receives a checkpoint; whether it was here before.
pub(super) async fn upload(
    hub: &Hub,
    places: &Semaphore,
    mut messages: Streaming<v1::UploadCheckpointRequest>,
    by: By,
) -> Result<v1::UploadCheckpointResponse, Status> {
    let _place = places.try_acquire().map_err(|_| {
        let text = "other checkpoints are being uploaded: try again";
        retry_status(Code::ResourceExhausted, "uploads_busy", text, BUSY_AFTER)
    })?;
    let Some(Message::Header(header)) = next(&mut messages).await? else {
        return Err(WireFault::new("message", "a header first", "something else").into());
    };
    let digest = digest_from_wire("header.digest", &header.digest)?;
    let total = header.total_bytes;
    if total > FILE_BYTES_MAX {
        let expected = format!("at most {FILE_BYTES_MAX} bytes");
        return Err(WireFault::new("header.total_bytes", expected, total.to_string()).into());
    }
    let key = initial_key(digest);
    let answer = |held| v1::UploadCheckpointResponse { digest: digest.to_string(), held };
    let event = by.did("checkpoint_uploaded", digest.to_string(), format!("{total} bytes"));
    match hub.blobs.len(&key).await {
        Ok(_) => {
            // Once more: an earlier try may have ended behind its last byte.
            hub.store.audit(&event).await.map_err(|error| of_store(&error))?;
            return Ok(answer(true));
        }
        Err(BlobError::NotFound { .. }) => {}
        Err(error) => return Err(of_blob(&error)),
    }
    hub.blobs.check_room().map_err(|error| of_blob(&error))?;
    let writer = hub.blobs.checkpoint_writer(&key).await.map_err(|error| of_blob(&error))?;
    let mut file =
        Incoming { writer, total, came: 0, header: Some(BytesMut::new()), odd: Vec::new() };
    while file.came < total {
        match next(&mut messages).await? {
            Some(Message::Data(data)) if !data.is_empty() => file.take(data).await?,
            Some(_) => {
                let expected = "bytes behind the header";
                return Err(WireFault::new("message", expected, "something else").into());
            }
            None => {
                let found = format!("the end behind {} of them", file.came);
                return Err(WireFault::new("data", format!("{total} bytes"), found).into());
            }
        }
    }
    file.finish(digest).await?;
    hub.store.audit(&event).await.map_err(|error| of_store(&error))?;
    Ok(answer(false))
}

async fn next(
    messages: &mut Streaming<v1::UploadCheckpointRequest>,
) -> Result<Option<Message>, Status> {
    let message = tokio::time::timeout(MESSAGE, messages.message()).await.map_err(|_| {
        let text = format!("expected the next message within {} s: start again", MESSAGE.as_secs());
        status(Code::DeadlineExceeded, "upload_stalled", text)
    })?;
    Ok(message?.and_then(|request| request.message))
}

/// A checkpoint of which `came` bytes came.
struct Incoming {
    writer: CheckpointWriter,
    total: u64,
    came: u64,
    /// What came of the header, until it is whole.
    header: Option<BytesMut>,
    /// The bytes behind the last whole value.
    odd: Vec<u8>,
}

impl Incoming {
    async fn take(&mut self, data: Bytes) -> Result<(), Status> {
        self.came += data.len() as u64;
        if self.came > self.total {
            let expected = format!("{} bytes, as the header says", self.total);
            return Err(WireFault::new("data", expected, "more").into());
        }
        let Some(mut head) = self.header.take() else {
            self.check_values(&data)?;
            return self.write(data).await;
        };
        head.extend_from_slice(&data);
        let whole = match head.get(..LENGTH_BYTES) {
            None => None,
            Some(_) => {
                let start = checkpoint::data_start(&head).map_err(|error| no_checkpoint(&error))?;
                (head.len() >= start).then_some(start)
            }
        };
        let Some(start) = whole else {
            self.header = Some(head);
            return Ok(());
        };
        self.check_header(&head, start)?;
        self.check_values(&head[start..])?;
        self.write(head.freeze()).await
    }

    fn check_header(&self, head: &[u8], start: usize) -> Result<(), Status> {
        let (schema, _) = checkpoint::read_header(head).map_err(|error| no_checkpoint(&error))?;
        let expected = checkpoint::file_len(&schema);
        if checkpoint::header(&schema) != head[..start] {
            let text = "expected the header as `tributary submit --init` writes it (F32, the order \
                        of the model, no metadata), found another form";
            return Err(status(Code::InvalidArgument, "no_checkpoint", text));
        }
        if expected != self.total {
            let expected = format!("{expected} bytes, as the tensors need");
            return Err(
                WireFault::new("header.total_bytes", expected, self.total.to_string()).into()
            );
        }
        Ok(())
    }

    /// Values may lie across messages.
    fn check_values(&mut self, mut data: &[u8]) -> Result<(), Status> {
        if !self.odd.is_empty() {
            let missing = (4 - self.odd.len()).min(data.len());
            let (head, rest) = data.split_at(missing);
            self.odd.extend_from_slice(head);
            data = rest;
        }
        let (first, (values, rest)) = (self.odd.first_chunk::<4>().copied(), data.as_chunks::<4>());
        let mut all = first.iter().chain(values).map(|value| f32::from_le_bytes(*value));
        if let Some(value) = all.find(|value| !value.is_finite()) {
            let text = format!("expected finite values, found {value}");
            return Err(status(Code::InvalidArgument, "not_finite", text));
        }
        if first.is_some() {
            self.odd.clear();
        }
        self.odd.extend_from_slice(rest);
        Ok(())
    }

    async fn write(&mut self, data: Bytes) -> Result<(), Status> {
        self.writer.write(data).await.map_err(|error| of_blob(&error))
    }

    /// Nothing is seen under the digest before all its bytes are known to have it.
    async fn finish(self, digest: Digest) -> Result<(), Status> {
        if self.header.is_some() {
            let text = "expected a safetensors header, found fewer bytes than it says";
            return Err(status(Code::InvalidArgument, "no_checkpoint", text));
        }
        match self.writer.finish_as(digest).await {
            Ok(_) => Ok(()),
            Err(BlobError::Damaged { expected, found, .. }) => {
                let text = format!("expected bytes of {expected}, found {found}: send them again");
                Err(retry_status(Code::Aborted, "damaged_in_transfer", text, Duration::ZERO))
            }
            Err(error) => Err(of_blob(&error)),
        }
    }
}

fn no_checkpoint(error: &checkpoint::CheckpointError) -> Status {
    status(Code::InvalidArgument, "no_checkpoint", error.to_string())
}
